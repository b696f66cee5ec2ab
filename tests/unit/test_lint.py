"""The lint finds what may differ on replay, at its line, and says nothing of what is the same."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from stepwell import workflow
from stepwell.authoring import lint as linting
from stepwell.authoring.hazards import CODES, find
from stepwell.authoring.lint import Finding, check, lint
from stepwell.authoring.workflow import Workflow
from stepwell.errors import DefinitionError

ROOT = Path(__file__).resolve().parents[2]

_MARK = re.compile(r"#: ([a-z -]+)$")

HEAD = "from stepwell import ctx, task, workflow\n"

FOUND = {
    "datetime.now through an alias": """
        from datetime import datetime as dt
        @workflow
        async def body():
            return dt.now()  #: clock
    """,
    "the class through its module": """
        import datetime
        @workflow
        async def body():
            return datetime.datetime.now(datetime.UTC), datetime.date.today()  #: clock clock
    """,
    "time.time through aliases": """
        import time as t
        from time import time as seconds, monotonic
        @workflow
        async def body():
            a = t.time()  #: clock
            b = seconds()  #: clock
            return monotonic() - a - b  #: clock
    """,
    "time.localtime of now": """
        import time
        @workflow
        async def body():
            a = time.localtime()  #: clock
            return time.strftime("%H"), a  #: clock
    """,
    "a bound method kept in a global": """
        from datetime import datetime
        now = datetime.now
        @workflow
        async def body():
            return now()  #: clock
    """,
    "random by module and by name": """
        import random
        from random import choice, randint as dice
        @workflow
        async def body():
            a = random.random()  #: random
            b = choice([1, 2])  #: random
            c = dice(1, 6)  #: random
            return random.shuffle([a, b, c])  #: random
    """,
    "a Random without a seed": """
        import random
        @workflow
        async def body():
            return random.Random().random() + random.SystemRandom().random()  #: random random
    """,
    "a Random that lives longer than the run": """
        from random import Random
        RNG = Random(7)
        @workflow
        async def body():
            return RNG.random()  #: random
    """,
    "uuid4": """
        import uuid
        from uuid import uuid4
        @workflow
        async def body():
            return uuid.uuid1(), uuid4()  #: random random
    """,
    "secrets and os.urandom": """
        import os, secrets
        from os import urandom
        @workflow
        async def body():
            a = secrets.token_hex(4)  #: random
            return a, os.urandom(4), urandom(4)  #: random random
    """,
    "numpy's generators": """
        import numpy as np
        @workflow
        async def body():
            a = np.random.rand(3)  #: random
            np.random.seed(3)  #: random
            return np.random.default_rng(), a  #: random
    """,
    "the environment": """
        import os
        from os import environ, getenv
        @workflow
        async def body():
            a = os.environ["HOME"]  #: environment
            b = environ.get("HOME", "")  #: environment
            c = os.getenv("HOME") or getenv("USER")  #: environment environment
            return a, b, c, "HOME" in os.environ  #: environment
    """,
    "the command line and the machine": """
        import os, platform, socket, sys
        @workflow
        async def body():
            a = sys.argv[1:]  #: environment
            return a, os.getpid(), platform.node(), socket.gethostname()  #: environment environment environment
    """,
    "open": """
        import io
        @workflow
        async def body():
            with open("x") as file:  #: file
                a = file.read()
            return a, io.open("y")  #: file
    """,
    "paths, however they came about": """
        from pathlib import Path
        ROOM = Path("room")
        @workflow
        async def body(given: Path):
            a = Path("x").read_text()  #: file
            b = (given / "y").with_suffix(".z")
            c = b.exists()  #: file
            ROOM.mkdir()  #: file
            return a, c, Path.cwd()  #: environment
    """,
    "os, shutil, tempfile and glob": """
        import glob, os, shutil, tempfile
        from os.path import isfile
        @workflow
        async def body():
            a = os.listdir("."), os.path.getmtime("x"), isfile("x")  #: file file file
            shutil.rmtree("x")  #: file
            return a, glob.glob("*"), tempfile.mkdtemp()  #: file file
    """,
    "urllib and sockets": """
        import socket
        from urllib.request import urlopen
        @workflow
        async def body():
            a = urlopen("http://localhost")  #: network
            return a, socket.create_connection(("localhost", 1)), socket.socket()  #: network network
    """,
    "a client that is made in the body": """
        import httpx2 as httpx
        @workflow
        async def body():
            async with httpx.AsyncClient() as client:  #: network
                return await client.get("http://localhost")
    """,
    "a client that is kept in a global": """
        import httpx2
        CLIENT = httpx2.AsyncClient()
        @workflow
        async def body():
            return await CLIENT.get("http://localhost")  #: network
    """,
    "a package that is imported inside, loaded or not": """
        @workflow
        async def body():
            import requests
            from aiohttp import ClientSession
            a = requests.get("http://localhost")  #: network
            return a, ClientSession()  #: network
    """,
    "asyncio's streams and subprocesses": """
        import asyncio
        @workflow
        async def body():
            a = await asyncio.open_connection("localhost", 1)  #: network
            return a, await asyncio.create_subprocess_exec("ls")  #: process
    """,
    "databases": """
        import sqlite3
        @workflow
        async def body():
            return sqlite3.connect("x.db")  #: database
    """,
    "threads": """
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor
        @workflow
        async def body():
            threading.Thread(target=print).start()  #: thread
            pool = ThreadPoolExecutor()  #: thread
            await asyncio.to_thread(print)  #: thread
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, print)  #: thread
    """,
    "processes": """
        import os, subprocess
        from multiprocessing import Process
        @workflow
        async def body():
            subprocess.run(  #: process
                ["ls"],
            )
            Process(target=print).start()  #: process
            os.system("ls")  #: process
    """,
    "what blocks": """
        import time
        @workflow
        def body():
            time.sleep(1)  #: blocking
            return input()  #: blocking
    """,
    "a loop over a set": """
        @workflow
        async def body(words: list[str]):
            known = set(words)
            for word in known:  #: set-order
                print(word)
            for word in {"a", "b"} - known:  #: set-order
                print(word)
            return [word for word in known]  #: set-order
    """,
    "a step for each member of a set": """
        import asyncio
        @task
        async def fetch(word: str) -> str: ...
        @workflow
        async def body(words: set[str]):
            await fetch.map(words)  #: set-order
            await asyncio.gather(*{fetch(word) for word in words})  #: set-order
            return ",".join(words), list(words), words.pop()  #: set-order set-order set-order
    """,
    "a set in a global": """
        SHOPS = {"left", "right"}
        @workflow
        async def body():
            for shop in SHOPS:  #: set-order
                print(shop)
    """,
    "functions of the same file, two levels down": """
        import time
        def outer():
            return inner()
        def inner():
            return time.time()  #: clock
        @workflow
        async def body():
            return outer()
    """,
    "a function that is only handed on": """
        import time
        async def each(item):
            return time.time()  #: clock
        @workflow
        async def body():
            return await ctx.map(each, [1, 2])
    """,
    "methods of classes in the same file": """
        import random, time
        class Shop:
            def __init__(self):
                self.opened = time.time()  #: clock
            def price(self):
                return self._roll()
            def _roll(self):
                return random.random()  #: random
            @property
            def age(self):
                return time.time() - self.opened  #: clock
            @staticmethod
            def name():
                return random.choice("ab")  #: random
        OPEN = Shop()
        @workflow
        async def body():
            shop = Shop()
            return shop.price(), OPEN.age, Shop.name()
    """,
    "lambdas, comprehensions and functions inside": """
        import random, time
        @workflow
        async def body():
            late = lambda: time.time()  #: clock
            def dice():
                return random.randint(1, 6)  #: random
            ranked = sorted([1, 2], key=lambda _: random.random())  #: random
            return ranked, [time.time() for _ in "ab"], late, dice  #: clock
    """,
    "behind wrappers and decorators": """
        import contextlib, functools, time
        @functools.cache
        def when():
            return time.time()  #: clock
        @contextlib.contextmanager
        def timed():
            yield time.perf_counter()  #: clock
        @workflow(name="decorated")
        async def body():
            with timed() as begun:
                return when(), begun
    """,
    "what a function closes over": """
        def make():
            import time
            from datetime import datetime
            def now():
                return datetime.now()  #: clock
            @workflow
            async def body():
                return time.time(), now()  #: clock
            return body
        body = make()
    """,
    "defaults and f-strings of inner functions": """
        import time
        @workflow
        async def body():
            def inner(at=time.time()):  #: clock
                return at
            return f"{inner()} {time.time():.1f}"  #: clock
    """,
    "a name that is bound in one branch of an if": """
        import random
        @workflow
        async def body(lucky: bool):
            if lucky and (number := random.random()) > 0.5:  #: random
                return number
            match lucky:
                case True if random.random() > 0.5:  #: random
                    return 1
            while random.random() > 0.5:  #: random
                pass
            try:
                raise ValueError(random.random())  #: random
            finally:
                await ctx.sleep(random.random())  #: random
    """,
}

SILENT = {
    "ctx": """
        @workflow
        async def body():
            ctx.state["at"] = ctx.now()
            return ctx.random(), ctx.uuid(), ctx.run_id
    """,
    "asyncio": """
        import asyncio
        @task
        async def fetch(n: int) -> int: ...
        @workflow
        async def body():
            await asyncio.sleep(1)
            await asyncio.gather(fetch(1), fetch(2))
            async with asyncio.TaskGroup() as group, asyncio.timeout(3):
                group.create_task(fetch(3))
            for done in asyncio.as_completed([fetch(4)]):
                await done
            now = asyncio.get_running_loop().time()
            queue, slots, event = asyncio.Queue(), asyncio.Semaphore(2), asyncio.Event()
            return now, queue, slots, event
    """,
    "what tasks do": """
        import random, time, urllib.request
        @task
        def fetch(url: str) -> bytes:
            time.sleep(random.random())
            return urllib.request.urlopen(url).read()
        @task(timeout="3s")
        async def later() -> float:
            return time.time()
        brisk = fetch.with_options(retry=3)
        @workflow
        async def body():
            return await fetch.aio("x"), await brisk.aio("y"), await later(), await fetch.map(["z"])
    """,
    "tasks defined inside": """
        import time
        @workflow
        async def body():
            @task
            async def inner() -> float:
                return time.time()
            return await inner()
    """,
    "child workflows, which are read on their own": """
        import time
        @workflow
        async def other():
            return 1
        @workflow
        async def body():
            return await other()
    """,
    "a local name that hides a module": """
        import random, time
        @workflow
        async def body(time, random: list[int]):
            open = time.time
            return time.time(), random.choice(3), open("x"), [time.sleep() for time in random]
    """,
    "a seeded Random of the body's own": """
        import random
        @workflow
        async def body(seed: int):
            rng = random.Random(seed)
            return rng.random(), rng.choice([1, 2]), rng.shuffle([1, 2])
    """,
    "times that are given": """
        import time
        from datetime import UTC, datetime, timedelta
        @workflow
        async def body(at: datetime):
            then = datetime.fromtimestamp(0, UTC), at + timedelta(days=1)
            return then, time.gmtime(0), time.strftime("%H", time.gmtime(0))
    """,
    "names made of names": """
        import uuid
        from pathlib import Path, PurePosixPath
        @workflow
        async def body(folder: Path):
            name = uuid.uuid5(uuid.NAMESPACE_URL, "x")
            return (folder / f"{name}.txt").with_suffix(".csv").name, PurePosixPath("a").parent, Path("a").suffix
    """,
    "path names by os.path": """
        import os
        @workflow
        async def body():
            return os.path.join("a", "b"), os.path.basename("a/b"), os.sep, os.fspath("x")
    """,
    "sets whose order is not used": """
        @workflow
        async def body(words: set[str], numbers: set[int]):
            known = set(words) | {"a"}
            total = sum(len(word) for word in known)
            shown = sorted(known), len(known), "a" in known, known - {"b"}, {word.upper() for word in known}
            for number in numbers:
                total += number
            for number in {1, 2, 3}:
                total += number
            return shown, total, max(known), any(word for word in known), sorted(word for word in known)
    """,
    "sets of asyncio's tasks": """
        import asyncio
        @task
        async def fetch(n: int) -> int: ...
        @workflow
        async def body():
            waiting = {asyncio.create_task(fetch(n)) for n in range(3)}
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    print(one.result())
            background = set()
            one = asyncio.create_task(fetch(4))
            background.add(one)
            for task_ in background:
                task_.cancel()
    """,
    "a name that is sometimes a set": """
        @workflow
        async def body(words: list[str]):
            if words:
                words = list(words)
            else:
                words = {"a"}
            return [word for word in words]
    """,
    "dicts, texts, numbers, logging": """
        import decimal, json, logging, re
        log = logging.getLogger(__name__)
        @workflow
        async def body(prices: dict[str, str]):
            log.info("prices %s", prices)
            print(json.dumps(prices), re.findall("a", "b"))
            prices.get("a"); prices.pop("b", None); prices.copy()
            return {key: decimal.Decimal(value) for key, value in prices.items()}
    """,
    "methods that are called like hazards": """
        class Shop:
            def now(self): return 1
            def open(self): return 2
            def sleep(self): return 3
            def get(self, key): return 4
        @workflow
        async def body(shop: Shop):
            return shop.now(), shop.open(), shop.sleep(), shop.get("x")
    """,
    "functions of the file that the body does not mention": """
        import time
        def elsewhere():
            return time.time()
        @workflow
        async def body():
            return 1
    """,
    "what is marked as meant": """
        import time
        @workflow
        async def body():
            print(time.time())  # stepwell: allow
            return time.strftime(  # only shown
                "%H"
            )  #stepwell:allow
    """,
    "annotations": """
        import threading, time
        @workflow
        async def body(a: "time.struct_time | None" = None) -> "threading.Thread | None":
            b: threading.Thread | None = None
            return b
    """,
    "errors and constants of modules that do I/O": """
        import socket, subprocess, urllib.error
        @workflow
        async def body():
            try:
                return subprocess.PIPE, socket.AF_INET
            except (subprocess.CalledProcessError, urllib.error.URLError, OSError) as error:
                raise ValueError(str(error)) from error
    """,
}


def _loaded(text: str, folder: Path, name: str = "snippet") -> ModuleType:
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    path = folder / f"{name}.py"
    path.write_text(HEAD + "\n".join(line[indent:] for line in lines) + "\n", "utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    sys.modules.pop("snippet", None)


def _expected(path: Path) -> list[tuple[int, str]]:
    lines = path.read_text("utf-8").splitlines()
    marks = [(number, mark[1]) for number, line in enumerate(lines, 1) if (mark := _MARK.search(line))]
    return sorted((number, code) for number, codes in marks for code in codes.split())


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_what_may_differ_is_found_at_its_line(text: str, tmp_path: Path) -> None:
    module = _loaded(text, tmp_path)
    found = lint(module.body)
    path = tmp_path / "snippet.py"
    assert sorted((one.line, one.code) for one in found) == _expected(path)
    assert found == sorted(found)
    assert {one.file for one in found} == {str(path)}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT)
def test_what_is_the_same_is_left_alone(text: str, tmp_path: Path) -> None:
    assert lint(_loaded(text, tmp_path).body) == []


def test_a_finding_says_where_what_and_what_instead(tmp_path: Path) -> None:
    module = _loaded(FOUND["datetime.now through an alias"], tmp_path)
    path = str(tmp_path / "snippet.py")
    (found,) = lint(module.body)
    assert found == Finding(path, 5, 12, "clock", "dt.now()", "use ctx.now()")
    assert str(found) == f"{path}:5:12 clock dt.now() — use ctx.now()"
    assert msgspec.json.decode(msgspec.json.encode(found), type=Finding) == found


def test_the_text_of_a_call_is_the_source_s() -> None:
    assert [one.call for one in lint(shows)] == ["timing.sleep(…)", "environ['HOME']", "open(…)"]


def test_nothing_is_found_where_there_is_no_source() -> None:
    names: dict[str, Any] = {"workflow": workflow}
    exec("import time\n@workflow\nasync def body():\n    return time.time()\n", names)
    assert lint(names["body"]) == []


def test_nothing_is_found_where_the_source_has_become_another(tmp_path: Path) -> None:
    module = _loaded(FOUND["uuid4"], tmp_path)
    (tmp_path / "snippet.py").write_text("# now something else\n", "utf-8")
    assert lint(module.body) == []
    (tmp_path / "snippet.py").write_text("this is no Python\n", "utf-8")
    assert lint(module.body) == []


def test_a_run_of_one_task_has_no_findings() -> None:
    from stepwell import task
    from stepwell.authoring.workflow import workflow_of

    @task
    def reads() -> str:
        return open(__file__).read()

    assert lint(workflow_of(reads)) == []


def test_registration_logs_each_finding_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = _loaded(FOUND["uuid4"], tmp_path)
    with caplog.at_level(logging.WARNING, "stepwell.lint"):
        check(module.body, strict=False)
        check(module.body, strict=False)
    place = f"{tmp_path / 'snippet.py'}:6: "
    assert [record.getMessage() for record in caplog.records] == [
        f"{place}workflow body: uuid.uuid1() may differ on replay (random): use ctx.uuid()",
        f"{place}workflow body: uuid4() may differ on replay (random): use ctx.uuid()",
    ]
    assert {record.name for record in caplog.records} == {"stepwell.lint"}


def test_strict_registration_refuses_and_lists_everything_in_the_children_too(tmp_path: Path) -> None:
    text = """
        import time
        @workflow
        async def child():
            await parent()
            return time.time()
        @workflow
        async def parent():
            await child()
            return time.monotonic()
    """
    module = _loaded(text, tmp_path)
    for _ in range(2):
        with pytest.raises(DefinitionError) as refused:
            check(module.parent, strict=True)
        path = tmp_path / "snippet.py"
        assert str(refused.value).splitlines() == [
            "workflow 'parent' does what may differ on replay, and strict=True refuses that:",
            f"  {path}:6:12 clock time.time() — use ctx.now()",
            f"  {path}:10:12 clock time.monotonic() — use ctx.now()",
            "what is meant is marked with  # stepwell: allow  on its line",
        ]


def test_a_source_that_cannot_be_made_sense_of_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def deep() -> None: ...

    def fails(_: object) -> list[Finding]:
        raise RecursionError("too deep")

    monkeypatch.setattr(linting, "lint", fails)
    check(deep, strict=False)
    assert "workflow deep could not be read" in caplog.text


def test_nothing_of_the_user_s_is_run_while_it_is_read(tmp_path: Path) -> None:
    text = """
        class Wild:
            def __getattr__(self, name):
                raise SystemExit(name)
            @property
            def now(self):
                raise SystemExit("now")
        WILD = Wild()
        @workflow
        async def body():
            return WILD.now, WILD.open(), WILD.a.b.c()
    """
    assert lint(_loaded(text, tmp_path).body) == []


def test_the_demo_s_workflow_has_no_findings() -> None:
    from stepwell.examples.catalogue.workflow import catalogue

    assert isinstance(catalogue, Workflow)
    assert not linting.is_machinery(catalogue.function.__code__.co_filename)  # type: ignore[attr-defined]  # a function
    assert lint(catalogue) == []


def test_what_packages_keep_in_private_modules_is_known_by_its_public_name() -> None:
    for name, public in (
        ("httpx._api.get", "httpx.get"),
        ("concurrent.futures.thread.ThreadPoolExecutor", "concurrent.futures.ThreadPoolExecutor"),
        ("posix.urandom", "os.urandom"),
        ("genericpath.exists", "os.path.exists"),
        ("pathlib._local.Path.read_text", "pathlib.Path.read_text"),
    ):
        found = find(name)
        assert found is not None and found[0] == public
    assert find("random.Random.random") is None
    assert find("shop.requests.get") is None


def test_every_code_is_in_the_how_to() -> None:
    text = (ROOT / "docs" / "how-to" / "deterministic-bodies.md").read_text("utf-8")
    assert not [code for code in CODES if f"| `{code}` |" not in text]


@workflow
async def shows() -> object:
    import time as timing
    from os import environ

    timing.sleep(3)
    return environ["HOME"], open("x")
