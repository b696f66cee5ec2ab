"""What graphs do, as tables: the rows of `behaviours/*.yaml`, each a small graph and what must be seen of its run."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import yaml
from playing import WORKED, Act, Played, play

TABLES = sorted((Path(__file__).parent / "behaviours").glob("*.yaml"))
KEYS = {
    "behaviour", "graph", "input", "tasks", "ran", "order", "inputs", "how", "skipped", "distinct", "status", "error",
    "result", "length",
}  # fmt: skip


def _rows() -> list[Any]:
    read = [(table.stem, row) for table in TABLES for row in yaml.safe_load(table.read_text("utf-8"))]
    return [pytest.param(row, id=f"{name}: {row['behaviour']}") for name, row in read]


@pytest.mark.parametrize("row", _rows())
def test_a_graph_does_what_its_row_says(row: dict[str, Any]) -> None:
    assert row.keys() <= KEYS, f"a row has no {row.keys() - KEYS}"
    acts = {name: [_act(one) for one in (said if isinstance(said, list) else [said])] for name, said in _tasks(row)}
    played = play({"stepwell": 1, "id": "graph", **row["graph"]}, acts, row.get("input"))
    seen = _seen(played, row)
    assert seen == {key: row[key] for key in seen}, played.run.table()
    assert row.get("error", "") in (played.error if played.status == "failed" else "")


def _tasks(row: dict[str, Any]) -> Any:
    return row.get("tasks", {}).items()


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
    row.setdefault("status", "completed")
    if "skipped" in row:
        row["skipped"] = sorted(row["skipped"])
    return {key: value for key, value in seen.items() if key in row}


def _views(played: Played) -> Any:
    return (("ran", played.began), ("inputs", played.inputs), ("how", played.how))


def _act(said: dict[str, Any]) -> Act:
    assert said.keys() <= {"lasts", "gives", "fails"}
    if "fails" in said:
        return Act(said.get("lasts", 1), _error(said["fails"]))
    return Act(said.get("lasts", 1), said.get("gives", WORKED))


def _error(text: str) -> Exception:
    """`ValueError: text` is one of those; other text is a RuntimeError."""
    kind, _, message = text.partition(": ")
    return getattr(builtins, kind)(message) if message else RuntimeError(text)
