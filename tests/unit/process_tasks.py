"""Tasks for test_processes: ordinary ones, and the worst that tasks do. Imported in child processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from stepwell.authoring.context import AttemptContext, attempt_context
from stepwell.authoring.task import task

LEFTOVER: ContextVar[str] = ContextVar("leftover", default="nothing")


@dataclass
class Order:
    sku: str
    amount: int


class NotEnough(ValueError):
    """Less than one."""


def double(order: Order) -> Order:
    return Order(order.sku, order.amount * 2)


@task
def triple(order: Order) -> Order:
    return Order(order.sku, order.amount * 3)


async def sleepy(word: str) -> str:
    await asyncio.sleep(0)
    return word.upper()


def pid() -> int:
    return os.getpid()


def length(text: str) -> int:
    return len(text)


def repeat(text: str, times: int) -> str:
    return text * times


def fail(sku: str) -> None:
    try:
        dict[str, int]()[sku]
    except KeyError as error:
        raise NotEnough(f"no {sku}") from error


def leave(code: int) -> None:
    sys.exit(code)


def drop_dead(code: int, place: str) -> None:
    with open(place, "a") as runs:
        runs.write("one")
    os._exit(code)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _here(place: str) -> None:
    """Tell the test who we are, in one step."""
    Path(place + ".part").write_text(str(os.getpid()))
    os.replace(place + ".part", place)


def wait_for_ever(place: str) -> None:
    _here(place)
    time.sleep(3600)


async def wait_for_ever_async(place: str) -> None:
    try:
        _here(place)
        await asyncio.sleep(3600)
    finally:
        Path(place + ".cleaned").touch()


def spin(place: str) -> None:
    try:
        _here(place)
        while True:
            pass
    finally:
        Path(place + ".cleaned").touch()


def spin_in_c(place: str) -> None:
    _here(place)
    re.match(r"(a+)+$", "a" * 64 + "b")  # holds the interpreter longer than anybody can wait


def cling(place: str) -> None:
    _here(place)
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass


def start_another(place: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(place + ".part").write_text(str(child.pid))
    os.replace(place + ".part", place)
    child.wait()


def close_everything() -> None:
    os.closerange(0, 256)
    time.sleep(3600)


def make_noise() -> str:
    os.write(1, bytes(range(256)) * 64)
    print("\x00\x00\x00\x00\x00\x00\x00\x02\x06{}", flush=True)
    sys.stdout.write("no newline")
    return sys.stdin.read()


def beat(until: str) -> str:
    context = attempt_context.get()
    assert isinstance(context, AttemptContext)
    context.note("heartbeat", {})
    while not Path(until).exists():
        time.sleep(0.005)
    context.note("log", {"message": "seen", "where": Path("x"), "bad": "\udc80"})
    return f"{context.run_id} {context.step} {context.attempt} {context.idempotency_key}"


def keep_beating(stop: str) -> None:
    context = attempt_context.get()
    assert isinstance(context, AttemptContext)
    note = context.note

    def on() -> None:
        while not Path(stop).exists():
            note("heartbeat", {"from": "a thread"})
            time.sleep(0.001)

    threading.Thread(target=on, daemon=True).start()


def leave_something(word: str) -> str:
    before = LEFTOVER.get()
    LEFTOVER.set(word)
    return before


def fork() -> int:
    if os.fork() == 0:
        return 0
    return os.wait()[1]
