"""Patterns 16 to 18, 39 and 40: what may run depends on what else has been done, or is being done."""

from __future__ import annotations

import pytest
from playing import Happening, lasts, pattern, play


@pytest.mark.parametrize(
    ("happens", "winner", "task", "at"),
    [
        ((("2h", lambda run: run.signal("accepted")),), "accepted", "book", 7200),
        ((("2d", lambda run: run.publish("sold")),), "sold", "apologise", 2 * 86400),
        ((), "expired", "remind", 3 * 86400 + 1),
    ],
)
def test_pattern_16_the_first_event_decides_and_the_others_are_withdrawn(
    happens: tuple[Happening, ...], winner: str, task: str, at: float
) -> None:
    played = play(pattern(16), then=happens)
    assert played.order == ["offer", task]
    assert played.began(task) == [at]
    assert played.result == winner
    assert not played.run.waiting_for


def test_pattern_16_a_branch_that_was_withdrawn_is_deaf() -> None:
    played = play(
        pattern(16),
        {"book": lasts(100)},
        then=[("10s", lambda run: run.signal("accepted")), ("20s", lambda run: run.publish("sold"))],
    )
    assert played.order == ["offer", "book"]
    assert played.length == 10 + 100


def test_pattern_17_any_order_that_keeps_the_partial_order_and_one_at_a_time() -> None:
    work = ["weigh", "jog", "blood", "discuss"]
    played = play(pattern(17), {"weigh": lasts(2), "jog": lasts(3), "blood": lasts(4), "discuss": lasts(5)})
    assert sorted(played.order[:-1]) == sorted(work)
    assert played.most_at_once(work) == 1
    assert played.order.index("weigh") < played.order.index("jog")
    assert played.order.index("blood") < played.order.index("discuss")
    assert played.began("report") == [14]


def test_pattern_18_only_while_the_run_is_in_the_state_a_task_begins() -> None:
    played = play(pattern(18), {"open": lasts(3), "come": lasts(lambda who: {"anna": 1, "bert": 5, "cleo": 9}[who])})
    assert played.began("close") == [3 + 5]
    assert [(attempt.inputs["who"], attempt.began) for attempt in played.of("enrol")] == [("anna", 3), ("bert", 5)]
    assert played.result == {"anna": "enrol", "bert": "enrol", "cleo": None}


def test_pattern_39_sections_with_the_same_lock_are_never_active_at_the_same_time() -> None:
    played = play(
        pattern(39),
        {"write_a": lasts(1), "write_b": lasts(2), "load_a": lasts(3), "run_a": lasts(4), "load_b": lasts(5)},
    )
    assert played.began("write_b") == [0]
    assert [*played.began("load_a"), *played.began("run_a")] == [1, 4]
    assert [*played.began("load_b"), *played.began("run_b")] == [8, 13]
    assert played.began("bind") == [14]


def test_pattern_40_each_task_runs_once_and_no_two_of_them_at_the_same_time() -> None:
    work = ["oil", "brakes", "lights"]
    played = play(pattern(40), {"oil": lasts(2), "brakes": lasts(3), "lights": lasts(4)})
    assert sorted(played.order[:-1]) == sorted(work)
    assert played.most_at_once(work) == 1
    assert played.began("hand_over") == [9]
