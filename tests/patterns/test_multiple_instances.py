"""Patterns 12 to 15, 26, 27 and 34 to 36: many instances of one task, how they begin and what their end is."""

from __future__ import annotations

from playing import Played, lasts, pattern, play


def test_pattern_12_nothing_waits_for_the_instances() -> None:
    played = play(pattern(12), {"mail": [lasts(5), lasts(3), lasts(9)]}, {"guests": ["a", "b", "c"]})
    assert played.began("mail") == [0, 0, 0]
    assert played.began("cook") == [0]
    assert played.how("mail") == ["done"] * 3
    assert played.length == 9
    assert played.result == "cook"


def test_pattern_13_what_follows_waits_for_all_the_instances_that_the_definition_says() -> None:
    played = play(pattern(13), {"sign": [lasts(4, "Ann"), lasts(1, "Bob"), lasts(2, "Cal")]})
    assert played.began("sign") == [0, 0, 0]
    assert [given["number"] for given in played.inputs("sign")] == [0, 1, 2]
    assert played.began("publish") == [4]
    assert played.inputs("publish") == [{"signatures": ["Ann", "Bob", "Cal"]}]


def test_pattern_14_there_are_as_many_instances_as_the_run_has_found() -> None:
    played = play(
        pattern(14),
        {"unload": {"boxes": ["x", "y"]}, "open": [lasts(1), lasts(5)], "weigh": lambda box: f"{box} 3 kg"},
    )
    assert played.inputs("open") == [{"box": "x"}, {"box": "y"}]
    assert played.began("weigh") == [1 + 1, 1 + 5]
    assert played.began("report") == [7]
    assert played.inputs("report") == [{"weights": ["x 3 kg", "y 3 kg"]}]


def test_pattern_14_without_any_instance_what_follows_begins_at_once() -> None:
    played = play(pattern(14), {"unload": {"boxes": []}})
    assert played.order == ["unload", "report"]
    assert played.inputs("report") == [{"weights": []}]


def test_pattern_15_instances_are_added_while_others_run_and_what_follows_waits_for_all() -> None:
    played = play(
        pattern(15),
        {"unload": lasts(4, lambda box: box.upper())},
        {"boxes": ["a", "b"]},
        then=[("1s", lambda run: run.signal("another_box", "c")), ("5s", lambda run: run.signal("another_box", "d"))],
    )
    assert played.inputs("unload") == [{"box": name} for name in "abc"]
    assert played.began("unload") == [0, 0, 1]
    assert played.began("sail") == [5]
    assert played.inputs("sail") == [{"unloaded": ["A", "B", "C"]}]


def test_pattern_26_instances_that_have_not_ended_are_withdrawn_and_nothing_follows() -> None:
    played = play(
        pattern(26),
        {"interview": [lasts(1), lasts(9), lasts(9), lasts(9)]},
        {"people": ["a", "b", "c", "d"]},
        then=[("3s", lambda run: run.signal("stop"))],
    )
    assert played.how("interview") == ["done", "cancelled", "cancelled"]
    assert played.ended("interview") == [1, 3, 3]
    assert played.times("evaluate") == 0
    assert played.began("apologise") == [3]
    assert played.status == "completed"


def test_pattern_26_without_a_signal_all_instances_end_and_what_follows_is_done() -> None:
    played = play(pattern(26), {"interview": lasts(2)}, {"people": ["a", "b", "c", "d"]})
    assert played.began("evaluate") == [4]
    assert played.times("apologise") == 0
    assert played.status == "completed"


def test_pattern_27_instances_that_have_not_ended_are_withdrawn_and_what_follows_has_the_others() -> None:
    played = play(
        pattern(27),
        {"interview": [lasts(1, "fine"), lasts(9), lasts(9), lasts(9)], "evaluate": lambda answers: answers},
        {"people": ["a", "b", "c", "d"]},
        then=[("3s", lambda run: run.signal("enough"))],
    )
    assert played.how("interview") == ["done", "cancelled", "cancelled"]
    assert played.began("evaluate") == [3]
    assert played.result == ["fine", None, None, None]


def test_pattern_27_without_a_signal_what_follows_waits_for_all_instances() -> None:
    played = play(pattern(27), {"interview": lasts(2), "evaluate": lambda answers: len(answers)}, {"people": [1, 2, 3]})
    assert played.began("evaluate") == [4]
    assert played.result == 3


def test_pattern_34_n_instances_start_what_follows_and_the_others_run_on_for_nothing() -> None:
    played = play(
        pattern(34),
        {"opinion": [lasts(5, "late"), lasts(1, "yes"), lasts(2, "no")]},
        {"people": ["a", "b", "c"]},
    )
    assert played.began("decide") == [2]
    assert played.inputs("decide") == [{"opinions": [None, "yes", "no"]}]
    assert played.how("opinion") == ["done"] * 3
    assert played.length == 5


def test_pattern_35_n_instances_start_what_follows_and_the_others_are_cancelled() -> None:
    played = play(
        pattern(35),
        {"opinion": [lasts(5, "late"), lasts(1, "yes"), lasts(2, "no")]},
        {"people": ["a", "b", "c"]},
    )
    assert played.began("decide") == [2]
    assert played.how("opinion") == ["cancelled", "done", "done"]
    assert played.ended("opinion") == [2, 1, 2]
    assert played.length == 3


def _ask_another(run: Played) -> None:
    run.signal("another_person", "later")


def test_pattern_36_a_condition_over_instances_old_and_new_says_when_what_follows_begins() -> None:
    played = play(
        pattern(36),
        {"opinion": [lasts(2, 1), lasts(9, 2), lasts(3, 3), lasts(1, 4)]},
        {"people": ["a", "b"], "enough": 3},
        then=[("1s", _ask_another), ("5s", _ask_another), ("7s", _ask_another)],
    )
    assert played.began("opinion") == [0, 0, 1, 5]
    assert played.began("decide") == [6]
    assert played.inputs("decide") == [{"opinions": [1, None, 3, 4]}]
    assert played.how("opinion") == ["done"] * 4
    assert played.length == 9


def test_pattern_36_when_all_instances_have_ended_what_follows_begins_in_any_case() -> None:
    played = play(pattern(36), {"opinion": [lasts(2, 1), lasts(4, 2)]}, {"people": ["a", "b"], "enough": 5})
    assert played.began("decide") == [4]
