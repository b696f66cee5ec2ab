"""List the open input requests: what people are asked, who may answer, and until when."""

from __future__ import annotations

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.opening import client, me
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.typed import clean
from stepwell.engine.clock import SystemClock
from stepwell.errors import RequestNotFound, RequestRefused
from stepwell.model.durations import spoken
from stepwell.model.requests import InputRequest

PROMPT_WIDTH = 48


class AmbiguousRequest(RequestRefused):
    """Several open input requests are meant by this."""

    code = "ambiguous_request"


@cli_command
@click.option(
    "--mine",
    metavar="NAME",
    is_flag=False,
    flag_value="",
    help="Only what NAME may answer.  [without NAME: the user of this system]",
)
@click.option("--run", default="", help="Only requests of this run.")
def command(call: Call, mine: str | None, run: str) -> int:
    """List the open input requests, oldest first; answer one with 'stepwell answer ID'."""
    return run_loop(_list(call, "" if mine is None else mine or me(), run))


async def _list(call: Call, who: str, run: str) -> int:
    async with client(call) as app:
        run_id = (await find_run(app, run)).run_id if run else ""
        requests = await app.inbox(who=who, run=run_id)
    if call.json:
        call.document({"requests": [as_json(request) for request in requests]})
    elif requests:
        now = SystemClock().now()
        heads = ("id", "run", "workflow", "prompt", "who may answer", "asked", "deadline", "answers")
        call.answer(words.table(heads, [_cells(request, now) for request in requests]))
    else:
        whom = f" that {who} may answer" if who else ""
        call.say(f"no open input requests{f' of run {run_id}' if run_id else ''}{whom}")
    return OK


def _cells(request: InputRequest, now: int) -> tuple[str, ...]:
    prompt = clean(request.prompt).replace("\n", " ")
    return (
        request.id,
        request.run_id,
        request.workflow,
        prompt if len(prompt) <= PROMPT_WIDTH else prompt[: PROMPT_WIDTH - 1] + "…",
        clean(", ".join(request.who)) or words.dim("anybody"),
        words.ago(request.asked_at, now),
        "" if request.due is None else words.ago(request.due, now) if request.due > now else words.dim("passed"),
        f"{len(request.answers)} of {request.quorum}" if request.quorum else "",
    )


def describe(request: InputRequest, now: int) -> str:
    """The request, for the person who is about to answer it."""
    answered = ", ".join(f"{by or 'somebody'} {words.ago(at, now)}" for by, at in request.answers)
    rows = [
        ("run", f"{request.run_id} ({request.workflow})"),
        ("asked", words.ago(request.asked_at, now)),
        ("deadline", "" if request.due is None else f"{words.moment(request.due)}, in {spoken(request.due - now)}"),
        ("who", clean(", ".join(request.who))),
        ("answers", f"{len(request.answers)} of {request.quorum}" if request.quorum else ""),
        ("answered", clean(answered)),
    ]
    return f"{click.style(clean(request.prompt), bold=True)}\n{words.fields(rows)}"


async def find_request(app: Stepwell, text: str) -> InputRequest:
    """The open request that is meant: the one with this id, the only one whose id begins so, or a run's only one.

    Raises:
        RequestNotFound: there is none.
        AmbiguousRequest: there are several.
    """
    try:
        return await app.request(text)
    except RequestNotFound as error:
        open_ones = await app.inbox()
        meant = [one for one in open_ones if one.id.startswith(text)] or [
            one for one in open_ones if one.run_id == text
        ]
        if len(meant) == 1:
            return meant[0]
        if meant:
            some = ", ".join(one.id for one in meant[:4]) + (", …" if len(meant) > 4 else "")
            raise AmbiguousRequest(f"{text!r} stands for {len(meant)} open requests ({some}): name one") from None
        raise RequestNotFound(f"{error}; list the open ones with 'stepwell inbox'") from None


def as_json(request: InputRequest) -> dict[str, object]:
    """A request for `--json`; times in microseconds since the epoch."""
    document: dict[str, object] = {
        "run" if name == "run_id" else name: held for name, held in msgspec.structs.asdict(request).items()
    }
    document["answers"] = [{"by": by, "at": at} for by, at in request.answers]
    return document
