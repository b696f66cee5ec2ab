"""The inbox and its answers, from the command line: in scripts, and field by field on a terminal."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli, until

PEOPLE = """
import enum
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from stepwell import ctx, workflow
from stepwell.errors import InputWithdrawn


class Place(enum.Enum):
    FRONT = "front page"
    SALE = "sale"


@dataclass
class Address:
    street: str
    zip: Annotated[str, msgspec.Meta(pattern="^[0-9]{5}$", description="five digits")]


@dataclass
class Decision:
    approved: bool
    discount: Annotated[int, msgspec.Meta(ge=0, le=50)] = 0
    note: str | None = field(default=None, metadata={"description": "why"})


@dataclass
class Listing:
    place: Place
    address: Address
    tags: list[str]
    prices: dict[str, float]
    reviewer: Address | None = None


@workflow
async def decides(people: list[str] = []) -> str:
    decision = await ctx.ask("Publish these?", Decision, who=people)
    return f"{decision.approved}, {decision.discount}, {decision.note}"


@workflow
async def lists() -> str:
    listing = await ctx.ask("Where does it go?", Listing)
    return f"{listing.place.name} {listing.address.zip} {listing.tags} {listing.prices} {listing.reviewer}"


@workflow
async def votes() -> list[str]:
    answers = await ctx.ask("Ship it?", bool, who=["ann", "bob", "cleo"], quorum=2, agree=".")
    return [f"{answer.by} {answer.value}" for answer in answers]


@workflow
async def asks_twice() -> int:
    return await ctx.ask("How many?", int) + await ctx.ask("And how many more?", int)


@workflow
async def hurries() -> str:
    try:
        await ctx.ask("Quick?", bool, timeout="50ms")
    except TimeoutError:
        return "too late"
    return "in time"


@workflow
async def gives_up() -> str:
    try:
        await ctx.ask("Really?", bool)
    except InputWithdrawn as error:
        return str(error)
    return "answered"
"""


@pytest.fixture
def people(cli: Cli) -> Cli:
    (cli.folder / "people.py").write_text(PEOPLE)
    return cli


def asking(cli: Cli, name: str, *words: object, count: int = 1) -> tuple[subprocess.Popen[str], list[dict[str, Any]]]:
    """Drive a run in the background; returns its process and its open requests once they are there."""
    process = cli.begin("run", f"people.py:{name}", "--id", name, *words)
    until(lambda: len(open_requests(cli)) == count)
    return process, open_requests(cli)


def open_requests(cli: Cli, *words: object) -> list[dict[str, Any]]:
    if not cli.store.exists():
        return []
    return list(cli.json("inbox", *words)["requests"])


def result(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    return json.loads(out)


def test_the_inbox_shows_what_is_asked_of_whom_and_an_answer_ends_it(people: Cli) -> None:
    process, (request,) = asking(people, "decides", "-i", '["ann", "bob"]')
    assert request["run"] == "decides"
    assert request["workflow"].endswith("decides")
    assert (request["prompt"], request["who"], request["due"]) == ("Publish these?", ["ann", "bob"], None)
    assert request["schema"]["required"] == ["approved"]
    shown = people("inbox").stdout.splitlines()
    assert shown[0].split("  ")[0].strip() == "ID"
    assert all(word in shown[1] for word in (request["id"], "decides", "Publish these?", "ann, bob", "ago"))
    done = people("answer", request["id"], "--payload", '{"approved": true, "note": "fine"}', "--by", "ann")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"the answer to request {request['id']} is kept for run decides\n"
    assert result(process) == "True, 0, fine"
    assert open_requests(people) == []
    assert "no open input requests" in people("inbox").stderr
    (answered,) = [entry for entry in people.lines("journal", "decides") if entry["kind"] == "input.answered"]
    assert answered["by"] == "ann"


def test_a_wrong_answer_is_refused_with_its_fields_named_and_the_request_stays_open(people: Cli) -> None:
    process, (request,) = asking(people, "decides")
    payload = '{"aproved": true, "discount": 70}'
    refused = people("answer", request["id"], "--payload", payload)
    assert refused.returncode == 4
    for text in ("approved is missing", "aproved is no field of this form (did you mean 'approved'?)", "stays open"):
        assert text in refused.stderr
    assert "discount must be at most 50, found 70" in refused.stderr
    refused = people("answer", request["id"], "--payload", payload, "--json")
    error = json.loads(refused.stderr)["error"]
    assert error["code"] == "answer_invalid"
    assert {"path": "discount", "message": "must be at most 50", "found": "70"} in error["problems"]
    assert [one["id"] for one in open_requests(people)] == [request["id"]]
    people.json("answer", request["id"], "--payload", '{"approved": false}')
    assert result(process) == "False, 0, None"


@pytest.mark.campaign
def test_who_may_not_answer_is_refused_and_sees_nothing_in_an_inbox_of_their_own(people: Cli) -> None:
    process, (request,) = asking(people, "decides", "-i", '["ann"]')
    assert len(open_requests(people, "--mine", "ann")) == 1
    assert open_requests(people, "--mine", "eve") == []
    assert open_requests(people, "--mine") == []
    refused = people("answer", request["id"], "--payload", '{"approved": true}', "--by", "eve")
    assert refused.returncode == 4
    assert "ann" in refused.stderr
    assert people("answer", request["id"], "--payload", '{"approved": true}', "--by", "ann").returncode == 0
    result(process)


@pytest.mark.campaign
def test_a_request_may_be_named_by_the_beginning_of_its_id_or_by_its_run(people: Cli) -> None:
    process, (request,) = asking(people, "asks_twice")
    assert people("answer", request["id"][:6], "--payload", "1").returncode == 0
    until(lambda: [one["prompt"] for one in open_requests(people)] == ["And how many more?"])
    assert people("answer", "asks_twice", "--payload", "2").returncode == 0
    assert result(process) == 3


@pytest.mark.campaign
def test_what_is_not_open_is_not_found(people: Cli) -> None:
    process, (request,) = asking(people, "decides")
    missing = people("answer", "nothing", "--payload", "1")
    assert missing.returncode == 3
    assert "stepwell inbox" in missing.stderr
    assert people("inbox", "--run", "nothing").returncode == 3
    assert len(open_requests(people, "--run", "decides")) == 1
    people.json("answer", request["id"], "--payload", '{"approved": true}')
    result(process)
    again = people("answer", request["id"], "--payload", '{"approved": true}')
    assert again.returncode in (3, 4)
    assert request["id"] in again.stderr


@pytest.mark.campaign
def test_an_answer_may_come_from_a_file_or_from_standard_input(people: Cli) -> None:
    process, (request,) = asking(people, "asks_twice")
    (people.folder / "answer.json").write_text("20")
    assert people("answer", request["id"], "--payload", "@answer.json").returncode == 0
    until(lambda: [one["prompt"] for one in open_requests(people)] == ["And how many more?"])
    assert people("answer", "asks_twice", "--payload", "-", stdin="22").returncode == 0
    assert result(process) == 42


@pytest.mark.campaign
def test_wrong_usage_is_explained(people: Cli) -> None:
    process, (request,) = asking(people, "decides")
    done = people("answer", request["id"])
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("no terminal", "--payload", "Publish these?", '"approved"'))
    done = people("answer", request["id"], "--payload", "{approved")
    assert done.returncode == 2
    assert "--payload is not JSON" in done.stderr
    done = people("answer", request["id"], "--payload", "1", "--withdraw")
    assert done.returncode == 2
    assert "one thing at a time" in done.stderr
    assert people("answer", request["id"], "--payload", "1", "--reason", "why").returncode == 2
    assert people("answer", request["id"], "--payload", "@missing.json").returncode == 2
    people.json("answer", request["id"], "--payload", '{"approved": true}')
    result(process)


@pytest.mark.campaign
def test_several_people_decide_and_the_inbox_counts_them(people: Cli) -> None:
    process, (request,) = asking(people, "votes")
    assert (request["quorum"], request["agree"], request["answers"]) == (2, ".", [])
    people.json("answer", request["id"], "--payload", "true", "--by", "bob")
    until(lambda: [answer["by"] for answer in open_requests(people)[0]["answers"]] == ["bob"])
    assert "1 of 2" in people("inbox").stdout
    again = people("answer", request["id"], "--payload", "true", "--by", "bob")
    assert again.returncode == 4
    assert "bob" in again.stderr
    people.json("answer", request["id"], "--payload", "true", "--by", "ann")
    assert result(process) == ["bob True", "ann True"]


@pytest.mark.campaign
def test_a_request_is_given_to_others(people: Cli) -> None:
    process, (request,) = asking(people, "decides", "-i", '["ann"]')
    done = people("answer", request["id"], "--reassign", "bob, cleo", "--reason", "holiday", "--by", "ann")
    assert done.stdout == f"request {request['id']} of run decides may now be answered by bob, cleo\n"
    until(lambda: open_requests(people)[0]["who"] == ["bob", "cleo"])
    assert people("answer", request["id"], "--payload", '{"approved": true}', "--by", "ann").returncode == 4
    assert people("answer", request["id"], "--payload", '{"approved": true}', "--by", "cleo").returncode == 0
    result(process)


def test_a_request_is_taken_back_and_the_run_is_told_why(people: Cli) -> None:
    process, (request,) = asking(people, "gives_up")
    done = people("answer", request["id"], "--withdraw", "--reason", "sold out", "--by", "ann")
    assert done.stdout == f"request {request['id']} of run gives_up is withdrawn\n"
    said = result(process)
    assert "ann" in said
    assert "sold out" in said
    assert open_requests(people) == []


def test_an_answer_is_kept_while_nobody_drives_and_the_run_goes_on_with_it(people: Cli) -> None:
    process, (request,) = asking(people, "decides")
    process.terminate()
    process.communicate(timeout=20)
    assert [one["id"] for one in open_requests(people)] == [request["id"]]
    assert people("answer", request["id"], "--payload", '{"approved": true}').returncode == 0
    done = people("run", "people.py:decides", "--id", "decides")
    assert (done.returncode, json.loads(done.stdout)) == (0, "True, 0, None")


def test_a_deadline_that_passes_takes_the_request_out_of_the_inbox(people: Cli) -> None:
    done = people("run", "people.py:hurries")
    assert json.loads(done.stdout) == "too late"
    assert open_requests(people) == []


pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


class Person:
    """Somebody who answers on a terminal: reads what is asked, and types a line."""

    def __init__(self, cli: Cli, *words: object) -> None:
        self._fd, far = pty.openpty()
        self.process = subprocess.Popen(
            cli.command(*words),
            cwd=cli.folder,
            env={**cli.environment, "TERM": "xterm-256color"},
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
        )
        os.close(far)
        cli.started.append(self.process)  # type: ignore[arg-type]  # ended with the others, whatever it speaks
        self.seen = ""
        self._read = 0

    def asked(self, question: str, line: str, seconds: float = 20.0) -> None:
        """Wait until this is asked, and type the line."""
        deadline = time.monotonic() + seconds
        while question not in self.seen[self._read :]:
            assert time.monotonic() < deadline, self.seen
            assert self._more(), self.seen
        self._read = self.seen.index(question, self._read) + len(question)
        os.write(self._fd, line.encode() + b"\n")

    def close(self) -> int:
        while self._more():
            pass
        os.close(self._fd)
        return self.process.wait(10)

    def _more(self) -> bool:
        if not select.select([self._fd], [], [], 0.1)[0]:
            return True
        try:
            part = os.read(self._fd, 65536)
        except OSError:  # the other end is closed
            part = b""
        self.seen += part.decode()
        return bool(part)


on_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals here")


@on_a_terminal
@pytest.mark.campaign
def test_on_a_terminal_each_field_is_asked_for_and_a_wrong_one_again(people: Cli) -> None:
    process, (request,) = asking(people, "decides")
    person = Person(people, "answer", request["id"])
    person.asked("approved (yes or no):", "perhaps")
    person.asked("'perhaps': type yes or no", "")
    person.asked("an answer is required", "yes")
    person.asked("discount (a whole number, 0 to 50) [0]:", "70")
    person.asked("must be at most 50", "7")
    person.asked("note (text) [none]:", "")
    person.asked("send this answer? [Y/n]:", "n")
    person.asked("approved (yes or no) [yes]:", "")
    person.asked("discount (a whole number, 0 to 50) [7]:", "8")
    person.asked("note (text) [none]:", "it is cheap")
    person.asked("send this answer? [Y/n]:", "y")
    assert person.close() == 0, person.seen
    assert "Publish these?" in person.seen
    assert "why" in person.seen
    assert result(process) == "True, 8, it is cheap"


@on_a_terminal
@pytest.mark.campaign
def test_on_a_terminal_choices_are_numbered_and_lists_and_nested_forms_are_filled_in(people: Cli) -> None:
    process, (request,) = asking(people, "lists")
    person = Person(people, "answer", request["id"])
    person.asked("2) sale", "3")
    person.asked("type 1 to 2", "2")
    person.asked("address.street (text):", "Main 1")
    person.asked("address.zip (text):", "12")
    person.asked("must match the pattern", "12345")
    person.asked("add tags[0]?", "y")
    person.asked("tags[0] (text):", "new")
    person.asked("add tags[1]?", "n")
    person.asked("prices: name", "eur")
    person.asked("prices.eur (a number):", "dear")
    person.asked("must be a number", "2.5")
    person.asked("prices: name", "")
    person.asked("fill in reviewer? [y/N]:", "")
    person.asked("send this answer?", "")
    assert person.close() == 0, person.seen
    assert "five digits" in person.seen
    assert result(process) == "SALE 12345 ['new'] {'eur': 2.5} None"


@on_a_terminal
@pytest.mark.campaign
def test_ctrl_d_in_a_form_sends_nothing(people: Cli) -> None:
    process, (request,) = asking(people, "decides")
    person = Person(people, "answer", request["id"])
    person.asked("approved (yes or no):", "\x04")
    assert person.close() == 130
    assert len(open_requests(people)) == 1
    people.json("answer", request["id"], "--payload", '{"approved": true}')
    result(process)


FORM = """
import sys

import msgspec

from stepwell.cli.parts.call import Call
from stepwell.cli.parts.forms import fill

print("sent", msgspec.json.encode(fill(Call(), msgspec.json.decode(sys.argv[1]))).decode())
"""


def filling(cli: Cli, schema: dict[str, Any]) -> Person:
    """Somebody who fills in a form of this schema."""
    (cli.folder / "form.py").write_text(FORM)
    cli.command = lambda *words: [sys.executable, *map(str, words)]  # type: ignore[method-assign]  # another program
    return Person(cli, "form.py", json.dumps(schema))


@on_a_terminal
def test_one_of_several_forms_is_chosen_and_what_no_form_says_is_asked_for_as_json(cli: Cli, tmp_path: Path) -> None:
    card = {"title": "Card", "properties": {"kind": {"const": "card"}, "number": {"type": "integer"}}}
    cash = {"title": "Cash", "properties": {"kind": {"const": "cash"}}}
    for one in (card, cash):
        one["required"] = list(one["properties"])
    schema = {
        "$defs": {"card": card, "pay": {"oneOf": [{"$ref": "#/$defs/card"}, cash]}},
        "properties": {
            "pay": {"$ref": "#/$defs/pay"},
            "size": {"type": ["integer", "string"]},
            "level": {"enum": [30, 10]},
            "more": {},
        },
        "required": ["pay", "size", "level", "more"],
    }
    person = filling(cli, schema)
    person.asked("2) Cash", "ca")
    person.asked("none of them", "Card")
    person.asked("pay.number (a whole number):", "4711")
    person.asked("size (text or a whole number):", "large")
    person.asked("level (choose one):", "1")
    person.asked("none of them", "10")
    person.asked("more (JSON):", "[1")
    person.asked("that is not JSON", '[1, {"a": null}]')
    person.asked("send this answer?", "")
    assert person.close() == 0, person.seen
    sent = {"pay": {"kind": "card", "number": 4711}, "size": "large", "level": 10, "more": [1, {"a": None}]}
    assert json.loads(person.seen.split("sent ")[1]) == sent


@on_a_terminal
def test_what_the_whole_form_refuses_is_asked_for_again(cli: Cli) -> None:
    both = {"type": "string", "minLength": 1}
    schema = {
        "type": "object",
        "properties": {"first": both, "again": both},
        "required": ["first", "again"],
        "not": {"properties": {"again": {"const": "no"}}},
    }
    person = filling(cli, schema)
    person.asked("first (text):", "a")
    person.asked("again (text):", "no")
    person.asked("the answer does not fit", "")
    person.asked("again (text) [no]:", "b")
    person.asked("send this answer?", "")
    assert person.close() == 0, person.seen
    assert json.loads(person.seen.split("sent ")[1]) == {"first": "a", "again": "b"}


@on_a_terminal
def test_what_could_steer_the_terminal_is_not_shown(cli: Cli) -> None:
    person = filling(cli, {"properties": {"a\x1b[2J": {"type": "integer"}}, "required": ["a\x1b[2J"]})
    person.asked("(a whole number):", "1")
    person.asked("send this answer?", "")
    assert person.close() == 0, person.seen
    assert "\x1b[2J" not in person.seen.split("sent ")[0]
