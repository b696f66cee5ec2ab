"""Node types are found by their files' names and by entry points, loaded when asked for, added and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from stepwell.errors import DefinitionError
from stepwell.nodes.protocol import NodeType, Routed, View
from stepwell.nodes.registry import NODE_KEYS, NodeTypes
from stepwell.testing.node_conformance import check_node_type

SOURCE = Path(__file__).resolve().parents[2] / "src"

STANDARD = {
    *("task", "http", "transform", "condition", "switch", "router", "set", "wait", "wait_event", "wait_signal"),
    *("signal", "emit", "human", "workflow", "respond", "log", "fail", "end", "break", "noop"),
    *("loop", "map", "parallel", "race", "try", "scope"),
}

SHOUT = '''"""The node type `shout`."""
import msgspec
from stepwell.nodes.protocol import NodeType, Routed


class ShoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said.

    Attributes:
        text: what is said.
    """

    text: str


class ShoutNode(NodeType):
    """Says it louder.

    Ports: `out`.
    Output: the text in capitals.

    Example:
        ```yaml
        loud: {shout: hello}
        ```
    """

    name = "shout"
    summary = "Say it louder."
    kind = "pure"
    Settings = ShoutSettings
    main = "text"

    def evaluate(self, settings, view):
        return Routed(settings.text.upper())


TYPE = ShoutNode()
'''


class QuietSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It has none."""


class Quiet(NodeType):
    name = "quiet"
    summary = "Say nothing."
    kind = "pure"
    Settings = QuietSettings

    def evaluate(self, settings: QuietSettings, view: View) -> Routed:
        return Routed()


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeTypes:
    """The standard types beside those of a distribution that has one whole type and some broken ones."""
    (tmp_path / "shouting_nodes.py").write_text(SHOUT, "utf-8")
    (tmp_path / "broken_nodes.py").write_text("import no_such_library\n", "utf-8")
    (tmp_path / "empty_nodes.py").write_text("TYPE = 'shout'\n", "utf-8")
    info = tmp_path / "shouting-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.2\n", "utf-8")
    entries = [
        "shout = shouting_nodes:TYPE",
        "whisper = shouting_nodes:TYPE",
        "broken = broken_nodes:TYPE",
        "empty = empty_nodes",
        "noop = shouting_nodes:TYPE",
    ]
    (info / "entry_points.txt").write_text("[stepwell.nodes]\n" + "\n".join(entries) + "\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return NodeTypes.standard()


def test_the_standard_types_are_there() -> None:
    types = NodeTypes.standard()
    assert set(types.names()) >= STANDARD
    for name in STANDARD:
        found = types.get(name)
        assert found is not None
        assert found.name == name


def printed_by(code: str) -> str:
    """What a new process prints."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_library_for_queries_changes_nothing_for_the_process() -> None:
    """Deeper recursion than Python allows by itself ends a thread with a small stack, and the process with it."""
    code = (
        "import sys; from stepwell.nodes.parts import in_jsonata; from stepwell.nodes.parts.budget import Budget;"
        "before = sys.getrecursionlimit(); found = in_jsonata.evaluate('1 + 1', {}, Budget('it'));"
        "print(found, sys.getrecursionlimit() - before)"
    )
    assert printed_by(code) == "2 0"


def test_a_type_is_loaded_when_it_is_asked_for() -> None:
    code = (
        "import sys; from stepwell.nodes.registry import NodeTypes; types = NodeTypes.standard(); types.names();"
        "types.get('noop'); loaded = [n for n in sys.modules if n.startswith('stepwell.nodes.')];"
        "types.get('http'); types.get('transform');"
        "print(sorted(loaded), [n for n in ('httpx2', 'jsonata', 'jmespath', 'datalogic_py') if n in sys.modules])"
    )
    modules = ["stepwell.nodes.noop", "stepwell.nodes.protocol", "stepwell.nodes.registry"]
    assert printed_by(code) == f"{modules} []"


def test_an_unknown_name_is_none_and_the_nearest_is_suggested() -> None:
    types = NodeTypes.standard()
    assert types.get("conditon") is None
    assert types.suggest("conditon") == "condition"
    assert types.suggest("zzzzzz") == ""


def test_a_type_is_added_and_removed_while_others_stay() -> None:
    types = NodeTypes.standard()
    assert types.get("quiet") is None
    types.add(Quiet())
    assert isinstance(types.get("quiet"), Quiet)
    assert types.remove("quiet")
    assert types.get("quiet") is None
    assert not types.remove("quiet")
    assert types.remove("http")
    assert types.get("http") is None
    assert "http" not in types.names()
    assert NodeTypes.standard().get("http") is not None


def test_a_type_may_take_the_place_of_a_standard_one() -> None:
    class Noop(Quiet):
        name = "noop"

    types = NodeTypes.standard()
    types.add(Noop())
    assert isinstance(types.get("noop"), Noop)
    types.remove("noop")
    types.add(Noop())
    assert isinstance(types.get("noop"), Noop)


def test_a_registry_may_have_only_what_it_is_given() -> None:
    assert NodeTypes([Quiet()]).names() == ["quiet"]


@pytest.mark.parametrize("name", ["Quiet", "", "odd-name", *sorted(NODE_KEYS)[:3]])
def test_a_name_that_no_type_can_have_is_refused(name: str) -> None:
    kind = type("Odd", (Quiet,), {"name": name})
    with pytest.raises(DefinitionError, match=r"NodeTypes\.add"):
        NodeTypes().add(kind())


def test_a_type_of_another_distribution_is_found_and_conforms(foreign: NodeTypes) -> None:
    assert {"shout", "noop"} <= set(foreign.names())
    shout = foreign.get("shout")
    assert shout is not None
    check_node_type(shout)
    assert foreign.suggest("shoud") == "shout"


def test_no_other_distribution_takes_the_name_of_a_standard_type(foreign: NodeTypes) -> None:
    noop = foreign.get("noop")
    assert noop is not None
    assert noop.__class__.__module__ == "stepwell.nodes.noop"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "No module named 'no_such_library'"),
        ("empty", "has no TYPE"),
        ("whisper", "calls itself 'shout'"),
    ],
)
def test_a_broken_entry_point_is_an_error_when_it_is_used_and_not_before(
    foreign: NodeTypes, name: str, said: str
) -> None:
    assert name in foreign.names()
    with pytest.raises(DefinitionError) as caught:
        foreign.get(name)
    assert said in str(caught.value)
    assert f"node type {name!r} of shouting 1.2" in str(caught.value)
    assert foreign.get("shout") is not None
