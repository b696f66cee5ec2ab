"""Verbs for many runs: which ones are meant, asked for once, and what became of them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.opening import client, driver_of, run
from stepwell.model.lifecycle import MEANING
from stepwell.stores.protocol import Filter
from stepwell.usecases.flow import BulkResult, able_to

SHOWN: Final = 10
"""Refusals that are written out."""

_FIELDS: Final = ("status", "workflow", "queue", "root", "parent", "search")
_FORM: Final = f"KEY=VALUE with {', '.join(_FIELDS)} or label.NAME for KEY"


class Many(msgspec.Struct, frozen=True):
    """The runs that are meant; `is_sure` says that nobody need be asked."""

    where: Filter
    is_sure: bool


def bulk_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a verb's command `--where`, `--all` and `--yes`, as `many`: None when it is about one RUN."""

    @functools.wraps(function)
    def wrapped(
        call: Call, run: str | None, wheres: tuple[str, ...], everything: bool, yes: bool, **options: Any
    ) -> int:  # Any: the verb's own
        is_many = bool(wheres or everything)
        if is_many == (run is not None):
            raise click.UsageError("name one RUN, or say which runs with --where or --all")
        many = Many(filter_of(wheres), yes) if is_many else None
        return function(call, run=run or "", many=many, **options)

    wrapped = click.option("--yes", "-y", is_flag=True, help="Do not ask whether all of them are meant.")(wrapped)
    wrapped = click.option("--all", "everything", is_flag=True, help="All runs to which it can be done.")(wrapped)
    return click.option(
        "--where",
        "wheres",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"All runs that match: {_FORM.removeprefix('KEY=VALUE with ')}; may be repeated.",
    )(wrapped)


def filter_of(wheres: Sequence[str]) -> Filter:
    """The filter that `--where` options make; several statuses are alternatives, everything else must hold together."""
    fields: dict[str, str] = {}
    labels: dict[str, str] = {}
    statuses: list[str] = []
    for one in wheres:
        key, equals, value = one.partition("=")
        if not equals or not value:
            raise click.BadParameter(f"{one!r}: write {_FORM}", param_hint="--where")
        if key == "status":
            statuses += value.split(",")
        elif key in _FIELDS and key not in fields:
            fields[key] = value
        elif key.startswith("label.") and len(key) > len("label."):
            labels[key.removeprefix("label.")] = value
        else:
            what = "is given twice" if key in fields else "is not known"
            raise click.BadParameter(f"{one!r}: {key} {what}; write {_FORM}", param_hint="--where")
    unknown = [status for status in statuses if status not in MEANING]
    if unknown:
        raise click.BadParameter(
            f"there is no status {unknown[0]!r}; there are {', '.join(MEANING)}", param_hint="--where"
        )
    where = Filter(status=tuple(statuses), labels=labels)
    return msgspec.structs.replace(where, **fields)


def for_all(call: Call, verb: str, many: Many, act: Callable[[Stepwell, Filter], Awaitable[BulkResult]]) -> int:
    """Ask whether they are all meant, do it, and say what became of it."""
    return run(_for_all(call, verb, many, act))


async def _for_all(call: Call, verb: str, many: Many, act: Callable[[Stepwell, Filter], Awaitable[BulkResult]]) -> int:
    async with client(call) as app:
        count = len(await app.matching(able_to(verb, many.where)))
        if count:
            _confirm(call, verb, count, many)
        result = await act(app, many.where) if count else BulkResult(0, [])
    driver = await driver_of(call) if result.done else None
    if call.json:
        refused = [{"run": run_id, "why": why} for run_id, why in result.refused]
        call.document({"verb": verb, "done": result.done, "refused": refused, "driver": driver})
        return OK
    if not count:
        call.say(f"no run matches that one could {verb}")
        return OK
    call.answer(f"accepted: {verb} {words.count(result.done, 'run')}")
    for run_id, why in result.refused[:SHOWN]:
        call.answer(f"refused: {run_id}: {why}")
    if len(result.refused) > SHOWN:
        call.answer(f"… and {words.count(len(result.refused) - SHOWN, 'run')} more refused it")
    if result.done:
        call.say(
            f"{driver} acts on it" if driver else "nobody drives this store now: they hear of it when somebody does"
        )
    return OK


def _confirm(call: Call, verb: str, count: int, many: Many) -> None:
    if many.is_sure:
        return
    if call.json or not sys.stdin.isatty():
        raise click.UsageError(f"{words.count(count, 'run')} would be meant: say --yes, as nobody can be asked here")
    click.confirm(f"{verb} {words.count(count, 'run')}?", abort=True, err=True)
