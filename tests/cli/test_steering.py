"""Ctrl-C, pause, resume, cancel, retry, signal and kill -9, from inside and from another process."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO

import pytest
from command_line import Cli, until


def read_until(stream: IO[str] | None, text: str) -> str:
    assert stream is not None
    seen = ""
    while text not in seen:
        line = stream.readline()
        assert line, f"{text!r} never came: {seen}"
        seen += line
    return seen


def test_ctrl_c_once_pauses_neatly_and_resume_goes_on_with_what_is_not_finished(cli: Cli) -> None:
    process = cli.holding("--id", "h")
    process.send_signal(signal.SIGINT)
    said = read_until(process.stderr, "pausing")
    assert "1 attempt in flight may end" in said
    cli.release("release-0")
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stepwell resume h" in rest
    shown = cli.json("show", "h")
    assert shown["status"] == "paused"
    assert shown["pause"]["reason"] == "Ctrl-C"
    assert (shown["steps"]["done"], shown["steps"]["open"]) == (1, [])
    cli.release()
    done = cli("resume", "h")
    assert (done.returncode, done.stdout.strip()) == (0, "3")
    assert "goes on: 1 step done before" in done.stderr
    assert cli.begun() == ["0 1", "1 1", "2 1"]


def test_ctrl_c_twice_stops_at_once_and_loses_nothing_finished(cli: Cli) -> None:
    cli.release("release-0")
    process = cli.holding("--id", "h")
    until(lambda: len(cli.begun()) == 2)
    process.send_signal(signal.SIGINT)
    read_until(process.stderr, "Ctrl-C again stops at once")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "stopped at once" in rest
    assert "stepwell resume h" in rest
    cli.release()
    done = cli("resume", "h")
    assert (done.returncode, done.stdout.strip()) == (0, "3")
    assert cli.begun() == ["0 1", "1 1", "1 2", "2 1"]


def test_a_killed_run_goes_on_when_the_same_command_is_given_again(cli: Cli) -> None:
    cli.release("release-0")
    process = cli.holding("--id", "h")
    until(lambda: len(cli.begun()) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    cli.release()
    given = json.dumps({"folder": str(cli.folder), "count": 3})
    done = cli("run", "flows.py:holds", "-i", given, "--id", "h")
    assert (done.returncode, done.stdout.strip()) == (0, "3")
    assert "goes on: 1 step done before" in done.stderr
    assert cli.begun() == ["0 1", "1 1", "1 2", "2 1"]


def test_the_same_command_again_resumes_a_run_that_was_paused(cli: Cli) -> None:
    process = cli.holding("--id", "h", count=1)
    process.send_signal(signal.SIGINT)
    read_until(process.stderr, "pausing")
    cli.release("release-0")
    process.communicate(timeout=20)
    given = json.dumps({"folder": str(cli.folder), "count": 1})
    done = cli("run", "flows.py:holds", "-i", given, "--id", "h")
    assert (done.returncode, done.stdout.strip()) == (0, "0")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_a_request_to_terminate_leaves_the_run_unpaused(cli: Cli) -> None:
    process = cli.holding("--id", "h", count=1)
    process.send_signal(signal.SIGTERM)
    read_until(process.stderr, "stopped")
    cli.release()
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert cli.status("h") in ("running", "completed")
    done = cli("run", "flows.py:holds", "-i", json.dumps({"folder": str(cli.folder), "count": 1}), "--id", "h")
    assert done.returncode == 0


def test_another_process_pauses_and_resumes_a_run_that_is_driven(cli: Cli) -> None:
    process = cli.holding("--id", "h", count=2)
    paused = cli("pause", "h", "--reason", "lunch")
    assert (paused.returncode, paused.stdout.strip()) == (0, "run h is paused")
    assert "(lunch)" in read_until(process.stderr, "it goes on after")
    cli.release()
    until(lambda: cli.json("show", "h")["steps"]["done"] == 1)
    again = cli("pause", "h")
    assert again.returncode == 0
    resumed = cli.json("resume", "h")
    assert resumed["driver"] == f"process {process.pid}"
    assert resumed["accepted"] is True
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out.strip()) == (0, "1")
    by = [entry["by"] for entry in cli.lines("journal", "h") if entry["kind"] in ("run.paused", "run.resumed")]
    assert len(by) == 2
    assert all(by)


def test_another_process_cancels_a_run_that_is_driven(cli: Cli) -> None:
    process = cli.holding("--id", "h")
    cancelled = cli("cancel", "h", "--reason", "wrong shop")
    assert (cancelled.returncode, cancelled.stdout.strip()) == (0, "run h is cancelled")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "was cancelled" in said


def test_another_process_sends_a_signal_which_is_taken_once(cli: Cli) -> None:
    process = cli.begin("run", "flows.py:asks", "-i", '"why"', "--id", "q")
    until(lambda: cli.store.exists() and cli("show", "q").returncode == 0)
    assert cli.json("signal", "q", "answer", "--payload", '{"because": 1}', "--key", "k")["new"] is True
    out, _ = process.communicate(timeout=20)
    assert json.loads(out) == {"why": {"because": 1}}
    late = cli("signal", "q", "answer")
    assert late.returncode == 4
    wrong = cli("signal", "q", "answer", "--payload", "text")
    assert wrong.returncode == 2
    assert "--payload is not JSON" in wrong.stderr


def test_a_signal_to_a_run_that_nobody_drives_is_kept_and_sent_once_under_its_key(cli: Cli) -> None:
    process = cli.begin("run", "flows.py:asks", "-i", '"why"', "--id", "q")
    until(lambda: cli.store.exists() and cli("show", "q").returncode == 0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert cli("signal", "q", "answer", "--payload", "1", "--key", "k").returncode == 0
    assert "sent to run q before" in cli("signal", "q", "answer", "--payload", "2", "--key", "k").stdout
    assert cli.json("show", "q")["mailbox"] == ["signal answer"]
    done = cli("resume", "q")
    assert json.loads(done.stdout) == {"why": 1}


def test_retry_while_another_process_drives_is_acted_on_by_that_process(cli: Cli) -> None:
    (cli.folder / "broken").touch()
    assert cli("run", "flows.py:breaks", "-i", json.dumps(str(cli.folder)), "--id", "b").returncode == 1
    (cli.folder / "broken").unlink()
    process = cli.holding("--id", "h")
    retried = cli("retry", "b")
    assert retried.returncode == 0
    until(lambda: cli.status("b") == "completed")
    cli.release()
    process.communicate(timeout=20)
    refused = cli("retry", "b")
    assert refused.returncode == 4
    assert "completed" in refused.stderr


def test_cancel_and_pause_without_a_driver_drive_the_run_for_the_moment_it_takes(cli: Cli) -> None:
    process = cli.begin("run", "flows.py:asks", "-i", '"why"', "--id", "q")
    until(lambda: cli.store.exists() and cli("show", "q").returncode == 0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    paused = cli("pause", "q")
    assert (paused.returncode, paused.stdout.strip()) == (0, "run q is paused")
    assert cli.status("q") == "paused"
    cancelled = cli("cancel", "q")
    assert (cancelled.returncode, cancelled.stdout.strip()) == (0, "run q is cancelled")
    assert cli.status("q") == "cancelled"


def test_what_cannot_be_done_now_is_said_plainly(cli: Cli) -> None:
    process = cli.begin("run", "flows.py:asks", "-i", '"why"', "--id", "q")
    until(lambda: cli.store.exists() and cli("show", "q").returncode == 0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    (cli.folder / "flows.py").rename(cli.folder / "moved.py")
    cancelled = cli("cancel", "q")
    assert cancelled.returncode == 0
    assert "will be cancelled when it is next driven" in cancelled.stdout
    assert "there is no file" in cancelled.stderr
    resumed = cli("resume", "q", "--no-drive")
    assert "nobody drives this store now" in resumed.stderr


def test_two_drivers_are_refused_with_the_pid_of_the_first(cli: Cli) -> None:
    process = cli.holding("--id", "h")
    done = cli("run", "flows.py:adds", "-i", "1", "--json")
    assert done.returncode == 4
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "store_busy"
    assert f"process {process.pid}" in error["message"]
    cli.release()
    process.communicate(timeout=20)


def test_changed_code_pauses_the_run_and_on_change_goes_on(cli: Cli) -> None:
    process = cli.holding("--id", "h", count=2)
    cli.release("release-0")
    until(lambda: len(cli.begun()) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    script = cli.folder / "flows.py"
    script.write_text(script.read_text().replace("await hold(folder, number)", "await hold(folder, number + 10)"))
    cli.release()
    stopped = cli("resume", "h")
    assert stopped.returncode == 1
    assert "was recorded with the input" in stopped.stderr
    assert "--on-change rerun" in stopped.stderr
    done = cli("resume", "h", "--on-change", "rerun")
    assert (done.returncode, done.stdout.strip()) == (0, "21")
