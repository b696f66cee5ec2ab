"""Events from the command line: for runs that wait, once per id, whole ones from files, refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from command_line import Cli, until

LISTENS = """
from stepwell import ctx, workflow


@workflow
async def listens(topic: str = "order.paid") -> list:
    event = await ctx.event(topic, where={"!=": [{"var": "data.total"}, 0]})
    return [event.source, event.subject, event.data, event.extensions]
"""


@pytest.fixture
def listening(cli: Cli) -> Iterator[Cli]:
    """With a run `l`, driven by a process in the background, that waits for `order.paid`."""
    (cli.folder / "listens.py").write_text(LISTENS)
    assert cli("run", "listens.py:listens", "--id", "l", "--detach").returncode == 0
    until(lambda: cli.status("l") == "waiting")
    yield cli
    if cli.status("l") == "waiting":
        cli("cancel", "l")  # its process ends with it


def result(cli: Cli, run: str) -> Any:
    until(lambda: cli.status(run) == "completed")
    return cli.json("show", run)["result"]


def test_an_event_reaches_the_run_that_waits_for_it(listening: Cli) -> None:
    done = listening("publish", "order.paid", "--data", '{"total": 7}', "--source", "till", "--subject", "o-7")
    assert (done.returncode, done.stdout) == (0, "event 'order.paid' is published\n")
    assert result(listening, "l") == ["till", "o-7", {"total": 7}, {}]


def test_an_event_of_the_same_source_and_id_is_published_once(listening: Cli) -> None:
    first = listening("publish", "order.paid", "--data", '{"total": 0}', "--id", "e-1")
    assert (first.returncode, first.stdout) == (0, "event 'order.paid' is published\n")
    again = listening("publish", "order.paid", "--data", '{"total": 5}', "--id", "e-1")
    assert again.returncode == 0
    assert again.stdout == "event 'e-1' of source 'stepwell' was published before; nothing was added\n"
    told = listening.json("publish", "order.paid", "--id", "e-1", "--source", "till")
    assert told == {"topic": "order.paid", "source": "till", "id": "e-1", "accepted": True, "new": True}
    assert listening.json("publish", "order.paid", "--id", "e-1", "--source", "till")["new"] is False


def test_data_comes_from_a_file_or_from_standard_input(listening: Cli) -> None:
    (listening.folder / "none.json").write_text('{"total": 0}')
    assert listening("publish", "order.paid", "--data", "@none.json").returncode == 0
    assert listening("publish", "order.paid", "--data", "-", stdin='{"total": 3, "by": "ü"}').returncode == 0
    assert result(listening, "l")[2] == {"total": 3, "by": "ü"}


def test_a_whole_cloud_event_is_published_as_it_is(listening: Cli) -> None:
    event = {
        "specversion": "1.0",
        "type": "order.paid",
        "source": "/till",
        "id": "1",
        "shop": "x",
        "data": {"total": 2},
    }
    (listening.folder / "event.json").write_text(json.dumps(event))
    told = listening.json("publish", "--event", "event.json")
    assert told == {"topic": "order.paid", "source": "/till", "id": "1", "accepted": True, "new": True}
    done = listening("publish", "--event", "-", stdin=json.dumps(event))
    assert done.stdout == "event '1' of source '/till' was published before; nothing was added\n"
    assert result(listening, "l") == ["/till", "", {"total": 2}, {"shop": "x"}]


def test_a_transient_event_is_for_those_who_wait(listening: Cli) -> None:
    done = listening("publish", "order.paid", "--transient", "--data", '{"total": 1}')
    assert (done.returncode, done.stdout) == (0, "event 'order.paid' is published to whoever waits for it now\n")
    assert result(listening, "l")[2] == {"total": 1}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "TOPIC"),
        (("t", "--data", "{not json"), 2, "--data is not JSON"),
        (("t", "--data", "@missing.json"), 2, "--data @missing.json: the file cannot be read"),
        (("--event", "missing.json"), 2, "--event @missing.json: the file cannot be read"),
        (("t", "--event", "wrong.json"), 2, "leave them out"),
        (("--event", "wrong.json", "--id", "x"), 2, "leave them out"),
        (("--event", "wrong.json"), 4, "specversion"),
        (("t", "--source", ""), 4, "source"),
    ],
)
def test_what_cannot_be_published_is_refused_with_what_to_do(
    cli: Cli, words: tuple[str, ...], code: int, said: str
) -> None:
    (cli.folder / "wrong.json").write_text('{"specversion": "0.3", "type": "t", "source": "s", "id": "1"}')
    assert cli("run", "flows.py:adds", "--input", '{"count": 0}').returncode == 0
    done = cli("publish", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def test_where_there_is_no_store_nothing_is_published(cli: Cli) -> None:
    done = cli("publish", "t")
    assert done.returncode == 3
    assert "no such file" in done.stderr
    error = json.loads(cli("publish", "t", "--json").stderr)["error"]
    assert error["code"] == "store_unusable"
