"""List the node types that graphs may use, or say what one of them does."""

from __future__ import annotations

import sys

import click

from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK, TargetMissing
from stepwell.graph.pages import page
from stepwell.nodes.parts.settings import schema
from stepwell.nodes.registry import NodeTypes


@cli_command
@click.argument("name", required=False)
def command(call: Call, name: str | None) -> int:
    """List the node types, those of installed packages too; or show what NAME does, its settings and an example."""
    types = NodeTypes.standard()
    if name is None:
        found = {one: type for one in types.names() if (type := types.get(one)) is not None}
        if call.json:
            call.document([{"name": one, "kind": type.kind, "summary": type.summary} for one, type in found.items()])
            return OK
        width = max(map(len, found))
        for one, type in found.items():
            call.answer(f"{one:<{width}}  {type.summary}")
        return OK
    known = types.get(name)
    if known is None:
        near = types.suggest(name)
        raise TargetMissing(f"there is no node type {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    if call.json:
        call.document({"name": name, "kind": known.kind, "summary": known.summary, "settings": schema(known)})
    else:
        call.answer(_shown(page(known)) if sys.stdout.isatty() else page(known))
    return OK


def _shown(text: str) -> str:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as capture:
        console.print(Markdown(text))
    return capture.get().rstrip()
