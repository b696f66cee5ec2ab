"""Answer an input request; or take it back, or give it to others."""

from __future__ import annotations

import click
import msgspec

from stepwell.cli.inbox import describe, find_request
from stepwell.cli.parts import forms, words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK, REFUSED, complain
from stepwell.cli.parts.opening import client, me
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.typed import clean
from stepwell.cli.run import read_input
from stepwell.engine.clock import SystemClock
from stepwell.errors import AnswerInvalid, ArgumentError
from stepwell.model.requests import InputRequest


@cli_command
@click.argument("request", metavar="ID")
@click.option("--payload", metavar="JSON", help="The answer: JSON, @FILE, or - for standard input.")
@click.option("--by", metavar="NAME", help="Who answers.  [default: the user of this system]")
@click.option("--withdraw", is_flag=True, help="Take the request back: nobody is asked any more.")
@click.option("--reassign", metavar="NAME,NAME", help="Only these people may answer from now on.")
@click.option("--reason", default="", help="Why, for the journal; with --withdraw and --reassign.")
def command(
    call: Call,
    request: str,
    payload: str | None,
    by: str | None,
    withdraw: bool,
    reassign: str | None,
    reason: str,
) -> int:
    """Answer the input request ID of 'stepwell inbox'.

    The beginning of an id will do, or the id of a run that asks one thing only. On a terminal the fields of the form
    are asked for one by one; scripts give --payload. An answer that does not fit is refused, each wrong field is
    named, and the request stays open.
    """
    given = [("--payload", payload is not None), ("--withdraw", withdraw), ("--reassign", reassign is not None)]
    several = [name for name, is_given in given if is_given]
    if len(several) > 1:
        raise click.UsageError(f"{' and '.join(several)}: do one thing at a time")
    if reason and not (withdraw or reassign is not None):
        raise click.UsageError("--reason goes with --withdraw or --reassign")
    who = me() if by is None else by
    if withdraw:
        return run_loop(_withdraw(call, request, who, reason))
    if reassign is not None:
        names = [name.strip() for name in reassign.split(",") if name.strip()]
        return run_loop(_reassign(call, request, names, who, reason))
    found = run_loop(_find(call, request))
    value = _read(payload) if payload is not None else _ask(call, found)
    return run_loop(_answer(call, found, value, who))


async def _find(call: Call, text: str) -> InputRequest:
    async with client(call) as app:
        return await find_request(app, text)


def _read(payload: str) -> object:
    try:
        return msgspec.json.decode(read_input(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArgumentError(f"--payload is not JSON: {error}; text needs quotes of its own: '\"text\"'") from None


def _ask(call: Call, request: InputRequest) -> object:
    if not forms.is_terminal(call):
        schema = words.short(msgspec.json.encode(request.schema), 400)
        raise click.UsageError(
            f"there is no terminal to ask on: give the answer with --payload JSON, @FILE, or - for standard input. "
            f"Request {request.id} asks {request.prompt!r}, and an answer must fit {schema}"
        )
    click.echo(describe(request, SystemClock().now()), file=call.stderr)
    return forms.fill(call, request.schema)


async def _answer(call: Call, request: InputRequest, value: object, by: str) -> int:
    async with client(call) as app:
        try:
            await app.answer(request.id, value, by=by)
        except AnswerInvalid as error:
            return _invalid(call, error)
    if call.json:
        call.document({"request": request.id, "run": request.run_id, "accepted": True, "by": by})
    else:
        call.answer(f"the answer to request {request.id} is kept for run {request.run_id}")
    return OK


def _invalid(call: Call, error: AnswerInvalid) -> int:
    """Every wrong field on a line of its own."""
    lines = [f"{error.place} is refused, and the request stays open:", *map(str, error.problems)]
    problems = [msgspec.structs.asdict(problem) for problem in error.problems]
    complain(call, error.code, str(error) if call.json else "\n  ".join(map(clean, lines)), problems=problems)
    return REFUSED


async def _withdraw(call: Call, text: str, by: str, reason: str) -> int:
    async with client(call) as app:
        request = await find_request(app, text)
        await app.withdraw(request.id, by=by, reason=reason)
    if call.json:
        call.document({"request": request.id, "run": request.run_id, "withdrawn": True, "by": by, "reason": reason})
    else:
        call.answer(f"request {request.id} of run {request.run_id} is withdrawn")
    return OK


async def _reassign(call: Call, text: str, who: list[str], by: str, reason: str) -> int:
    async with client(call) as app:
        request = await find_request(app, text)
        await app.reassign(request.id, who=who, by=by, reason=reason)
    if call.json:
        call.document({"request": request.id, "run": request.run_id, "who": who, "by": by, "reason": reason})
    else:
        call.answer(
            f"request {request.id} of run {request.run_id} may now be answered by {', '.join(who) or 'anybody'}"
        )
    return OK
