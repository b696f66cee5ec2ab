"""What a terminal shows: bars, colours, and Ctrl-C typed on the keyboard."""

from __future__ import annotations

import os
import select
import sys
import time

import pytest
from command_line import Cli, until

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, cli: Cli, *words: object) -> None:
        import subprocess

        self._fd, far = pty.openpty()
        self.process = subprocess.Popen(
            cli.command(*words),
            cwd=cli.folder,
            env={**cli.environment, "TERM": "xterm-256color"},
            stdin=far,
            stdout=far,
            stderr=far,
            preexec_fn=_own_terminal,
        )
        os.close(far)
        self.seen = ""

    def read(self, text: str = "", seconds: float = 20.0) -> str:
        """Read until this text has been shown, or to the end."""
        deadline = time.monotonic() + seconds
        while not text or text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if not select.select([self._fd], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(self._fd, 65536)
            except OSError:  # the other end is closed
                part = b""
            if not part:
                break
            self.seen += part.decode()
        return self.seen

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def close(self) -> int:
        self.read()
        os.close(self._fd)
        return self.process.wait(10)


def _own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals here")


def test_a_terminal_shows_bars_and_prints_of_tasks_above_them(cli: Cli) -> None:
    terminal = Terminal(cli, "run", "flows.py:adds", "-i", "20", "--id", "t")
    assert terminal.close() == 0
    assert "━━━" in terminal.seen
    assert "20/20" in terminal.seen
    assert "20 steps done" in terminal.seen.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "a print in a task" in terminal.seen
    assert '"total": 380' in terminal.seen
    assert terminal.seen.endswith("}\r\n")


def test_ctrl_c_on_the_keyboard_pauses_and_leaves_the_terminal_as_it_was(cli: Cli) -> None:
    words = ("run", "flows.py:holds", "-i", f'{{"folder": "{cli.folder}", "count": 2}}', "--id", "h")
    terminal = Terminal(cli, *words)
    until(lambda: cli.begun() == ["0 1"])
    terminal.read("1 in flight")
    terminal.type(b"\x03")
    terminal.read("again stops at once")
    cli.release("release-0")
    assert terminal.close() == 130
    assert "stepwell resume h" in terminal.seen
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")
    assert cli.status("h") == "paused"


def test_lists_are_coloured_on_a_terminal_only(cli: Cli) -> None:
    cli("run", "flows.py:adds", "-i", "1")
    terminal = Terminal(cli, "runs")
    assert terminal.close() == 0
    assert "\x1b[32mcompleted" in terminal.seen
    assert "\x1b" not in cli("runs").stdout
