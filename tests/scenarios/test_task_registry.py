"""Tasks by name: what graphs may call, while programs come and go."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stepwell import Retry, Stepwell, blocking, task
from stepwell.authoring.graph import graph_workflow
from stepwell.authoring.registry import KnownTasks, Registry, TaskInfo, info_of
from stepwell.authoring.task import Task
from stepwell.errors import DefinitionError, RunSetAside
from stepwell.graph import tasks as calls
from stepwell.model.entries import RunResumed


@dataclass
class Size:
    """How large."""

    width: int
    height: int = 2


@task(retry=Retry(attempts=3, first="2s", retry_on=(ValueError,)), timeout="30s", tags=["images"], rate="3/1s")
async def resize(url: str, size: Size, quality: int = 80, *more: int, **labels: str) -> list[Size]:
    """Make it fit.

    By cutting.
    """
    return [size]


@task(aliases=("tag_it",))
def label(text: str | None = None, /) -> str:
    return text or ""


def made(function: str = "work", **options: Any) -> Task[..., Any]:
    """A task of a function of this name."""

    def work() -> None: ...

    work.__qualname__ = work.__name__ = function
    return task(**options)(work)


# -- adding and removing --------------------------------------------------------------------------------------------


def test_tasks_come_alone_from_modules_and_in_lists() -> None:
    module = ModuleType("shop")
    vars(module).update(resize=resize, shrink=resize, label=label, number=3)
    registry = Registry(entry_points=False)
    assert registry.add([module, (made("other"),)]) == ["resize", "label", "other"]
    assert registry.names() == ["label", "other", "resize"]
    assert registry.get("resize") is resize
    assert registry.get("tag_it") is label
    assert registry.get("rezise") is None
    assert registry.suggest("rezise") == "resize"
    assert registry.suggest("quite another thing") == ""


@pytest.mark.parametrize("wrong", [3, "resize", {"resize": resize}, lambda: 0, ModuleType("empty"), [resize, None]])
def test_what_is_no_task_is_refused(wrong: Any) -> None:
    registry = Registry(entry_points=False)
    with pytest.raises(DefinitionError, match="put @task in front"):
        registry.add(wrong)
    assert registry.names() == []


def test_two_different_tasks_of_one_name_are_refused_unless_one_is_to_replace_the_other() -> None:
    registry, other = Registry(resize, entry_points=False), made("one", name="resize")
    with pytest.raises(DefinitionError, match=r"two tasks are called 'resize' \(.*:resize and .*:one\)"):
        registry.add([made("fresh"), other])
    assert registry.names() == ["resize"], "all or nothing"
    with pytest.raises(DefinitionError, match="two tasks"):
        registry.add([other, made("two", name="resize")], replace=True)
    registry.add(other, replace=True)
    assert registry.get("resize") is other


def test_a_task_that_was_loaded_anew_takes_the_older_one_s_place() -> None:
    registry = Registry(resize, entry_points=False)
    patient = resize.with_options(retry=9)
    registry.add(patient)
    assert registry.get("resize") is patient
    first, second = made("work"), made("work")
    registry.add(first)
    registry.add(second)
    assert registry.get("work") is second


def test_who_listens_hears_of_each_change() -> None:
    registry, heard = Registry(resize, entry_points=False), []
    end = registry.on_change(lambda name, task: heard.append((name, task)))
    registry.add([resize, label])
    assert registry.remove("resize")
    assert not registry.remove("resize")
    end()
    registry.remove("label")
    assert heard == [("label", label), ("resize", None)]


def test_a_listener_that_fails_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    registry, heard = Registry(entry_points=False), []

    def fail(name: str, task: object) -> None:
        raise ValueError("deaf")

    registry.on_change(fail)
    registry.on_change(lambda name, task: heard.append(name))
    registry.add(resize)
    assert heard == ["resize"]
    assert "deaf" in caplog.text


def test_threads_may_add_and_remove_at_once() -> None:
    registry = Registry(entry_points=False)

    def work(number: int) -> None:
        for round in range(50):
            registry.add(made(f"work_{number}_{round}"))
            registry.names()
            if round % 2:
                registry.remove(f"work_{number}_{round - 1}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.names() == sorted(f"work_{number}_{round}" for number in range(4) for round in range(1, 50, 2))


# -- what a task is -------------------------------------------------------------------------------------------------


def test_a_task_s_signature_is_data() -> None:
    info = Registry(resize, entry_points=False).info("resize")
    assert info is not None
    assert (info.summary, info.description, info.tags) == ("Make it fit.", "Make it fit.\n\nBy cutting.", ("images",))
    assert [(one.name, one.required, one.hint) for one in info.parameters] == [
        ("url", True, "str"),
        ("size", True, "Size"),
        ("quality", False, "int"),
        ("more", False, "list[int]"),
    ]
    assert info.required == ("url", "size")
    assert (info.is_open, info.is_async, info.problem) == (True, True, "")
    schema = info.parameters[1].schema
    assert (schema["title"], schema["required"], schema["additionalProperties"]) == ("Size", ["width"], False)
    assert info.parameters[2].schema["default"] == 80
    assert set(info.input["properties"]) == {"url", "size", "quality", "more"}
    assert info.returns["items"] == {"$ref": "#/$defs/Size"}
    assert info.location == f"{__name__}:resize"


def test_only_options_that_say_something_are_told() -> None:
    assert info_of(resize).options == {
        "retry": {"attempts": 3, "first": 2.0, "backoff": 2.0, "max": 60.0, "only": ["ValueError"]},
        "timeout": 30.0,
        "rate": {"count": 3, "seconds": 1.0},
    }
    assert info_of(label).options == {}
    needing = info_of(made("work", requires=["pillow>=11"], concurrency=2, priority=1))
    assert (needing.options, needing.requires) == (
        {"executor": "process", "concurrency": 2, "priority": 1},
        ("pillow>=11",),
    )


def test_a_signature_that_cannot_be_told_is_a_problem_and_no_error() -> None:
    def broken(size: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is the point
        ...

    registry = Registry(task(broken), entry_points=False)
    info = registry.info("broken")
    assert info is not None
    assert "'Nowhere' is not defined" in info.problem
    assert info.parameters == ()
    assert KnownTasks(registry).get("broken") == calls.TaskInfo("broken", has_var_keyword=True)


def test_what_is_known_is_known_anew_when_the_task_changes() -> None:
    registry = Registry(made("work"), entry_points=False)
    before = registry.info("work")
    assert before is registry.info("work")
    registry.add(made("work", tags=["new"]))
    after = registry.info("work")
    assert isinstance(after, TaskInfo)
    assert after.tags == ("new",)
    registry.remove("work")
    assert registry.info("work") is None


def test_graphs_are_checked_against_parameters_and_their_types() -> None:
    known = KnownTasks(Registry([resize, label], entry_points=False))
    assert known.names() == ["label", "resize"]
    assert known.get("other") is None
    assert known.get("resize") == calls.TaskInfo(
        "resize",
        (
            calls.Parameter("url", True, str),
            calls.Parameter("size", True, Size),
            calls.Parameter("quality", False, int),
            calls.Parameter("more", False, list[int], "rest"),
        ),
        has_var_keyword=True,
    )
    assert known.get("tag_it") == calls.TaskInfo(
        "label", (calls.Parameter("text", False, str | None, "positional_only"),)
    )


# -- installed distributions ----------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution with tasks: one by name, a module of them, and entries that are broken."""
    (tmp_path / "swextra_one.py").write_text(
        "from stepwell import task\n\n@task\ndef extra(a: int) -> int: ...\n\n@task\ndef resize(): ...\n"
    )
    (tmp_path / "swextra_many.py").write_text("from stepwell import task\n\n@task\ndef more(): ...\n")
    (tmp_path / "swextra_bad.py").write_text("raise OSError('no such luck')\n")
    about = tmp_path / "swextra-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: swextra\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text(
        "[stepwell.tasks]\nextra = swextra_one:extra\nresize = swextra_one:resize\nany = swextra_many\n"
        "bad = swextra_bad:task\nworse = swextra_bad\nmisnamed = swextra_one:extra\nnone = swextra_one:task\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("swextra_one", "swextra_many", "swextra_bad"):
        sys.modules.pop(name, None)


def test_tasks_of_installed_distributions_are_loaded_when_they_are_asked_for(installed: Path) -> None:
    registry = Registry(resize)
    assert registry.get("resize") is resize, "the program's own goes before"
    assert "swextra_one" not in sys.modules
    extra = registry.get("extra")
    assert extra is not None
    assert extra.location == "swextra_one:extra"
    assert "swextra_many" not in sys.modules
    assert registry.get("more") is not None
    assert {"extra", "more", "resize"} <= set(registry.names())
    registry.add(made("extra"))
    assert registry.get("extra") is not extra, "also when the installed one was known before"
    assert registry.remove("more")
    assert registry.get("more") is None
    assert "more" not in registry.names()
    assert Registry(entry_points=False).get("extra") is None


def test_a_distribution_s_broken_task_says_whose_it_is(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    with pytest.raises(DefinitionError, match=r"'bad' of swextra 1\.5 .* cannot be loaded: OSError: no such luck"):
        registry.get("bad")
    with pytest.raises(DefinitionError, match="calls itself 'extra'"):
        registry.get("misnamed")
    with pytest.raises(DefinitionError, match="is a function: put @task"):
        registry.get("none")
    with caplog.at_level(logging.WARNING, "stepwell.tasks"):
        assert registry.get("nothing") is None
    assert "'worse' of swextra 1.5 (swextra_bad) cannot be loaded" in caplog.text
    assert registry.get("more") is not None, "others do not suffer"


@pytest.mark.parametrize("name", ["this", "antigravity", "this:d", "os.system", "os:system", "../x", "", "é"])
def test_a_name_from_outside_is_looked_up_and_never_imported(name: str) -> None:
    loaded = set(sys.modules)
    assert Registry().get(name) is None
    assert not {"this", "antigravity"} & (set(sys.modules) - loaded)


# -- in a program ---------------------------------------------------------------------------------------------------


def test_tasks_come_and_go_while_the_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Stepwell("memory://", tasks=[sys.modules[__name__]]) as app:
            assert {"resize", "label"} <= {info.name for info in app.tasks()}
            looked: list[int] = []
            here = threading.get_ident()
            look = app.engine.claims.look

            def looks() -> None:
                looked.append(threading.get_ident())
                look()

            monkeypatch.setattr(app.engine.claims, "look", looks)
            assert await asyncio.to_thread(app.add_task, made("late")) == ["late"]
            await asyncio.sleep(0)
            assert looked == [here], "the engine looks again, on its own loop"
            assert app.remove_task("late")
            assert not app.remove_task("late")
            with pytest.raises(DefinitionError, match="replace=True"):
                app.add_task(made("one", name="resize"))
        app.add_task(made("afterwards"))

    asyncio.run(main())


def test_a_graph_that_was_set_aside_for_a_missing_task_goes_on_when_it_is_added(play: Any) -> None:
    document = {
        "stepwell": 1,
        "id": "labels",
        "nodes": {"one": {"task": "label", "inputs": {"text": "red"}}, "two": {"task": "late", "needs": "one"}},
    }

    async def scenario(make: Any) -> None:
        async with make(tasks=[label]) as app:
            runs = [
                await app.start(graph_workflow(document), id="kept"),
                await app.start(graph_workflow(document), id="volatile", durability="memory"),
            ]
            for run in runs:
                with pytest.raises(RunSetAside, match="task 'late' is not registered in this process: node two"):
                    await run.result()
            app.add_task(made("later"))
            app.add_task(task(name="late")(lambda: "done"))
            while {(await run.state()).status for run in runs} != {"completed"}:
                await asyncio.sleep(0.01)
            entries = [stored.entry for stored in await app.entries("kept")]
            (resumed,) = [entry for entry in entries if isinstance(entry, RunResumed)]
            assert resumed.reason == "task 'late' was added"

    play(scenario)


def test_a_registry_may_be_shared_and_serves_scripts() -> None:
    registry = Registry(resize, entry_points=False)
    with blocking.Stepwell("memory://", tasks=registry) as app:
        app.add_task(label)
        assert [info.name for info in app.tasks()] == ["label", "resize"]
        assert app.remove_task("label")
        assert app.run(label, "red") == "red", "functions call their tasks in any case"
    assert registry.names() == ["resize"]
