from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from logging_tasks import floods_apart, speaks_apart

import stepwell.logging
from stepwell import Stepwell, ctx, task, workflow
from stepwell.model.entries import (
    AnyEntry,
    InputAnswered,
    InputReassigned,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunPaused,
    StateSet,
    StepCompleted,
    StepFailed,
    StepStarted,
    StreamBlock,
    WaitStarted,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.model.requests import InputSpec
from stepwell.observe.logs import JsonLines, RunHandler, log_file, log_files
from stepwell.observe.outbox import Outbox, levels, packed, set_levels, unpacked
from stepwell.observe.records import Place, PlaceFilter
from stepwell.observe.telling import awaited, preview_of, tell, timestamp

AT = 1_795_179_833_000_123
PATH = StepPath((("fetch.map", 1),), "fetch", 3)


@dataclass
class Stored:
    seq: int
    entry: AnyEntry


@dataclass
class Note:
    run_id: str
    kind: str
    at: int
    fields: Mapping[str, object] = field(default_factory=dict)
    step: str = ""
    attempt: int = 0


def created(run_id: str = "r", workflow: str = "shop") -> RunCreated:
    return RunCreated(AT, run_id, workflow, "v1", run_id, input=msgspec.Raw(b'{"n":1}'))


def lines_of(folder: Path, run_id: str = "r") -> list[dict[str, Any]]:
    return [json.loads(line) for path in log_files(folder, run_id) for line in path.read_text().splitlines()]


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[JsonLines]:
    made = JsonLines(tmp_path)
    yield made
    made.close()


def test_each_entry_is_a_line_with_time_place_level_and_message(tmp_path: Path, lines: JsonLines) -> None:
    failed = StepFailed(AT + 5, PATH, 2, Failure("ValueError", "no page"), retry_at=AT + 1_500_005)
    lines.entries("r", [Stored(1, created()), Stored(2, StepStarted(AT, PATH, 2)), Stored(3, failed)])
    lines.close()
    first, second, third = lines_of(tmp_path)
    assert first == {
        "ts": "2026-11-20T13:03:53.000123Z",
        "run": "r",
        "workflow": "shop",
        "event": "run.created",
        "level": "info",
        "message": "workflow shop, version v1",
        "seq": 1,
        "preview": '{"n":1}',
    }
    assert (second["step"], second["attempt"], second["level"]) == ("fetch.map:1/fetch#3", 2, "debug")
    assert (third["level"], third["message"]) == ("warning", "attempt 2 failed, next in 1.5 s: ValueError: no page")


def test_a_step_that_failed_for_good_is_an_error(tmp_path: Path, lines: JsonLines) -> None:
    lines.entries("r", [Stored(4, StepFailed(AT, PATH, 3, Failure("ValueError", "no page")))])
    lines.close()
    (line,) = lines_of(tmp_path)
    assert (line["level"], line["message"]) == ("error", "attempt 3 failed for good: ValueError: no page")


def test_payloads_are_never_written_whole(tmp_path: Path, lines: JsonLines) -> None:
    large = msgspec.Raw(msgspec.json.encode("é" * 100_000))
    lines.entries("r", [Stored(1, StepCompleted(AT, PATH, output=large))])
    lines.close()
    (path,) = log_files(tmp_path, "r")
    assert path.stat().st_size < 1000
    assert len(lines_of(tmp_path)[0]["preview"]) == 120


def test_what_code_logs_keeps_its_fields_beside_the_lines_own(tmp_path: Path, lines: JsonLines) -> None:
    fields = {"message": "hello", "page": 3, "run": "mine", "odd": threading.Lock()}
    lines.live(Note("r", "log", AT, fields, "fetch#1", 2))
    lines.live(Note("r", "progress", AT, {"done": 1}))
    lines.close()
    (line,) = lines_of(tmp_path)
    assert (line["event"], line["message"], line["run"], line["step"], line["attempt"]) == (
        "log",
        "hello",
        "r",
        "fetch#1",
        2,
    )
    assert (line["page"], line["field_run"]) == (3, "mine")
    assert "lock" in line["odd"]


def test_the_workflow_of_a_run_whose_beginning_was_not_seen_is_asked_for(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path, workflow_of={"r": "shop"}.get)  # type: ignore[arg-type]  # it knows this run
    lines.entries("r", [Stored(9, StepStarted(AT, PATH))])
    lines.close()
    assert lines_of(tmp_path)[0]["workflow"] == "shop"


def test_records_of_logging_go_to_the_run_that_they_were_made_in(tmp_path: Path, lines: JsonLines) -> None:
    where: list[Place | None] = [None]
    logger = logging.getLogger("test_logs.some")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    handler = RunHandler(lines, lambda: where[0])
    logger.addHandler(handler)
    try:
        logger.warning("outside")
        where[0] = Place("r", "fetch#1", 2, "shop")
        logger.debug("too little")
        logger.info("page %d", 7, extra={"shop": "berlin"})
        logger.warning("%d", "no number")
        try:
            raise KeyError("gone")
        except KeyError:
            logger.exception("oh")
        where[0] = Place("r", "", 0, "shop", replaying=True)
        logger.info("said before")
    finally:
        logger.removeHandler(handler)
    lines.close()
    info, odd, error = lines_of(tmp_path)
    assert {line["workflow"] for line in (info, odd, error)} == {"shop"}
    assert (info["message"], info["level"], info["logger"], info["shop"]) == (
        "page 7",
        "info",
        "test_logs.some",
        "berlin",
    )
    assert (info["step"], info["attempt"]) == ("fetch#1", 2)
    assert odd["message"] == "%d"
    assert error["level"] == "error"
    assert "KeyError: 'gone'" in error["exception"]


def test_the_end_of_a_run_brings_its_lines_to_the_disk(tmp_path: Path, lines: JsonLines) -> None:
    lines.entries("r", [Stored(1, created())])
    lines.entries("r", [Stored(2, RunCompleted(AT))])
    assert [line["event"] for line in lines_of(tmp_path)] == ["run.created", "run.completed"]


def test_lines_are_on_their_way_to_the_disk_within_the_flush_time(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path, flush_seconds=0.005)
    lines.entries("r", [Stored(1, created())])
    arrived = threading.Event()
    while not arrived.wait(0.005):
        if lines_of(tmp_path):
            arrived.set()
    lines.close()


def test_a_full_file_is_put_aside_and_the_oldest_deleted(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path, max_bytes=2000, files=3)
    for number in range(60):
        lines.live(Note("r", "log", AT + number, {"message": f"line {number}", "pad": "x" * 50}))
    lines.close()
    paths = log_files(tmp_path, "r")
    assert [path.name for path in paths] == ["r.jsonl.2", "r.jsonl.1", "r.jsonl"]
    assert all(path.stat().st_size <= 2000 for path in paths)
    kept = [int(line["message"].split()[1]) for line in lines_of(tmp_path)]
    assert kept == list(range(kept[0], 60))
    assert kept[0] > 0


def test_a_file_of_an_earlier_process_is_gone_on_with(tmp_path: Path) -> None:
    for number in range(2):
        lines = JsonLines(tmp_path)
        lines.live(Note("r", "log", AT, {"message": str(number)}))
        lines.close()
    assert [line["message"] for line in lines_of(tmp_path)] == ["0", "1"]


def test_no_more_files_are_open_than_allowed(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path, handles=4)
    for turn in range(2):
        for number in range(20):
            lines.live(Note(f"r-{number}", "log", AT, {"message": str(turn)}))
            assert len(lines._open) <= 4
    lines.close()
    assert all([line["message"] for line in lines_of(tmp_path, f"r-{n}")] == ["0", "1"] for n in range(20))


def test_a_log_that_cannot_be_written_is_told_once_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("no folder")
    lines = JsonLines(tmp_path / "logs")
    lines.entries("r", [Stored(1, created())])
    lines.entries("r", [Stored(2, RunPaused(AT))])
    lines.close()
    (record,) = [record for record in caplog.records if record.name == "stepwell.observe"]
    assert "the log of run r cannot be written" in record.getMessage()


def test_file_names_are_safe_unique_and_readable(tmp_path: Path) -> None:
    ids = ["shop-1", "Shop-1", "a/b", "a:b", "a%2fb", "con", "x.", "x", "x" * 200, "x" * 199, "a.jsonl", "a"]
    names = [log_file(tmp_path, one).name for one in ids]
    assert names[:3] == ["shop-1.jsonl", names[1], "a%2fb.jsonl"]
    assert names[1].startswith("Shop-1~")
    assert len({name.lower() for name in names}) == len(ids)
    assert all(len(name) < 200 and "/" not in name and ":" not in name for name in names)
    assert names[5] != "con.jsonl"


def test_entries_are_told_in_words() -> None:
    failed = RunFailed(AT, Failure("shop.NotFound", "page 3"), (PATH,))
    assert tell(failed) == "failed (step fetch.map:1/fetch#3): NotFound: page 3"
    assert tell(RunPaused(AT, by="ann", reason="lunch")) == "paused by ann: lunch"
    assert tell(RunPaused(AT, cause="code_change", reason="other")) == "paused (code change): other"
    assert tell(WaitStarted(AT, PATH, "signal", "approve")) == "waits for signal 'approve'"
    assert tell(WaitStarted(AT, PATH, due=AT)) == f"waits for timer, due {timestamp(AT)}"
    assert tell(StateSet(AT, "stage", by="ann")) == "stage set by ann"
    assert preview_of(StateSet(AT, "stage", payload=msgspec.Raw(b'"x"'))) == '"x"'
    assert preview_of(RunPaused(AT)) == ""


def test_every_line_of_a_run_carries_run_and_workflow_also_after_its_end(tmp_path: Path, lines: JsonLines) -> None:
    lines.entries("r", [Stored(1, created()), Stored(2, RunCompleted(AT))])
    lines.live(Note("r", "log", AT, {"message": "late"}, "fetch#1", 1))
    lines.close()
    assert {(line["run"], line["workflow"]) for line in lines_of(tmp_path)} == {("r", "shop")}


# -- records of `logging` ---------------------------------------------------------------------------------------------

log = logging.getLogger("test_logs.flow")


class Kept(logging.Handler):
    """A handler of a user's own, with the filter."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(stepwell.logging.ContextFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def seen(self) -> list[tuple[str, str, str, str, int]]:
        """Message and place of each record."""
        names = ("stepwell_run", "stepwell_workflow", "stepwell_step", "stepwell_attempt")
        return [(one.getMessage(), *(getattr(one, name) for name in names)) for one in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    loggers = [log, logging.getLogger("logging_tasks")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    quiet = logging.getLogger("logging_tasks.quiet")
    quiet.setLevel(logging.ERROR)
    yield handler
    for logger in (*loggers, quiet):
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@task
async def on_loop() -> None:
    log.info("on the loop")


@task
def in_thread() -> None:
    log.info("in a thread")


@workflow
async def says() -> None:
    log.info("begins")
    await on_loop()
    await in_thread.aio()
    log.info("waits")
    await ctx.signal("go")
    log.info("ends")


def test_records_know_their_run_step_and_attempt_and_a_replayed_body_says_nothing_again(
    tmp_path: Path, kept: Kept
) -> None:
    async def story() -> None:
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        async with Stepwell(url) as app:
            run = await app.start(says, id="r")
            while (await run.row()).status != "waiting":
                await asyncio.sleep(0.001)
        async with Stepwell(url, workflows=[says]) as app:
            await app.signal("r", "go")
            await app.handle("r").result(timeout="10s")
        log.info("outside")

    asyncio.run(story())
    assert kept.seen() == [
        ("begins", "r", "says", "", 0),
        ("on the loop", "r", "says", "on_loop#1", 1),
        ("in a thread", "r", "says", "in_thread#1", 1),
        ("waits", "r", "says", "", 0),
        ("ends", "r", "says", "", 0),
        ("outside", "", "", "", 0),
    ]


def test_records_of_child_processes_reach_the_handlers_of_the_program_at_its_levels(kept: Kept) -> None:
    async def story() -> None:
        async with Stepwell("memory://") as app:
            run = await app.start(speaks_apart, 7, id="p")
            assert await run.result(timeout="30s") == 7

    asyncio.run(story())
    assert kept.seen() == [
        ("page 7", "p", "speaks_apart", "speaks#1", 1),
        ("oh", "p", "speaks_apart", "speaks#1", 1),
    ]
    info, error = kept.records
    assert (info.shop, info.name, info.levelname) == ("berlin", "logging_tasks.child", "INFO")  # type: ignore[attr-defined]  # it was given with extra=
    assert info.process not in (None, os.getpid())
    assert error.exc_text is not None
    assert "KeyError: 'gone'" in error.exc_text


def test_a_flood_of_records_is_cut_and_the_rest_counted(kept: Kept) -> None:
    async def story() -> None:
        async with Stepwell("memory://") as app:
            run = await app.start(floods_apart, 30_000, id="f")
            await run.result(timeout="60s")

    engine_log = logging.getLogger("stepwell.engine")
    engine_log.addHandler(kept)
    try:
        asyncio.run(story())
    finally:
        engine_log.removeHandler(kept)
    dropped = [one.getMessage() for one in kept.records if "dropped" in one.getMessage()]
    lost = sum(int(text.split()[0].replace(",", "")) for text in dropped)
    assert len(kept.records) - len(dropped) + lost == 30_000


def test_what_does_not_fit_is_dropped_and_the_count_told_when_there_is_room() -> None:
    room, sent, go = 1000, [], threading.Event()

    def send(number: int, data: bytes) -> None:
        go.wait(10)
        sent.append((number, json.loads(data)))

    running = [0]
    outbox = Outbox(lambda fields: json.dumps(fields).encode(), send, lambda: running[0], room)
    outbox.handle(logging.makeLogRecord({"msg": "nobody runs"}))
    running[0] = 3
    for number in range(100):
        outbox.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))
    outbox.handle(logging.makeLogRecord({"msg": "it burns", "levelno": logging.ERROR}))
    go.set()
    outbox.drain()
    messages = [fields["msg"] for _, fields in sent]
    assert {number for number, _ in sent} == {3}
    assert messages[0] == "line 0"
    assert messages[-2] == "it burns"
    assert (
        messages[-1] == f"{101 - len(messages) + 1} log records were dropped: they came faster than they could be sent"
    )


def test_a_record_survives_its_way_between_processes() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, "/x/y.py", 7, "%s of %d", ("one", 2), None, "f")
    record.colour = "red"
    back = unpacked(json.loads(json.dumps(packed(record))))
    assert (back.name, back.levelno, back.getMessage(), back.lineno) == ("a.b", logging.WARNING, "one of 2", 7)
    assert (back.colour, back.funcName, back.created) == ("red", "f", record.created)  # type: ignore[attr-defined]  # it was added


def test_levels_travel_with_what_is_switched_off() -> None:
    loud = logging.getLogger("test_logs.loud")
    loud.setLevel(logging.DEBUG)
    before = logging.root.level
    try:
        assert levels()["test_logs.loud"] == logging.DEBUG
        logging.disable(logging.WARNING)
        assert min(levels().values()) > logging.WARNING
        set_levels({"root": logging.ERROR, "test_logs.loud": logging.INFO})
        assert (logging.root.level, loud.level) == (logging.ERROR, logging.INFO)
    finally:
        logging.disable(logging.NOTSET)
        logging.root.setLevel(before)
        loud.setLevel(logging.NOTSET)


def test_installing_the_filter_twice_is_installing_it_once() -> None:
    logger = logging.getLogger("test_logs.installed")
    logger.addHandler(logging.NullHandler())
    stepwell.logging.install(logger)
    stepwell.logging.install(logger)
    (handler,) = logger.handlers
    assert [type(one) for one in handler.filters] == [stepwell.logging.ContextFilter]
    logger.removeHandler(handler)


def test_the_filter_keeps_what_a_record_knows() -> None:
    mark = PlaceFilter(lambda: Place("other", "", 0))
    record = logging.makeLogRecord({"stepwell_run": "r"})
    assert mark.filter(record)
    assert vars(record)["stepwell_run"] == "r"


def test_waits_for_people_and_events_are_told_in_words() -> None:
    asked = msgspec.Raw(msgspec.json.encode(InputSpec(prompt="Publish?")))
    assert awaited(WaitStarted(AT, PATH, "input", spec=asked)) == "an answer to 'Publish?'"
    assert awaited(WaitStarted(AT, PATH, "event", "shop.changed")) == "event 'shop.changed'"
    assert tell(InputAnswered(AT, PATH, by="ann")) == "answered by ann"
    assert tell(InputReassigned(AT, PATH, who=("bob", "eve"), by="ann")) == "reassigned to bob, eve by ann"
    assert preview_of(StreamBlock(AT, PATH, chunks=msgspec.Raw(b'["a"]'))) == '["a"]'
