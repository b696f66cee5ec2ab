"""Patterns 11, 19, 20, 25 and 43: what is withdrawn, and when a run is over."""

from __future__ import annotations

from playing import lasts, pattern, play

DAY = 86400


def test_pattern_11_a_run_ends_when_nothing_is_left_to_do_now_or_later() -> None:
    played = play(pattern(11), {"bill": lasts(100)}, until="2d")
    assert played.status == "waiting"
    played = play(pattern(11), {"bill": lasts(100)})
    assert played.done == [("order", 1), ("ship", 2), ("bill", 101), ("survey", 2 * DAY + 3)]
    assert played.status == "completed"
    assert played.length == 2 * DAY + 3


def test_pattern_19_a_task_that_has_begun_is_stopped() -> None:
    played = play(pattern(19), {"research": lasts(60)})
    assert played.how("research") == ["cancelled"]
    assert played.ended("research") == [1 + 5]
    assert played.inputs("decide") == [{"found": "nothing"}]
    assert played.began("decide") == [6]
    assert played.status == "completed"


def test_pattern_19_a_task_that_has_ended_stays_so() -> None:
    played = play(pattern(19), {"research": lasts(2, "much")})
    assert played.inputs("decide") == [{"found": "much"}]
    assert played.began("decide") == [6]


def test_pattern_20_a_run_is_removed_from_inside_with_all_that_it_does() -> None:
    played = play(
        pattern(20), {"check": lasts(2), "value": lasts(60)}, then=[("10s", lambda run: run.signal("withdrawn"))]
    )
    assert played.status == "failed"
    assert "the customer has withdrawn the claim" in played.error
    assert played.how("value") == ["cancelled"]
    assert played.ended("value") == [10]
    assert played.times("pay") == 0


def test_pattern_20_a_run_is_removed_from_outside_with_all_that_it_does() -> None:
    played = play(pattern(20), {"check": lasts(2), "value": lasts(60)}, then=[("10s", lambda run: run.run.cancel())])
    assert played.status == "cancelled"
    assert played.how("value") == ["cancelled"]
    assert played.times("pay") == 0
    assert not played.run.waiting_for


def test_pattern_20_a_run_that_nobody_removes_completes() -> None:
    played = play(pattern(20))
    assert played.order == ["check", "value", "pay"]
    assert played.status == "completed"


def test_pattern_25_all_nodes_of_a_region_are_withdrawn_and_the_others_go_on() -> None:
    played = play(
        pattern(25),
        {"hotel": lasts(60), "car": lasts(2), "flight": lasts(10)},
        then=[("5s", lambda run: run.signal("stay_with_us"))],
    )
    assert played.how("hotel") == ["cancelled"]
    assert played.ended("hotel") == [5]
    assert played.times("breakfast") == 0
    assert played.how("car") == ["done"]
    assert played.began("visa") == [1 + 10]
    assert played.began("travel") == [12]
    assert played.status == "completed"


def test_pattern_25_without_the_signal_nothing_is_withdrawn() -> None:
    played = play(pattern(25), {"hotel": lasts(20)})
    assert played.began("travel") == [1 + 20 + 1]
    assert {attempt.how for attempt in played.attempts} == {"done"}


def test_pattern_43_a_run_ends_when_a_certain_node_is_reached() -> None:
    played = play(pattern(43), {"search_here": lasts(3, "here"), "search_there": lasts(60)})
    assert played.status == "completed"
    assert played.result == "here"
    assert played.length == 3
    assert played.how("search_there") == ["cancelled"]
    assert played.times("rest") == 0


def test_pattern_43_what_was_done_before_that_node_stays_done() -> None:
    played = play(pattern(43), {"search_here": lasts(9, "here"), "search_there": lasts(2)})
    assert played.order == ["search_here", "search_there", "rest"]
    assert played.how("rest") == ["done"]
    assert played.length == 9
