"""Add nodes and edges to a run of a graph that is under way; no other run is touched."""

from __future__ import annotations

from typing import Any

import click

from stepwell.app import Stepwell
from stepwell.cli.parts.call import Call, cli_command, code_option
from stepwell.cli.parts.opening import me
from stepwell.cli.parts.sources import read_source
from stepwell.cli.parts.verbs import ask, drive_here, leave_for_later, leave_to_driver
from stepwell.graph.problems import Findings, InvalidDefinition, Problem
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.stores.protocol import RunRow

_KEYS = {"nodes", "edges"}


@cli_command
@click.argument("run", metavar="RUN")
@click.argument("file", metavar="FILE")
@click.option("--reason", default="", help="Why, for the journal.")
@code_option
@click.option("--no-drive", is_flag=True, help="Only ask for it; do not drive the run here.")
def command(call: Call, run: str, file: str, reason: str, no_drive: bool) -> int:
    """Add the nodes and edges in FILE (YAML or JSON, - for standard input) to RUN, a run of a graph.

    FILE has `nodes`, and `edges` if need be, as a definition has them. Nodes whose needs are done begin at once; no
    edge may lead to a node that has begun. When no process drives the store, this one does, with the same progress as
    'stepwell run'.
    """
    nodes, edges = read_patch(file)

    async def post(app: Stepwell, row: RunRow) -> None:
        await app.patch(row.run_id, nodes, edges, by=me(), reason=reason)

    asked = ask(call, "patch", run, post)
    if asked.driver is not None:
        return leave_to_driver(call, asked, lambda row: row.next_seq > asked.row.next_seq or row.status in TERMINAL)
    if no_drive:
        return leave_for_later(call, asked, "nobody drives this store now")
    return drive_here(call, asked, beyond=asked.row.next_seq - 1 if asked.row.status in SET_ASIDE else 0)


def read_patch(file: str) -> tuple[Any, Any]:  # Any: JSON
    """The nodes and edges in a file.

    Raises:
        TargetMissing: there is no such file.
        InvalidDefinition: it cannot be read, or has something else in it.
    """
    from stepwell.graph.reading import read, read_file  # only for who patches

    source, text = read_source(file)
    findings = Findings()
    document = read_file(source, findings) if text is None else read(text, findings)
    if document is None or findings.has_errors:
        raise InvalidDefinition(findings.problems, file)
    data = document.data
    if not isinstance(data, dict) or not data.get("nodes") or set(data) - _KEYS:
        found = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        hint = "write `nodes:` with the new ones, and `edges:` between them and those that are there"
        raise InvalidDefinition(
            [Problem("not-a-patch", f"a patch is a mapping with nodes; found {found}", hint=hint)], file
        )
    return data["nodes"], data.get("edges")
