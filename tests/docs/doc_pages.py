"""A page's fenced blocks are a program: what is written in them is run, and what they say comes out is compared.

* A `python` block whose first line is `# name.py` is saved under that name in the page's own folder. It is run at once
  unless a `console` block further down runs it. A `python` block without a name is run at once.
* A `yaml` block whose first line is `# name.yaml` is saved under that name; a later one of the same name replaces it.
* A `text` block straight after a `python` block is what running it prints.
* A `console` block holds commands after `$ ` and what each prints. They are run by a shell in the page's folder, where
  `python` is this Python and `stepwell` is this Stepwell; what earlier blocks `export` holds.
* In expected output `…` stands for any text within a line, and a line of `…` alone for any lines, or none.

Other blocks (`sh`, `mermaid`, …) are for reading.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = {"python": re.compile(r"# ([\w-]+\.py)$"), "yaml": re.compile(r"# ([\w-]+\.yaml)$")}
_KILLED = re.compile(r"^\S*bash: line \d+: +\d+ (Killed|Terminated).*$", re.MULTILINE)
_MARK = "--- command {} ---"

SECONDS = 60
"""A block that takes longer is taken for one that hangs."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line in the page on which its text begins."""

    language: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """The file that a python or yaml block asks to be saved as, or nothing."""
        named = _NAMED[self.language].match(self.text.split("\n", 1)[0]) if self.language in _NAMED else None
        return named[1] if named else ""


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]


def pages() -> list[Path]:
    """The pages whose blocks are run: README, tutorial, how-to and explanation."""
    found = [
        path for part in ("tutorial", "how-to", "explanation") for path in sorted((ROOT / "docs" / part).glob("*.md"))
    ]
    return [ROOT / "README.md", *found]


class Scenario:
    """One page, run from top to bottom in a folder of its own."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page.relative_to(ROOT)
        self._blocks = blocks_of(page)
        self._folder = folder
        self._environment = _environment(folder)
        self._exports: list[str] = []

    def run(self) -> int:
        """Run every block; returns how many were run. Raises AssertionError naming page, line and difference."""
        done = 0
        for number, block in enumerate(self._blocks):
            following = self._blocks[number + 1] if number + 1 < len(self._blocks) else None
            expected = following.text if following is not None and following.language == "text" else None
            if block.language == "python":
                name = block.name or f"block_{number}.py"
                (self._folder / name).write_text(block.text, "utf-8")
                if not block.name or expected is not None or not self._is_run_later(number, name):
                    done += 1
                    self._compare(block, self._output(f"python {name}", block), expected)
            elif block.language == "yaml" and block.name:
                (self._folder / block.name).write_text(block.text, "utf-8")
            elif block.language == "console":
                done += 1
                self._run_console(block)
        return done

    def _is_run_later(self, number: int, name: str) -> bool:
        """Whether a console block further down, or a script that imports it, uses the file."""
        module = name.removesuffix(".py")
        uses = re.compile(rf"\b(from|import) {module}\b|\b{re.escape(name)}\b")
        return any(uses.search(block.text) for block in self._blocks[number + 1 :])

    def _run_console(self, block: Block) -> None:
        commands, outputs = _parted(block.text)
        script = [*self._exports, f"echo '{_MARK.format(0)}'"]
        self._exports += [command for command in commands if command.startswith("export ")]
        for number, command in enumerate(commands):
            script += [command, f"echo '{_MARK.format(number + 1)}'"]
        output = self._output("\n".join(script), block, is_script=True)
        for number, (command, expected) in enumerate(zip(commands, outputs, strict=True)):
            _, _, rest = output.partition(_MARK.format(number) + "\n")
            found, _, _ = rest.partition(_MARK.format(number + 1))
            self._compare(block, found, expected, command)

    def _output(self, command: str, block: Block, *, is_script: bool = False) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        if not is_script and done.returncode:
            raise AssertionError(f"{self._page}:{block.line}: exit code {done.returncode}\n{done.stdout}")
        return _KILLED.sub(r"\1", done.stdout)

    def _compare(self, block: Block, found: str, expected: str | None, command: str = "") -> None:
        if expected is None or _pattern(expected).fullmatch(found.strip() + "\n"):
            return
        where = f"{self._page}:{block.line}" + (f": $ {command}" if command else "")
        raise AssertionError(f"{where}\n--- the page says\n{expected.strip()}\n--- it prints\n{found.strip()}")


def _parted(text: str) -> tuple[list[str], list[str]]:
    """The commands of a console block, and what is expected of each."""
    commands: list[str] = []
    outputs: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
            outputs.append("")
        elif commands and commands[-1].endswith("\\"):
            commands[-1] += "\n" + line
        elif commands:
            outputs[-1] += line + "\n"
    return commands, outputs


def _pattern(expected: str) -> re.Pattern[str]:
    """What output fits: `…` within a line is any text, alone on a line any lines."""
    lines = []
    for line in expected.strip().splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            lines.append(".*?".join(re.escape(part.rstrip()) for part in line.split("…")) + r"[ \t]*\n")
    return re.compile("".join(lines) or r"\n")


def _environment(folder: Path) -> dict[str, str]:
    """`python` and `stepwell` are ours, and what a killed program printed is not lost in a buffer."""
    shims = folder / ".bin"
    shims.mkdir()
    _write_shim(shims / "python", f'exec "{sys.executable}" "$@"')
    call = "import sys; sys.argv[0] = 'stepwell'; from stepwell.cli.main import main; sys.exit(main())"
    _write_shim(shims / "stepwell", f'exec "{sys.executable}" -c "{call}" "$@"')
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STEPWELL_", "PYTEST_", "COV_"))}
    source = str(ROOT / "src")
    return {
        **kept,
        "PATH": f"{shims}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(filter(None, (source, kept.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


def _write_shim(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", "utf-8")
    path.chmod(0o755)
