"""`stepwell nodes`: what there is to know of node types, from the command line."""

from __future__ import annotations

import inspect
import json

import pytest
from command_line import Cli

from stepwell.graph.pages import page
from stepwell.nodes.parts.settings import names
from stepwell.nodes.registry import NodeTypes

TYPES = NodeTypes.standard()


@pytest.mark.parametrize("name", TYPES.names())
def test_a_page_says_all_settings_and_has_an_example(name: str) -> None:
    type = TYPES.get(name)
    assert type is not None
    text = page(type)
    assert text.startswith(f"## {name}\n")
    assert inspect.getdoc(type.__class__).partition("\n\nPorts:")[0] in text  # type: ignore[union-attr]  # house rule: they have one
    assert all(f"`{setting}`" in text for setting in names(type))
    assert "```yaml\n" in text


def test_the_types_are_listed_and_each_has_its_page(cli: Cli) -> None:
    listed = cli("nodes")
    assert listed.returncode == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(TYPES.names())
    settings = json.loads(cli("--json", "nodes", "wait").stdout)["settings"]
    assert set(settings["properties"]) == {"for", "until"}


def test_an_unknown_type_gets_a_suggestion(cli: Cli) -> None:
    found = cli("nodes", "mapp")
    assert (found.returncode, "'map'" in found.stderr) == (3, True)
