"""Print the JSON Schema of definitions, for editors and other programs."""

from __future__ import annotations

import click
import msgspec

from stepwell.authoring.registry import Registry
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.whitelist import tasks_option
from stepwell.graph.dialect import SCHEMA
from stepwell.graph.schema import definition_schema
from stepwell.nodes.registry import NodeTypes


@cli_command
@click.option(
    "--dialect",
    type=click.Choice(["stepwell", "events"]),
    default="stepwell",
    show_default=True,
    help="Of definitions in Stepwell's own form, or of workflow_id and tasks that wait for events.",
)
@tasks_option
def command(call: Call, dialect: str, tasks: Registry | None) -> int:
    """Print the JSON Schema of definitions; editors complete and check YAML by it.

    With --tasks a node's type must be one of the node types, or the name of one of these tasks.
    """
    schema = (
        SCHEMA
        if dialect == "events"
        else definition_schema(NodeTypes.standard(), None if tasks is None else tasks.names())
    )
    if call.json:
        call.document(schema)
    else:
        call.answer(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
    return OK
