from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import msgspec
import pytest

from stepwell.errors import StepFailed
from stepwell.model.failure import MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure
from stepwell.model.failures import CAUSES, failure_of


class Parent(ValueError):
    pass


class Mixin:
    pass


class Child(Mixin, Parent, KeyError):
    class Inner(Exception):
        pass


class Hostile(Exception):
    def __init__(self, weapon: BaseException) -> None:
        self.weapon = weapon

    def __str__(self) -> str:
        raise self.weapon


def caught(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def chain_of(length: int) -> BaseException:
    error: BaseException = ValueError("0")
    for number in range(1, length):
        above = ValueError(str(number))
        above.__cause__ = error
        error = above
    return error


def causes(failure: Failure | None) -> list[str]:
    messages = []
    while failure is not None:
        messages.append(failure.message)
        failure = failure.cause
    return messages


def survives(failure: Failure) -> bool:
    return msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure


def test_types_and_their_bases_are_named_so_that_handlers_can_match() -> None:
    failure = failure_of(Child("x"))
    assert failure.type == f"{__name__}.Child"
    assert failure.kinds == (f"{__name__}.Parent", "ValueError", "KeyError", "LookupError", "Exception")
    assert failure_of(Child.Inner()).type == f"{__name__}.Child.Inner"
    assert failure_of(KeyboardInterrupt()).kinds == ()


@pytest.mark.parametrize("module", ["__main__", "__mp_main__", "__mp_main__2", "stepwell_target_shop"])
def test_what_a_script_defines_has_one_name_wherever_it_runs(module: str) -> None:
    assert failure_of(type("Broken", (Exception,), {"__module__": module})()).type == "__main__.Broken"


def test_flags_are_kept() -> None:
    failure = failure_of(TimeoutError("late"), retryable=False, timed_out=True)
    assert (failure.retryable, failure.timed_out, failure.message) == (False, True, "late")


@pytest.mark.parametrize("weapon", [RuntimeError("no"), SystemExit(1), KeyboardInterrupt()])
def test_an_error_whose_text_raises_is_told_by_its_type(weapon: BaseException) -> None:
    failure = failure_of(Hostile(weapon))
    assert failure.message == failure.type == f"{__name__}.Hostile"
    assert survives(failure)


def test_hostile_names_and_texts_do_not_stop_the_report() -> None:
    class Text(str):
        def encode(self, *_: Any, **__: Any) -> bytes:
            raise RuntimeError("no")

    class Odd(Exception):
        __module__ = 7  # type: ignore[assignment]

        def __str__(self) -> str:
            return Text("odd")

    failure = failure_of(Odd())
    assert (failure.type, failure.message) == ("Odd", "odd")
    assert survives(failure)


def test_text_that_is_not_unicode_is_escaped() -> None:
    failure = failure_of(ValueError("file \udcff"))
    assert failure.message == r"file \udcff"
    assert survives(failure)


def test_long_messages_lose_their_middle() -> None:
    failure = failure_of(ValueError("a" * 100_000 + "end"))
    assert len(failure.message) == MESSAGE_LIMIT
    assert failure.message.startswith("aaa") and failure.message.endswith("aend")
    assert "more characters are left out" in failure.message


def test_long_tracebacks_lose_their_middle() -> None:
    def bounce(depth: int, names: list[Any]) -> None:
        if depth > 0:
            names[depth % 2](depth - 1, names)
        else:
            raise ValueError("deep")

    def back(depth: int, names: list[Any]) -> None:
        names[depth % 2](depth - 1, names)

    failure = failure_of(caught(bounce, 800, [bounce, back]))
    assert len(failure.traceback) == TRACEBACK_LIMIT
    assert failure.traceback.startswith("Traceback") and failure.traceback.endswith("ValueError: deep\n")


def test_a_recursion_without_end_is_told() -> None:
    def recur() -> None:
        recur()

    failure = failure_of(caught(recur))
    assert failure.type == "RecursionError" and "recur()" in failure.traceback


def test_causes_are_kept_nearest_first_and_not_without_end() -> None:
    assert causes(failure_of(chain_of(3))) == ["2", "1", "0"]
    assert causes(failure_of(chain_of(50))) == [str(n) for n in range(49, 49 - CAUSES - 1, -1)]


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert causes(failure_of(first)) == ["first", "second"]


def test_what_was_being_handled_is_a_cause_unless_suppressed() -> None:
    def implicit() -> None:
        try:
            dict[str, int]()["x"]
        except KeyError:
            raise ValueError("v")  # noqa: B904

    def suppressed() -> None:
        try:
            dict[str, int]()["x"]
        except KeyError:
            raise ValueError("v") from None

    assert causes(failure_of(caught(implicit))) == ["v", "'x'"]
    assert causes(failure_of(caught(suppressed))) == ["v"]


def test_the_failure_of_a_step_is_the_cause_of_what_it_leads_to_and_chains_stay_short() -> None:
    error = StepFailed("x")
    error.failure = failure_of(chain_of(50))
    recorded = failure_of(error)
    assert recorded.cause is not None and recorded.cause.message == "49"
    assert len(causes(recorded)) == CAUSES + 1


def test_the_traceback_holds_chain_notes_and_groups() -> None:
    def work() -> None:
        try:
            raise ExceptionGroup("several", [ValueError("inner one")])
        except ExceptionGroup as error:
            above = RuntimeError("above")
            above.add_note("a note")
            raise above from error

    text = failure_of(caught(work)).traceback
    assert all(part in text for part in ("inner one", "several", "a note", "direct cause", "raise above from error"))


def test_frames_before_the_users_first_are_left_out() -> None:
    async def work() -> None:
        raise ValueError("v")

    with concurrent.futures.ThreadPoolExecutor() as threads:
        text = failure_of(caught(threads.submit(asyncio.run, work()).result)).traceback
    assert "in work" in text
    # This module called `result`, so what follows that call is the user's affair; nothing leads up to it.
    assert text.splitlines()[1].strip().startswith(f'File "{__file__}"')

    direct = failure_of(caught(asyncio.run, work())).traceback
    assert "in work" in direct
