"""What graphs do, as tables: the rows of `behaviours/*.yaml`, each a small graph and what must be seen of its run.

`in_time` marks those whose end depends on how long things take, so that a crash may change it.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from playing import WORKED, Act, Happening, Played, play

_PLAYED: dict[str, Played] = {}

TABLES = sorted((Path(__file__).parent / "behaviours").glob("*.yaml"))
KEYS = {
    "behaviour", "graph", "input", "tasks", "ran", "order", "inputs", "how", "skipped", "distinct", "status", "error",
    "result", "length", "happens", "limits", "in_time",
}  # fmt: skip


def _rows() -> list[Any]:
    read = [(table.stem, row) for table in TABLES for row in yaml.safe_load(table.read_text("utf-8"))]
    return [pytest.param(row, id=f"{name}: {row['behaviour']}") for name, row in read]


@pytest.mark.parametrize("row", _rows())
def test_a_graph_does_what_its_row_says(row: dict[str, Any]) -> None:
    assert row.keys() <= KEYS, f"a row has no {row.keys() - KEYS}"
    played = _plain(row)
    seen = _seen(played, row)
    assert seen == {key: row[key] for key in seen}, played.run.table()
    assert row.get("error", "") in (played.error if played.status == "failed" else "")


@pytest.mark.campaign
@pytest.mark.parametrize("row", _rows())
def test_a_graph_that_crashes_in_its_middle_ends_as_it_would_have(row: dict[str, Any]) -> None:
    plain = _plain(row)
    middle = int(plain.length * 500) + 1
    crashed = _play(row, [(f"{middle}ms", lambda played: played.bench.crash())])
    assert crashed.status == plain.status
    done = [attempt.step for attempt in crashed.attempts if attempt.how == "done"]
    assert len(done) == len(set(done)), "what was done is done again"
    if not row.get("in_time"):
        assert set(done) == {attempt.step for attempt in plain.attempts if attempt.how == "done"}
        assert plain.status != "completed" or crashed.result == plain.result


def _plain(row: dict[str, Any]) -> Played:
    """How a row's graph runs when nothing crashes; looked at twice and played once."""
    name = row["behaviour"]
    if name not in _PLAYED:
        _PLAYED[name] = _play(row)
    return _PLAYED[name]


def _play(row: dict[str, Any], also: Sequence[Happening] = ()) -> Played:
    tasks = row.get("tasks", {}).items()
    acts = {name: [_act(one) for one in (said if isinstance(said, list) else [said])] for name, said in tasks}
    then = [(moment, _happening(what)) for moment, what in row.get("happens", ())]
    graph = {"stepwell": 1, "id": "graph", **row["graph"]}
    return play(graph, acts, row.get("input"), then=[*then, *also])


def _seen(played: Played, row: dict[str, Any]) -> dict[str, Any]:
    """What was seen of the run of all that the row speaks of."""
    seen: dict[str, Any] = {key: {name: view(name) for name in row.get(key, {})} for key, view in _views(played)}
    seen |= {
        "order": played.order,
        "skipped": sorted(played.skipped),
        "status": played.status,
        "length": played.length,
    }
    if "result" in row:
        seen["result"] = played.result
    for name in row.get("distinct", ()):
        assert len({attempt.step for attempt in played.of(name)}) == played.times(name)
    for names, most in row.get("limits", ()):
        assert played.most_at_once(names) == most
    row.setdefault("status", "completed")
    if "skipped" in row:
        row["skipped"] = sorted(row["skipped"])
    return {key: value for key, value in seen.items() if key in row}


def _views(played: Played) -> Any:
    return (("ran", played.began), ("inputs", played.inputs), ("how", played.how))


def _happening(what: Any) -> Callable[[Played], object]:
    match what:
        case "cancel":
            return lambda played: played.run.cancel()
        case {"signal": name}:
            return lambda played: played.signal(name, what.get("payload"))
        case {"publish": topic}:
            return lambda played: played.publish(topic, what.get("payload"))
    raise AssertionError(f"nothing is known that happens like {what}")


def _act(said: dict[str, Any]) -> Act:
    assert said.keys() <= {"lasts", "gives", "fails"}
    if "fails" in said:
        return Act(said.get("lasts", 1), _error(said["fails"]))
    return Act(said.get("lasts", 1), said.get("gives", WORKED))


def _error(text: str) -> Exception:
    """`ValueError: text` is one of those; other text is a RuntimeError."""
    kind, _, message = text.partition(": ")
    return getattr(builtins, kind)(message) if message else RuntimeError(text)
