"""List deployed workflows and their versions, compare them, and choose which one serves new runs."""

from __future__ import annotations

import click
import msgspec

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, run
from stepwell.graph.diff import Change
from stepwell.stores.tables import DRAFT, DefinitionRow
from stepwell.usecases.graphs import DeployedWorkflow

_COLOURS = {"added": "green", "removed": "red", "changed": "yellow"}


@cli_command
@click.argument("name", required=False)
@click.option("--versions", is_flag=True, help="List versions, those of all workflows without NAME.")
@click.option("--diff", "compared", nargs=2, metavar="A B", help="What differs between two versions of NAME.")
@click.option("--activate", metavar="VERSION", help="Let new runs of NAME be of this version.")
@click.option(
    "--definition", "shown", metavar="VERSION", is_flag=False, flag_value="", help="Print the definition as YAML."
)
@click.option("--remove", metavar="VERSION", is_flag=False, flag_value="", help="Take NAME, or a version of it, away.")
def command(
    call: Call,
    name: str | None,
    versions: bool,
    compared: tuple[str, str] | None,
    activate: str | None,
    shown: str | None,
    remove: str | None,
) -> int:
    """List deployed workflows, or the versions of NAME.

    VERSION is a label, a digest or the beginning of one, or 'draft'. With --remove versions of which runs are kept
    stay for these and serve no new ones.
    """
    verbs = [text for text in (compared, activate, shown, remove) if text is not None]
    if len(verbs) > 1 or (verbs and versions):
        raise click.UsageError("give one of --versions, --diff, --activate, --definition and --remove")
    if name is None:
        if verbs:
            raise click.UsageError("say which workflow is meant: stepwell workflows NAME …")
        return run(_all_versions(call) if versions else _list(call))
    if compared is not None:
        return run(_diff(call, name, *compared))
    if activate is not None:
        return run(_activate(call, name, activate))
    if shown is not None:
        return run(_show(call, name, shown))
    return run(_remove(call, name, remove) if remove is not None else _versions(call, name))


async def _list(call: Call) -> int:
    async with client(call) as app:
        found = await app.workflows()
    if call.json:
        call.document({"workflows": [as_json(one) for one in found]})
    elif found:
        heads = ("workflow", "serves new runs", "versions", "labels", "deployed")
        call.answer(words.table(heads, [_cells(one) for one in found], right=frozenset({2})))
    else:
        call.say("no workflow is deployed yet; deploy one with 'stepwell deploy flow.yaml'")
    return OK


def _cells(one: DeployedWorkflow) -> tuple[str, ...]:
    active = words.dim("none") if one.active is None else _version(one.active)
    count = f"{one.versions:,}" + (" + draft" if one.has_draft else "")
    return one.name, active, count, ", ".join(one.labels), words.moment(one.updated_at)


def _version(row: DefinitionRow) -> str:
    return f"{row.labels[-1]} ({row.digest})" if row.labels else row.digest


async def _all_versions(call: Call) -> int:
    async with client(call) as app:
        rows = [row for one in await app.workflows() for row in await app.workflow_versions(one.name)]
    return _tell_versions(call, rows)


async def _versions(call: Call, name: str) -> int:
    async with client(call) as app:
        rows = await app.workflow_versions(name)
    return _tell_versions(call, rows)


def _tell_versions(call: Call, rows: list[DefinitionRow]) -> int:
    if call.json:
        call.document({"versions": [version_as_json(row) for row in rows]})
    elif rows:
        heads = ("workflow", "version", "labels", "", "first deployed", "last", "by")
        call.answer(words.table(heads, [_version_cells(row) for row in rows]))
    else:
        call.say("no workflow is deployed yet; deploy one with 'stepwell deploy flow.yaml'")
    return OK


def _version_cells(row: DefinitionRow) -> tuple[str, ...]:
    state = click.style("active", fg="green") if row.active else ""
    times = words.moment(row.created_at), words.moment(row.updated_at)
    return row.name, row.digest, ", ".join(row.labels), state, *times, row.by


async def _diff(call: Call, name: str, a: str, b: str) -> int:
    async with client(call) as app:
        found = await app.diff(name, a, b)
    if call.json:
        call.document(
            {"workflow": name, "from": a, "to": b, "changes": [_change_as_json(one) for one in found.changes]}
        )
    elif found:
        for one in found.changes:
            call.answer(click.style(str(one), fg=_COLOURS[one.kind]))
    else:
        call.say(f"versions {a} and {b} of {name} are the same")
    return OK


def _change_as_json(change: Change) -> dict[str, object]:
    return msgspec.structs.asdict(change)


async def _activate(call: Call, name: str, version: str) -> int:
    async with client(call) as app:
        row = await app.activate(name, version)
    if call.json:
        call.document(version_as_json(row))
    else:
        call.answer(f"new runs of {name} are of version {_version(row)}")
    return OK


async def _show(call: Call, name: str, version: str) -> int:
    async with client(call) as app:
        body = (await app.workflow_version(name, version)).body
    if call.json:
        call.document(msgspec.Raw(body))
    else:
        from stepwell.graph.canonical import dump_yaml  # PyYAML is loaded by who needs it

        call.answer(dump_yaml(msgspec.json.decode(body)).rstrip("\n"))
    return OK


async def _remove(call: Call, name: str, version: str) -> int:
    async with client(call) as app:
        done = await app.undeploy(name, version)
    if call.json:
        call.document({"workflow": name, "removed": done.dropped, "kept": done.kept})
        return OK
    if done.dropped:
        call.answer(f"{name}: {words.count(len(done.dropped), 'version')} removed ({', '.join(done.dropped)})")
    if done.kept:
        count = words.count(len(done.kept), "version")
        call.answer(f"{name}: {count} kept for runs in the store ({', '.join(done.kept)})")
    return OK


def as_json(one: DeployedWorkflow) -> dict[str, object]:
    """A workflow for `--json`; times in microseconds since the epoch."""
    return {
        "workflow": one.name,
        "active": None if one.active is None else version_as_json(one.active),
        "versions": one.versions,
        "labels": one.labels,
        "draft": one.has_draft,
        "updated_at": one.updated_at,
    }


def version_as_json(row: DefinitionRow) -> dict[str, object]:
    """A version for `--json`; times in microseconds since the epoch."""
    return {
        "workflow": row.name,
        "digest": row.digest,
        "labels": row.labels,
        "active": row.active,
        "draft": row.digest == DRAFT,
        "dialect": row.dialect,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "by": row.by,
    }
