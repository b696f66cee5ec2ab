"""Every pattern under crashes: the run ends as it would have, and no step that was done is done again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from playing import Played, lasts, pattern, play

TREE = {"/": (1, ["/a", "/b"]), "/a": (10, []), "/b": (100, [])}

STORIES: dict[int, dict[str, Any]] = {
    4: {"input": {"size": "large"}},
    5: {"input": {"online": True}},
    6: {"input": {"injured": 1, "crime": True}},
    7: {"input": {"injured": 1, "crime": True}},
    10: {"input": {"has_draft": True}, "tasks": {"review": ["rewrite", "correct", "accept"]}},
    12: {"input": {"guests": ["a", "b"]}},
    14: {"tasks": {"unload": {"boxes": ["x", "y"]}}},
    15: {"input": {"boxes": ["a", "b"]}, "then": [("500ms", lambda run: run.signal("another_box", "c"))]},
    16: {"then": [("3s", lambda run: run.signal("accepted"))]},
    18: {"tasks": {"come": lasts(lambda who: {"anna": 1, "bert": 2, "cleo": 9}[who])}},
    19: {"tasks": {"research": lasts(60)}},
    20: {"tasks": {"value": lasts(60)}, "then": [("5s", lambda run: run.signal("withdrawn"))]},
    21: {"input": {"degrees": 50}, "tasks": {"burn": lambda degrees: degrees + 60, "taste": ["raw", "done"]}},
    22: {
        "input": {"folder": "/"},
        "tasks": {
            "look": lambda folder: {"files": TREE[folder][0], "folders": TREE[folder][1]},
            "total": lambda files, below: files + sum(below),
        },
    },
    23: {"then": [("5s", lambda run: run.publish("doorbell"))]},
    24: {"then": [("500ms", lambda run: run.signal("letter")), ("700ms", lambda run: run.publish("news"))]},
    25: {"tasks": {"hotel": lasts(60)}, "then": [("5s", lambda run: run.signal("stay_with_us"))]},
    26: {"input": {"people": [1, 2, 3]}, "then": [("1500ms", lambda run: run.signal("stop"))]},
    27: {"input": {"people": [1, 2, 3]}, "then": [("1500ms", lambda run: run.signal("enough"))]},
    34: {"input": {"people": [1, 2, 3]}},
    35: {"input": {"people": [1, 2, 3]}},
    36: {
        "input": {"people": [1, 2], "enough": 3},
        "then": [("500ms", lambda run: run.signal("another_person", 3))],
    },
    37: {"input": {"letters": True, "parcels": True, "pallets": False}},
    38: {"input": {"pictures": True}, "tasks": {"edit": ["bad", "good"], "draw": lasts(2)}},
    43: {"tasks": {"search_there": lasts(60)}},
}

OVERTAKEN = {9, 28, 29, 30, 31, 32, 34, 35, 36}
"""Patterns in which the first to come win: others may come first when what was in flight begins anew."""


@pytest.mark.parametrize("number", range(1, 44))
def test_a_run_that_crashes_in_its_middle_ends_as_it_would_have(number: int) -> None:
    story = {"tasks": {}, "then": [], **STORIES.get(number, {})}
    plain = play(pattern(number), **story)
    middle = max(1, int(plain.length * 500))
    crash = (f"{middle}ms", lambda run: run.bench.crash())
    crashed = play(pattern(number), **{**story, "then": [*story["then"], crash]})
    assert crashed.status == plain.status
    assert not [step for step, times in _done(crashed).items() if times > 1]
    assert _done(crashed).keys() == _done(plain).keys() or number in OVERTAKEN
    if plain.status == "completed" and number not in OVERTAKEN:
        assert crashed.result == plain.result


def _done(played: Played) -> Counter[tuple[str, str]]:
    return Counter((attempt.run, attempt.step) for attempt in played.attempts if attempt.how == "done")
