"""Tasks with packages of their own: installed when somebody says so, run in a process of that environment."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tinted
from wheels import tint

from stepwell import Retry, StepFailed, Stepwell, task, workflow
from stepwell.authoring.task import Task
from stepwell.engine import building
from stepwell.engine.child import _around_library
from stepwell.engine.environments import Environments, InstallFailed, Use, target_of
from stepwell.errors import DefinitionError, RequestRefused, RunFailed
from stepwell.testing import Bench

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups")


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("STEPWELL_ENVS", str(tmp_path / "envs"))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Environments are made at once, of nothing; the list has the folders."""
    made: list[Path] = []

    async def build(folder: Path, requires: Sequence[str], told: Callable[[str], object], lock: int) -> str:
        assert not folder.exists()
        told("building")
        await asyncio.sleep(0)
        (folder / "bin").mkdir(parents=True)
        made.append(folder)
        return "nobody"

    monkeypatch.setattr(building, "build", build)
    return made


def needing(*requires: str, function: Callable[..., Any] = tinted.paint, **options: Any) -> Task[..., Any]:
    return task(requires=list(requires), **options)(function)


def go(main: Any) -> Any:
    async def in_time() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(in_time())


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


# -- running --------------------------------------------------------------------------------------------------------


def test_two_tasks_of_one_run_have_two_versions_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = needing(tint(tmp_path, "1.0"), name="old")
    new = needing(tint(tmp_path, "2.0"), name="new", function=tinted.paint_later)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "swtint.py").write_text("VERSION = 'the one that is installed here'\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "ours")])

    @workflow
    async def both() -> list[dict[str, str]]:
        return list(await asyncio.gather(old.aio("red"), new("blue")))

    async def main() -> None:
        async with Stepwell("memory://", tasks=[old, new]) as app:
            lines: list[str] = []
            await app.install("old", told=lines.append)
            assert any("swtint" in line for line in lines)
            assert (await app.install(new)).packages == {"swtint": "2.0"}
            red, blue = await app.run(both)
            first, second = sorted(await app.environments(), key=lambda one: one.packages["swtint"])
        assert red == {"colour": "red", "version": "1.0", "command": "1.0", "prefix": first.path}
        assert blue == {"colour": "blue", "version": "2.0", "command": "2.0", "prefix": second.path}
        assert first.used_by == (Use("old", "paint", tinted.__file__),)
        assert first.size > 100

    go(main())


def test_a_step_fails_at_once_and_says_what_to_install(tmp_path: Path) -> None:
    paint = needing("swtint==1", retry=Retry(attempts=5, first="1h"))

    async def main() -> None:
        async with Stepwell(f"sqlite:///{tmp_path}/runs.db") as app:
            run = await app.start(paint, "red", id="r-1")
            with pytest.raises(RunFailed) as failed:
                await run.result()
            (step,) = [
                entry for entry in await app.entries("r-1") if entry.entry.__struct_config__.tag == "step.failed"
            ]
            assert step.entry.error.type.endswith(".EnvironmentMissing")
            assert not step.entry.error.retryable
        assert f"stepwell tasks install {tinted.__file__}:paint" in str(failed.value)
        assert "stepwell retry r-1" in str(failed.value)
        assert "task 'paint' needs swtint==1" in str(failed.value)
        assert not (tmp_path / "envs").exists()

    go(main())


def test_the_command_names_another_folder_than_the_usual_one(tmp_path: Path) -> None:
    paint = needing("swtint==1")
    assert Environments().command(paint).startswith("stepwell tasks install /")
    elsewhere = Environments(tmp_path / "else where").command(paint)
    assert elsewhere.startswith(f"STEPWELL_ENVS='{tmp_path}/else where' stepwell tasks install ")
    assert target_of(paint) == f"{tinted.__file__}:paint"
    assert re.fullmatch(r".*/wheels\.py:tint", target_of(needing("a", function=tint)))


@pytest.mark.campaign
def test_time_limits_and_cancelling_end_the_process_of_an_environment(tmp_path: Path) -> None:
    requirement = tint(tmp_path, "1.0")
    limited = needing(requirement, function=tinted.linger, name="limited", timeout="1s")
    silent = needing(requirement, function=tinted.linger, name="silent", heartbeat="1s")
    endless = needing(requirement, function=tinted.linger, name="endless")
    note = tmp_path / "pid"

    def is_gone() -> bool:
        number, version = note.read_text().split()
        assert version == "1.0"
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            note.unlink()
            return True
        return False

    @workflow
    async def ends(which: str) -> str:
        try:
            await {"limited": limited, "silent": silent}[which].aio(str(tmp_path))
        except StepFailed as error:
            return str(error)
        return ""

    async def main() -> None:
        async with Stepwell("memory://") as app:
            await app.install(limited)
            assert "passed its timeout" in await app.run(ends, "limited")
            await until(is_gone)
            assert "silent for longer" in await app.run(ends, "silent")
            await until(is_gone)
            run = await app.start(endless, str(tmp_path))
            await until(note.exists)
            await app.prune_environments(every=True)
            assert len(await app.environments()) == 1, "an engine runs tasks in it"
            await run.cancel()
            await until(is_gone)
        async with Stepwell("memory://", drive=False) as client:
            assert len(await client.prune_environments(every=True)) == 1

    go(main())


def test_an_environment_that_was_removed_by_hand_is_missing_again(builds: list[Path], tmp_path: Path) -> None:
    from stepwell.engine.pools import EnvironmentMissing, Pools

    paint = needing("swtint==1")

    async def main() -> None:
        environment = await Environments().install(paint)
        pools = Pools(1)
        pool = await pools.of(paint, "r")
        assert await pools.of(paint, "r") is pool
        assert await pools.of(needing("swtint==1", name="another"), "r") is pool
        (Path(environment.path) / "stepwell.json").unlink()
        with pytest.raises(EnvironmentMissing):
            await pools.of(paint, "r")
        await pools.close(grace=0)

    go(main())


def test_a_bench_runs_such_a_task_in_place() -> None:
    twice = needing("swtint==1", function=lambda number: 2 * number, name="twice")

    with Bench() as bench:
        assert bench.run(twice, 4) == 8


# -- installing -----------------------------------------------------------------------------------------------------


def test_what_is_installed_is_not_installed_again(builds: list[Path]) -> None:
    lines: list[str] = []

    async def main() -> None:
        first = await Environments().install(needing("b>=2", "a"), lines.append)
        again = await Environments().install(needing("a", "b>=2", "a", function=tinted.linger), lines.append)
        other = await Environments().install(needing("a"), lines.append)
        assert first.path == again.path != other.path
        assert [use.task for use in again.used_by] == ["paint", "linger"] or len(again.used_by) == 2

    go(main())
    assert len(builds) == 2
    assert lines == ["building", "building"]


def test_two_that_install_the_same_make_it_once(builds: list[Path]) -> None:
    lines: list[str] = []

    async def main() -> None:
        paint = needing("a")
        made = await asyncio.gather(*(Environments().install(paint, lines.append) for _ in range(4)))
        assert len({one.path for one in made}) == 1

    go(main())
    assert len(builds) == 1
    assert set(lines) == {"building", "another process installs this environment: waiting for it"}


def test_a_build_that_fails_leaves_nothing_and_says_the_last_lines(tmp_path: Path) -> None:
    paint = needing(tint(tmp_path, "1.0", needs=("nowhere-to-be-found>=7",)))

    async def main() -> None:
        with pytest.raises(InstallFailed, match="nowhere-to-be-found") as failed:
            await Environments().install(paint)
        assert str(failed.value).startswith("environment for swtint @ file:///")
        assert "pip install ended with exit code 1:\n    " in str(failed.value)
        assert not Environments().is_installed(paint.options.requires)

    go(main())
    assert [path.name for path in (tmp_path / "envs").iterdir()] == [".locks"]


def test_a_build_that_is_cancelled_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def build(folder: Path, requires: Sequence[str], told: Callable[[str], object], lock: int) -> str:
        folder.mkdir(parents=True)
        told("begun")
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(building, "build", build)

    async def main() -> None:
        begun = asyncio.Event()
        installing = asyncio.create_task(Environments().install(needing("a"), lambda line: begun.set()))
        await begun.wait()
        installing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await installing
        assert Environments()._folders() == []

    go(main())


def test_what_a_crash_left_of_a_build_is_no_environment(builds: list[Path], tmp_path: Path) -> None:
    paint, environments = needing("a"), Environments()
    left = environments.root / environments.key(["a"])
    left.mkdir(parents=True)
    (left / "half").touch()
    assert environments.installed() == []
    go(environments.install(paint))
    assert not (left / "half").exists()
    (environments.root / "another").mkdir()
    assert environments.prune() == []
    assert environments._folders() == [left]


def test_packages_beside_which_stepwell_cannot_be_loaded_are_refused(tmp_path: Path) -> None:
    from wheels import wheel

    broken = wheel(tmp_path, "msgspec", "0.1", {"msgspec/__init__.py": "raise ImportError('too old')\n"})

    async def main() -> None:
        with pytest.raises(InstallFailed, match=r"(?s)does one of them bring its own msgspec\?.*too old"):
            await Environments().install(needing(broken))

    go(main())


@pytest.mark.campaign
def test_a_python_without_pip_uses_the_one_that_python_brings_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_uv", lambda: None)
    monkeypatch.setattr(building, "_has_pip", lambda: False)
    made = go(Environments().install(needing(tint(tmp_path, "3.0"))))
    assert made.packages["swtint"] == "3.0"
    assert "pip" in made.packages


@pytest.mark.skipif(building._uv() is None, reason="uv is not installed")
def test_uv_is_used_where_it_is(tmp_path: Path) -> None:
    made = go(Environments().install(needing(tint(tmp_path, "1.0"))))
    assert (made.installer, made.packages) == ("uv", {"swtint": "1.0"})


def test_tasks_without_requirements_and_unknown_ones_cannot_be_installed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Stepwell("memory://", tasks=[task(tint), needing("a", name="paint")]) as app:
            with pytest.raises(RequestRefused, match="task 'tint' has no requirements"):
                await app.install("tint")
            with pytest.raises(RequestRefused, match="no task 'pain'; did you mean 'paint'"):
                await app.install("pain")
            (tmp_path / "envs").write_text("a file")
            with pytest.raises(RequestRefused, match=r"cannot be made: .*STEPWELL_ENVS"):
                await app.install("paint")

    go(main())


# -- pruning --------------------------------------------------------------------------------------------------------


def test_what_no_task_uses_any_more_is_pruned(builds: list[Path], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def work(): ...\n")
    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(script.read_text(), str(script), "exec"), space)
    environments = Environments()
    for one in (needing("a"), needing("b", function=tinted.linger), needing("c", function=space["work"])):
        go(environments.install(one))

    def left() -> list[str]:
        return sorted(one.requires[0] for one in environments.installed())

    assert environments.prune() == []
    go(environments.install(needing("a2")))
    assert left() == ["a", "a2", "b", "c"], "nothing is removed by itself"
    assert [one.requires for one in environments.prune()] == [("a",)]
    assert [one.requires for one in environments.prune([needing("b2", function=tinted.linger)])] == [("b",)]
    script.unlink()
    assert environments.prune([needing("c", name="other")]) == []
    assert [one.requires for one in environments.prune()] == [("c",)]
    assert left() == ["a2"]
    assert list((environments.root / ".locks").iterdir()) == [environments.root / ".locks" / environments.key(["a2"])]


def test_an_environment_in_use_is_not_pruned(builds: list[Path]) -> None:
    paint, environments = needing("a"), Environments()
    go(environments.install(paint))
    _, hold = environments.enter(paint)
    _, second = environments.enter(paint)
    hold.release()
    assert environments.prune(every=True) == []
    second.release()
    assert len(environments.prune(every=True)) == 1
    assert environments._folders() == []


# -- declaring ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["pillow", ["-r other.txt"], ["./local"], ["pillow 11"], [""], [3]])
def test_what_is_no_list_of_requirements_is_refused(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="requires="):
        task(requires=wrong)


@pytest.mark.parametrize("options", [{"executor": "thread"}, {"executor": "gpu"}, {"transactional": True}])
def test_a_task_with_requirements_runs_nowhere_else(options: Any) -> None:
    with pytest.raises(DefinitionError, match="its own environment"):
        needing("a", **options)
    if "executor" in options:
        with pytest.raises(DefinitionError, match="its own environment"):
            needing("a").with_options(**options)
    assert needing("a").with_options(retry=3).options.requires == ("a",)


def test_requirements_are_one_set_however_they_are_written(tmp_path: Path) -> None:
    one, other = needing("b", "a >= 2", "b"), needing("a  >= 2", "b")
    assert one.options.requires == other.options.requires == ("a >= 2", "b")
    assert Environments().key(("b", "a")) == Environments().key(("a", "b")) != Environments().key(("a",))
    fine = ["pillow>=11,<13", "httpx[http2]==0.28", "a", "a~=1; python_version<'4'", "a @ https://x.org/a.whl", "a!=1"]
    assert needing(*fine).options.requires == tuple(sorted(fine))


def test_an_environment_s_modules_come_between_the_program_s_and_what_is_installed_here() -> None:
    library = os.path.dirname(os.__file__)
    path = ["/shop", "/shop/src", library, os.path.join(library, "lib-dynload"), "/site", "/editable"]
    assert _around_library(path) == (["/shop", "/shop/src"], ["/site", "/editable"])
    assert _around_library(["/shop"]) == (["/shop"], [])
