"""Patterns 10, 21 and 22: cycles of any shape, loops, and workflows that start themselves."""

from __future__ import annotations

import pytest
from playing import lasts, pattern, play


@pytest.mark.parametrize(
    ("has_draft", "verdicts", "order", "result"),
    [
        (False, ["accept"], ["write", "review", "publish"], "publish"),
        (True, ["accept"], ["review", "publish"], "publish"),
        (True, ["no"], ["review", "shelve"], "shelve"),
        (
            True,
            ["rewrite", "correct", "correct", "accept"],
            ["review", "write", "review", "correct", "review", "correct", "review", "publish"],
            "publish",
        ),
        (
            False,
            ["correct", "rewrite", "no"],
            ["write", "review", "correct", "review", "write", "review", "shelve"],
            "shelve",
        ),
    ],
)
def test_pattern_10_cycles_with_several_ways_in_and_out_are_gone_through_as_the_data_say(
    has_draft: bool, verdicts: list[str], order: list[str], result: str
) -> None:
    played = play(pattern(10), {"review": [lasts(1, verdict) for verdict in verdicts]}, {"has_draft": has_draft})
    assert played.order == order
    assert played.most_at_once(set(order)) == 1
    assert played.result == result


def test_pattern_10_a_way_back_is_taken_no_more_often_than_it_may_be() -> None:
    played = play(pattern(10), {"review": "rewrite"}, {"has_draft": False})
    assert played.times("write") == 1 + 5
    assert played.status == "failed"
    assert "5" in played.error


def test_pattern_21_a_loop_looks_at_its_condition_before_or_after_each_round() -> None:
    played = play(
        pattern(21),
        {"burn": lambda degrees: degrees + 60, "taste": ["raw", "raw", "done"]},
        {"degrees": 20},
    )
    assert [given["degrees"] for given in played.inputs("burn")] == [20, 80, 140]
    assert played.began("taste") == [3 + 600, 3 + 601 + 600, 3 + 1202 + 600]
    assert played.result == {"heated": 3, "baked": 3}


def test_pattern_21_a_condition_looked_at_before_may_let_no_round_begin_and_one_after_lets_one() -> None:
    played = play(pattern(21), {"taste": "done"}, {"degrees": 300})
    assert played.order == ["taste"]
    assert played.result == {"heated": 0, "baked": 1}


def test_pattern_22_a_workflow_starts_itself_as_deep_as_the_data_are() -> None:
    tree = {"/": (1, ["/a", "/b"]), "/a": (10, ["/a/x"]), "/a/x": (100, []), "/b": (1000, [])}
    played = play(
        pattern(22),
        {
            "look": lambda folder: {"files": tree[folder][0], "folders": tree[folder][1]},
            "total": lambda files, below: files + sum(below),
        },
        {"folder": "/"},
    )
    assert played.result == 1111
    assert played.times("look") == 4
    assert len({attempt.run for attempt in played.attempts}) == 4
    assert played.began("look") == [0, 1, 1, 2]
