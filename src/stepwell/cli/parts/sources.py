"""Where does a definition come from that a command is given? A file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from stepwell.cli.parts.endings import TargetMissing
from stepwell.cli.parts.finding import did_you_mean
from stepwell.graph.reading import SIZE

ENDINGS: Final = (".yaml", ".yml", ".json")
"""How the names of files with definitions end."""

STDIN: Final = "-"


def is_definition_file(text: str) -> bool:
    """Whether a target names a file with a definition, and not a script, a module or a deployed workflow."""
    return text.lower().endswith(ENDINGS)


def read_source(file: str) -> tuple[str | Path, str | None]:
    """What `Stepwell.deploy` takes for a file that a person named; and for standard input, its text.

    Raises:
        TargetMissing: there is no such file.
    """
    if file == STDIN:
        text = sys.stdin.buffer.read(SIZE + 1).decode("utf-8-sig", "surrogateescape")
        return (text if "\n" in text else f"{text}\n"), text
    path = Path(file).expanduser()
    if path.is_dir():
        raise TargetMissing(f"{file} is a folder: name a definition in it, such as {path / 'flow.yaml'}")
    if not path.exists():
        names = (
            [one.name for one in path.parent.glob("*") if is_definition_file(one.name)] if path.parent.is_dir() else []
        )
        raise TargetMissing(f"there is no file {file}{did_you_mean(path.name, names)}")
    return path, None
