"""What happened in a run is written to a file of its own, one JSON object a line, by a reader of the feed.

| member | what it is |
|---|---|
| `ts` | when, ISO 8601 in UTC with microseconds: the entry's own time, or the log record's |
| `run`, `workflow` | whose line it is (`workflow` is left out when it is not known) |
| `event` | the entry's kind, such as `step.failed`, or `log` |
| `step`, `attempt` | the step's readable path and the attempt's number, where there are any |
| `level` | `debug`, `info`, `warning` or `error` |
| `message` | one line for people |

Whatever else a line has is extra: fields given to `ctx.log`, attributes of a log record, a short `preview` of a
payload. No payload is written whole.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from stepwell.model.entries import (
    AnyEntry,
    RunCancelled,
    RunCompleted,
    RunCreated,
    RunFailed,
    StepFailed,
    kind_of,
)
from stepwell.model.ids import SECOND, StepPath
from stepwell.observe.records import Place, exception_of, extras_of, message_of
from stepwell.observe.telling import StoredEntry, preview_of, tell, timestamp

MAX_BYTES: Final = 10_000_000
"""Size at which a run's file is put aside and a new one begun."""

FILES: Final = 3
"""How many files a run has at most, the one that is written included."""

HANDLES: Final = 64
"""How many files are open at once."""


_log = logging.getLogger("stepwell.observe")

_ENCODER: Final = msgspec.json.Encoder(enc_hook=repr)
_SAFE: Final = re.compile(r"[^A-Za-z0-9_.-]")
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LEVELS: Final = {
    "run.created": "info",
    "run.started": "info",
    "run.paused": "warning",
    "run.resumed": "info",
    "run.cancel_requested": "warning",
    "run.cancelled": "warning",
    "run.completed": "info",
    "run.failed": "error",
    "run.upgraded": "info",
    "definition.patched": "info",
    "step.failed": "warning",
    "input.answered": "info",
    "input.withdrawn": "warning",
    "input.reassigned": "info",
    "input.reminded": "info",
}
_ENDINGS: Final = (RunCompleted, RunFailed, RunCancelled)
_OWN: Final = frozenset({"ts", "run", "workflow", "event", "step", "attempt", "level", "message"})


class SaidNote(Protocol):
    """Something that is no fact: see the engine's feed."""

    @property
    def run_id(self) -> str:
        """Whose note it is."""

    @property
    def kind(self) -> str:
        """`log`, `progress` or `maps`."""

    @property
    def at(self) -> int:
        """When, in microseconds."""

    @property
    def fields(self) -> Mapping[str, object]:
        """What was said."""

    @property
    def step(self) -> str:
        """The step's readable path; empty for the workflow body."""

    @property
    def attempt(self) -> int:
        """The attempt's number; 0 for the workflow body, and for a node of a graph that makes no attempt."""


class JsonLines:
    """A reader of the feed that writes each run's lines to `<folder>/<safe run id>.jsonl`.

    Lines are on their way to the disk within `flush_seconds`, and at the run's end. A full file becomes `….jsonl.1`,
    that one `….jsonl.2`, and what would be more than `files` is deleted. A file that cannot be written is told once
    to the log `stepwell.observe` and left out; the runs go on. May be used from several threads.

    Args:
        folder: made when it is not there.
        workflow_of: the workflow's name by run id, for runs whose beginning this reader has not seen; "" if unknown.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workflow_of: Callable[[str], str] = lambda run_id: "",
        max_bytes: int = MAX_BYTES,
        files: int = FILES,
        handles: int = HANDLES,
        flush_seconds: float = 1.0,
    ) -> None:
        self._folder = folder
        self._workflow_of = workflow_of
        self._max_bytes = max_bytes
        self._files = files
        self._handles = handles
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._workflows: OrderedDict[str, str] = OrderedDict()
        self._broken: set[str] = set()
        self._lock = threading.RLock()  # a log record may be made while a line is written
        self._closing = threading.Event()
        self._flusher = threading.Thread(
            target=self._keep_flushing, args=(flush_seconds,), name="stepwell-logs", daemon=True
        )
        self._flusher.start()

    def entries(self, run_id: str, stored: Sequence[StoredEntry]) -> None:
        """Write a line for each entry."""
        lines = []
        for one in stored:
            entry = one.entry
            if isinstance(entry, RunCreated):
                self._workflows[run_id] = entry.workflow
            lines.append(self._line_of(run_id, one.seq, entry))
        self._write(run_id, b"".join(lines))
        if any(isinstance(one.entry, _ENDINGS) for one in stored):
            self._end(run_id)

    def live(self, note: SaidNote) -> None:
        """Write a line for what a run has logged; progress is not written."""
        if note.kind != "log":
            return
        fields = dict(note.fields)
        message = str(fields.pop("message", ""))
        is_node = bool(note.step) and not note.attempt
        level = str(fields.pop("level", "info")) if is_node else "info"
        line = self._line(note.run_id, note.at, "log", note.step, note.attempt, level, message, fields)
        self._write(note.run_id, line)

    def record(self, place: Place, record: logging.LogRecord) -> None:
        """Write a line for a record of the standard library's `logging`."""
        fields = {**extras_of(record), "logger": record.name}
        exception = exception_of(record)
        if exception:
            fields["exception"] = exception
        if place.workflow:
            self._workflows.setdefault(place.run, place.workflow)
        at = round(record.created * SECOND)
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        line = self._line(place.run, at, "log", place.step, place.attempt, level, message_of(record), fields)
        self._write(place.run, line)

    def flush(self) -> None:
        """Hand everything written so far to the system."""
        with self._lock:
            for run_id, file in tuple(self._open.items()):
                self._guard(run_id, file.flush)

    def close(self) -> None:
        """Write out what is left and close all files. Idempotent."""
        self._closing.set()
        with self._lock:
            while self._open:
                run_id, file = self._open.popitem()
                self._guard(run_id, file.close)
        if self._flusher is not threading.current_thread():
            self._flusher.join()

    def _keep_flushing(self, seconds: float) -> None:
        while not self._closing.wait(seconds):
            self.flush()

    # -- lines --------------------------------------------------------------------------------------------------

    def _line_of(self, run_id: str, seq: int, entry: AnyEntry) -> bytes:
        kind = kind_of(entry)
        path: StepPath | None = getattr(entry, "path", None)
        level = _LEVELS.get(kind, "debug")
        if isinstance(entry, StepFailed) and entry.retry_at is None:
            level = "error"
        fields: dict[str, object] = {"seq": seq}
        shown = preview_of(entry)
        if shown:
            fields["preview"] = shown
        step = "" if path is None else str(path)
        attempt: int = getattr(entry, "attempt", 0)
        return self._line(run_id, entry.at, kind, step, attempt, level, tell(entry), fields)

    def _line(
        self,
        run_id: str,
        at: int,
        event: str,
        step: str,
        attempt: int,
        level: str,
        message: str,
        extra: Mapping[str, object],
    ) -> bytes:
        line: dict[str, object] = {"ts": timestamp(at), "run": run_id}
        workflow = self._workflow(run_id)
        if workflow:
            line["workflow"] = workflow
        line["event"] = event
        if step:
            line["step"] = step
        if attempt:
            line["attempt"] = attempt
        line["level"] = level
        line["message"] = message
        for key, value in extra.items():
            line[f"field_{key}" if key in _OWN else key] = value
        try:
            return _ENCODER.encode(line) + b"\n"
        except Exception:  # a log line never fails the run: odd values are shown as Python would
            return _ENCODER.encode({key: ascii(value) for key, value in line.items()}) + b"\n"

    def _workflow(self, run_id: str) -> str:
        name = self._workflows.get(run_id, "")
        if not name:
            name = self._workflow_of(run_id)
            if name:
                self._workflows[run_id] = name
        while len(self._workflows) > 10_000:
            self._workflows.popitem(last=False)
        return name

    # -- files --------------------------------------------------------------------------------------------------

    def _write(self, run_id: str, lines: bytes) -> None:
        if not lines:
            return
        with self._lock:
            if self._closing.is_set() or run_id in self._broken:
                return
            self._guard(run_id, lambda: self._file(run_id).write(lines))

    def _file(self, run_id: str) -> _File:
        file = self._open.get(run_id)
        if file is None:
            while len(self._open) >= self._handles:
                other, oldest = self._open.popitem(last=False)
                self._guard(other, oldest.close)
            file = self._open[run_id] = _File(log_file(self._folder, run_id), self._max_bytes, self._files)
        self._open.move_to_end(run_id)
        return file

    def _end(self, run_id: str) -> None:
        with self._lock:
            file = self._open.pop(run_id, None)
            if file is not None:
                self._guard(run_id, file.close)

    def _guard(self, run_id: str, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self._broken.add(run_id)
            self._open.pop(run_id, None)
            _log.warning("the log of run %s cannot be written and is left out from here on: %s", run_id, error)


class RunHandler(logging.Handler):
    """Routes what code inside runs says through the standard library's `logging` into the run's own file.

    Args:
        lines: where the lines go.
        where: tells in which run, step and attempt the calling code runs; None outside any run.
    """

    def __init__(self, lines: JsonLines, where: Callable[[], Place | None], level: int = logging.INFO) -> None:
        super().__init__(level)
        self._lines = lines
        self._where = where

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record if it was made inside a run; what a body says while it is replayed was written before."""
        place = self._where()
        if place is not None and not place.replaying:
            self._lines.record(place, record)


class _File:
    """One run's open file."""

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        path.parent.mkdir(parents=True, exist_ok=True)
        self._begin()

    def _begin(self) -> None:
        # Logs may hold what tasks say about their data: nobody else reads them.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._stream: BinaryIO = os.fdopen(descriptor, "ab", buffering=1 << 16)
        self._size = os.fstat(descriptor).st_size

    def write(self, lines: bytes) -> None:
        if self._size and self._size + len(lines) > self._max_bytes:
            self._put_aside()
        self._stream.write(lines)
        self._size += len(lines)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()

    def _put_aside(self) -> None:
        self._stream.close()
        for number in range(self._files - 1, 0, -1):
            older = self._path if number == 1 else _numbered(self._path, number - 1)
            if older.exists():
                os.replace(older, _numbered(self._path, number))
        if self._files <= 1:
            self._path.unlink(missing_ok=True)
        self._begin()


def log_file(folder: Path, run_id: str) -> Path:
    """The file that a run's lines go to.

    The name is the id where it may be; other characters are written as `%` and two hex digits. Where two ids would
    share a name on some system (case, length, a device's name) a digest of the id makes it unique.
    """
    name = _SAFE.sub(lambda found: f"%{ord(found[0]):02x}", run_id)
    if len(name) > 150 or name != name.lower() or name.endswith(".") or _DEVICES.fullmatch(name):
        name = f"{name[:150]}~{hashlib.blake2b(run_id.encode(), digest_size=6).hexdigest()}"
    return folder / f"{name}.jsonl"


def log_files(folder: Path, run_id: str) -> list[Path]:
    """The files that hold a run's lines, oldest first; empty when there are none."""
    newest = log_file(folder, run_id)
    numbered = [_numbered(newest, number) for number in range(FILES + 7, 0, -1)]
    return [path for path in (*numbered, newest) if path.exists()]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
