"""No room in the middle of runs: nothing that was acknowledged is lost, and all goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import Program, executions, journals, soon, violations

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")

PAGES = 60 * 4006


def accepted(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("accepted")]


def is_under_way(side: Path) -> bool:
    return len(executions(side)) > 30


def check(store: Path, side: Path) -> None:
    found = journals(store)
    assert violations(found, executions(side)) == []
    assert {found[f"pages-{n}"].result for n in range(4)} == {PAGES}
    assert found["heard"].row.status in ("waiting", "running")


def test_runs_go_on_where_they_stood_when_files_may_grow_again(tmp_path: Path) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("full.py", store, side) as program:
        program.until("accepted heard")
        soon(lambda: is_under_way(side))
        program.tell("limit")
        program.until("full")
        program.tell("try")
        assert [program.line(), program.line(), program.line()] == [
            "refused pages-1 of try",
            "refused heard 0",
            "tried 5",
        ]
        program.tell("free")
        program.until("done")
        program.tell("try")
        program.until("accepted pages-2 of try")
        program.until("accepted heard 1")
        program.tell("")
        assert program.wait() == 0, program.complaints
    check(store, side)
    assert "try-1" not in journals(store), "what was refused did not happen"


def test_a_process_killed_while_there_is_no_room_has_lost_nothing(tmp_path: Path) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("full.py", store, side) as program:
        program.until("accepted heard")
        soon(lambda: is_under_way(side))
        program.tell("limit")
        program.until("full")
        program.kill()
    with Program("full.py", store, side) as program:
        program.until("done")
        program.tell("")
        assert program.wait() == 0, program.complaints
    check(store, side)


def test_closing_without_room_ends_and_loses_nothing(tmp_path: Path) -> None:
    store, side = tmp_path / "runs.db", tmp_path / "side"
    with Program("full.py", store, side) as program:
        program.until("accepted heard")
        soon(lambda: is_under_way(side))
        program.tell("limit")
        program.until("full")
        program.tell("close")
        program.until("closed")
        assert program.wait() == 0, program.complaints
    with Program("full.py", store, side) as program:
        program.until("done")
        program.tell("")
        assert program.wait() == 0, program.complaints
    check(store, side)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_runs_go_on_where_they_stood_when_a_full_disk_has_room_again(small_disk: Path, tmp_path: Path) -> None:
    store, side, filler = small_disk / "runs.db", tmp_path / "side", small_disk / "filler"
    with Program("full.py", store, side) as program:
        program.until("accepted heard")
        soon(lambda: is_under_way(side))
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 1024)
            except OSError:
                pass
        program.until("full")
        program.tell("try")
        while (line := program.line()) == "full":
            pass
        assert line.startswith(("refused", "accepted"))
        filler.unlink()
        program.until("done")
        program.tell("")
        assert program.wait() == 0, program.complaints
    check(store, side)
