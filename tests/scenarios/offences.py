"""What no workflow body may do, in a file of its own: the lint reads a body's file only, so just the guard sees these.

Each of `OFFENCES` stands on the line after its `def`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import glob
import os
import pathlib
import random
import secrets
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

OFFENCES: dict[str, Callable[[], object]] = {}


def offence(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Keep a function under what the guard is to call its offence."""

    def keep(function: Callable[[], object]) -> Callable[[], object]:
        OFFENCES[name] = function
        return function

    return keep


def line_of(name: str) -> str:
    """`file:line` of an offence."""
    code = OFFENCES[name].__code__  # type: ignore[attr-defined]  # a plain function
    return f"{code.co_filename}:{code.co_firstlineno + 2}"


@offence("time.time")
def _() -> object:
    return time.time()


@offence("time.monotonic")
def _() -> object:
    return [time.monotonic() for _ in range(1)]


@offence("time.sleep")
def _() -> object:
    return time.sleep(100)


@offence("datetime.datetime.now")
def _() -> object:
    return datetime.now()


@offence("datetime.date.today")
def _() -> object:
    return date.today()


@offence("random.random")
def _() -> object:
    return max([1, 2], key=lambda _: random.random())


@offence("random.choice")
def _() -> object:
    return random.choice([1, 2])


@offence("random.Random")
def _() -> object:
    return random.Random()


@offence("random.SystemRandom")
def _() -> object:
    return random.SystemRandom()


@offence("uuid.uuid4")
def _() -> object:
    return uuid.uuid4()


@offence("os.urandom")
def _() -> object:
    return os.urandom(4)


@offence("secrets.token_hex")
def _() -> object:
    return secrets.token_hex(4)


@offence("os.getenv")
def _() -> object:
    return os.getenv("HOME")


@offence("os.environ.get")
def _() -> object:
    return os.environ.get("HOME")


@offence("os.environ.__getitem__")
def _() -> object:
    return os.environ["HOME"]


@offence("os.getpid")
def _() -> object:
    return os.getpid()


@offence("io.open")
def _() -> object:
    return open("nowhere")


@offence("pathlib.Path.read_text")
def _() -> object:
    return pathlib.Path("nowhere").read_text()


@offence("pathlib.Path.exists")
def _() -> object:
    return pathlib.Path("nowhere").exists()


@offence("os.listdir")
def _() -> object:
    return os.listdir("nowhere")


@offence("os.path.getmtime")
def _() -> object:
    return os.path.getmtime("nowhere")


@offence("shutil.rmtree")
def _() -> object:
    return shutil.rmtree("nowhere")


@offence("tempfile.mkdtemp")
def _() -> object:
    return tempfile.mkdtemp()


@offence("glob.glob")
def _() -> object:
    return glob.glob("nowhere/*")


@offence("socket.socket")
def _() -> object:
    return socket.socket()


@offence("socket.getaddrinfo")
def _() -> object:
    return socket.getaddrinfo("localhost", 1)


@offence("urllib.request.urlopen")
def _() -> object:
    return urllib.request.urlopen("http://localhost:1")


@offence("sqlite3.connect")
def _() -> object:
    return sqlite3.connect("nowhere/x.db")


@offence("threading.Thread")
def _() -> object:
    return threading.Thread(target=print)


@offence("concurrent.futures.ThreadPoolExecutor")
def _() -> object:
    return concurrent.futures.ThreadPoolExecutor()


@offence("subprocess.run")
def _() -> object:
    return subprocess.run(["nothing"])


@offence("os.system")
def _() -> object:
    return os.system("true")


@offence("asyncio.run")
def _() -> object:
    return asyncio.run(None)  # type: ignore[arg-type]  # never gets there


@dataclass
class Ticket:
    """Made with a default that is chance."""

    number: uuid.UUID = field(default_factory=uuid.uuid1)


@offence("uuid.uuid1")
def _() -> object:
    return Ticket()


@contextlib.contextmanager
def timed() -> Iterator[float]:
    """A context that looks at the clock."""
    yield time.perf_counter()


def allowed() -> float:
    """Marked as meant."""
    return time.time()  # stepwell: allow


def allowed_in_many_lines() -> str:
    """Marked as meant, on the last of the call's lines."""
    return str(
        os.getenv(
            "NOTHING",
            "",
        )  # stepwell: allow
    )


async def in_a_thread() -> None:
    """Goes to a thread."""
    await asyncio.to_thread(print)
