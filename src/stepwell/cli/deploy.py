"""Put definitions of graphs into the store, so that runs can be started by their names."""

from __future__ import annotations

import click

from stepwell.authoring.registry import Registry
from stepwell.cli.parts import faults
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, me, run
from stepwell.cli.parts.sources import read_source
from stepwell.cli.parts.whitelist import tasks_option
from stepwell.graph.problems import InvalidDefinition, Problem
from stepwell.stores.tables import DRAFT
from stepwell.usecases.graphs import Deployed


@cli_command
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--label", metavar="LABEL", default="", help="A name for the version, such as 2.1.")
@click.option("--move-label", is_flag=True, help="Let the label stand for this version although another one has it.")
@click.option("--draft", is_flag=True, help="Keep it as the workflow's draft, whatever its problems.")
@click.option("--no-activate", is_flag=True, help="New runs stay with the version that serves them now.")
@tasks_option
def command(
    call: Call,
    files: tuple[str, ...],
    label: str,
    move_label: bool,
    draft: bool,
    no_activate: bool,
    tasks: Registry | None,
) -> int:
    """Deploy definitions in YAML or JSON (- for standard input).

    Each content is a version of its own, which never changes; runs under way stay with theirs. When one file has
    problems nothing is deployed. Without --tasks nodes may call any task.
    """
    if draft and (label or no_activate or move_label):
        raise click.UsageError("--draft goes without --label, --move-label and --no-activate: a draft is no version")
    if move_label and not label and len(files) > 1:
        raise click.UsageError("--move-label moves the label of one definition: give one FILE")
    options = {"label": label, "move_label": move_label, "draft": draft, "activate": not no_activate}
    return run(_deploy(call, files, options, tasks))


async def _deploy(call: Call, files: tuple[str, ...], options: dict[str, object], tasks: Registry | None) -> int:
    sources = [(file, *read_source(file)) for file in files]
    deployed: list[tuple[str, str | None, Deployed]] = []
    async with client(call, create=True) as app:
        if not options["draft"] and len(sources) > 1:
            for _, source, _ in sources:
                _refuse(await app.validate(source, tasks=tasks), str(source))
        for file, source, text in sources:
            done = await app.deploy(source, by=me(), tasks=tasks, **options)  # type: ignore[arg-type]  # of these names
            deployed.append((file, text, done))
    if call.json:
        call.document({"deployed": [as_json(done) for _, _, done in deployed]})
        return OK
    for file, text, done in deployed:
        faults.tell(call, done.warnings, file, text=text)
        call.answer(_told(done))
    return OK


def as_json(done: Deployed) -> dict[str, object]:
    """What was deployed, for `--json`."""
    return {
        "workflow": done.name,
        "version": done.version,
        "digest": done.digest,
        "new": done.is_new,
        "active": done.is_active,
        "problems": [faults.as_json(one) for one in done.warnings],
    }


def _told(done: Deployed) -> str:
    name = click.style(done.name, bold=True)
    if done.digest == DRAFT:
        return f"{name}: the draft is {'kept' if done.is_new else 'replaced'}"
    state = "is new" if done.is_new else "was there before"
    serving = "serves new runs" if done.is_active else "does not serve new runs"
    return f"{name} {done.version} {state} and {serving}"


def _refuse(problems: list[Problem], source: str) -> None:
    """Raises `InvalidDefinition` when one of the problems keeps the definition from running."""
    if any(not problem.warning for problem in problems):
        raise InvalidDefinition(problems, source)
