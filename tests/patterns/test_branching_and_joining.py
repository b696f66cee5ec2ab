"""Patterns 6 to 9, 28 to 33, 37, 38, 41 and 42: which branches are taken, and what a join makes of those that come."""

from __future__ import annotations

from typing import Any

import pytest
from playing import lasts, pattern, play

CREWS = {"injured": "ambulance", "fire": "engine", "crime": "police"}


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        ({"injured": 2}, ["ambulance"]),
        ({"injured": 1, "fire": True}, ["ambulance", "engine"]),
        ({"injured": 3, "fire": True, "crime": True}, ["ambulance", "engine", "police"]),
        ({"injured": 0, "fire": False}, ["note"]),
    ],
)
def test_pattern_06_every_branch_whose_condition_holds_is_taken(call: dict[str, Any], sent: list[str]) -> None:
    played = play(pattern(6), input=call)
    assert sorted(played.order) == sent
    assert {attempt.began for attempt in played.attempts} == {0}


@pytest.mark.parametrize(
    ("call", "report"),
    [({"injured": 2}, 7), ({"fire": True}, 2), ({"injured": 1, "fire": True}, 7), ({"fire": True, "crime": True}, 4)],
)
def test_pattern_07_what_follows_waits_for_exactly_the_branches_that_were_taken(
    call: dict[str, Any], report: float
) -> None:
    played = play(pattern(7), {"ambulance": lasts(7), "engine": lasts(2), "police": lasts(4)}, call)
    assert sorted(played.order[:-1]) == sorted(CREWS[name] for name in call)
    assert played.began("report") == [report]


def test_pattern_07_when_no_branch_is_taken_what_follows_is_not_done() -> None:
    played = play(pattern(7), input={"injured": 0})
    assert played.order == []
    assert played.status == "completed"


def test_pattern_08_what_follows_runs_once_for_each_branch_without_waiting_for_others() -> None:
    played = play(pattern(8), {"walls": lasts(1), "roof": lasts(4), "pipes": lasts(2), "inspect": lasts(10)})
    assert played.began("inspect") == [2, 3, 5]
    assert len({attempt.step for attempt in played.of("inspect")}) == 3
    assert played.most_at_once(["inspect"]) == 3


def test_pattern_09_the_first_branch_starts_what_follows_and_the_other_is_absorbed() -> None:
    played = play(pattern(9), {"pulse": [lasts(1), lasts(5)], "breath": [lasts(4), lasts(2)]})
    assert played.began("triage") == [1, 4 + 2]
    assert played.how("pulse") == played.how("breath") == ["done", "done"]


def test_pattern_09_the_next_round_begins_only_when_all_branches_have_come() -> None:
    played = play(pattern(9), {"pulse": lasts(1), "breath": lasts(4)})
    assert played.began("pulse") == played.began("breath") == [0, 4]
    assert played.length == 8


def test_pattern_28_the_second_coming_of_a_branch_waits_until_all_have_come_once() -> None:
    played = play(pattern(28), {"camera": [lasts(1), lasts(2)], "scale": [lasts(5), lasts(6)]})
    assert played.began("open_gate") == [1 + 1, 1 + 5]
    assert set(played.how("camera") + played.how("scale")) == {"done"}


@pytest.mark.parametrize(
    ("north", "south", "stopped", "answer"),
    [(2, 9, "south", 3), (9, 2, "north", 1 + 2 + 1)],
)
def test_pattern_29_the_first_branch_starts_what_follows_and_the_others_are_cancelled(
    north: int, south: int, stopped: str, answer: int
) -> None:
    played = play(pattern(29), {"north": lasts(north), "south": lasts(south)})
    assert played.began("answer") == [answer]
    assert played.how(stopped) == ["cancelled"]
    assert played.ended(stopped) == [answer]
    assert played.times("drive") == (1 if stopped == "north" else 0)
    assert played.length == answer + 1


def test_pattern_30_n_branches_start_what_follows_and_the_rest_is_absorbed() -> None:
    played = play(pattern(30), {"anna": lasts(6), "bert": lasts(2), "cleo": lasts(3)})
    assert played.began("publish") == [1 + 3]
    assert played.how("anna") == ["done"]
    assert played.length == 1 + 6


def test_pattern_31_the_second_coming_of_branches_waits_until_all_have_come_once() -> None:
    played = play(
        pattern(31),
        {"anna": [lasts(1), lasts(2)], "bert": [lasts(3), lasts(9)], "cleo": [lasts(5), lasts(6)]},
    )
    assert played.began("publish") == [1 + 3, 1 + 6]
    assert [attempt.how for attempt in played.attempts] == ["done"] * 9


def test_pattern_31_a_round_that_has_all_it_needs_begins_as_soon_as_the_one_before_it_is_over() -> None:
    played = play(
        pattern(31),
        {"anna": [lasts(1), lasts(2)], "bert": [lasts(3), lasts(4)], "cleo": [lasts(8), lasts(9)]},
    )
    assert played.began("publish") == [1 + 3, 1 + 8]


def test_pattern_32_n_branches_start_what_follows_and_the_rest_is_cancelled() -> None:
    played = play(pattern(32), {"anna": lasts(2), "bert": lasts(4), "cleo": lasts(3), "dora": lasts(8)})
    assert played.began("publish") == [1 + 4]
    assert played.how("dora") == ["cancelled"]
    assert played.ended("dora") == [1 + 4]


def test_pattern_32_what_has_not_begun_in_a_branch_that_is_cancelled_never_does() -> None:
    played = play(pattern(32), {"anna": lasts(2), "bert": lasts(2), "cleo": lasts(5)})
    assert played.how("cleo") == ["cancelled"]
    assert played.times("dora") == 0


def test_pattern_33_each_round_takes_one_token_of_every_branch_and_keeps_the_others() -> None:
    played = play(
        pattern(33),
        {"wheel": [lasts(1), lasts(2), lasts(3)], "frame": [lasts(5), lasts(9), lasts(20)]},
    )
    assert played.began("assemble") == [1 + 5, 1 + 9, 1 + 20]


@pytest.mark.parametrize(
    ("letters", "parcels", "pallets", "van", "truck", "close"),
    [
        (True, False, False, 2, None, 3),
        (False, True, False, 5, 5, 6),
        (False, False, True, None, 9, 10),
        (True, True, False, 5, 5, 6),
        (True, False, True, 2, 9, 10),
        (True, True, True, 5, 9, 10),
    ],
)
def test_pattern_37_every_join_waits_for_the_paths_that_are_taken_however_they_were_split(
    letters: bool, parcels: bool, pallets: bool, van: int | None, truck: int | None, close: int
) -> None:
    played = play(
        pattern(37),
        {"stamp": lasts(2), "weigh": lasts(5), "lift": lasts(9)},
        {"letters": letters, "parcels": parcels, "pallets": pallets},
    )
    assert played.began("van") == ([] if van is None else [van])
    assert played.began("truck") == ([] if truck is None else [truck])
    assert played.began("close") == [close]


def test_pattern_38_a_join_waits_for_all_that_can_still_come_and_for_nothing_that_cannot() -> None:
    played = play(
        pattern(38),
        {"write": lasts(2), "draw": lasts(5), "edit": ["bad", "bad", "good"]},
        {"pictures": True},
    )
    assert played.began("edit") == [5, 5 + 1 + 2, 8 + 1 + 2]
    assert played.times("draw") == played.times("print") == 1
    assert played.status == "completed"


def test_pattern_38_a_join_does_not_wait_for_a_branch_that_was_not_taken() -> None:
    played = play(pattern(38), {"write": lasts(2), "edit": ["bad", "good"]}, {"pictures": False})
    assert played.began("edit") == [2, 2 + 1 + 2]
    assert played.times("draw") == 0


def test_pattern_41_so_many_threads_of_one_branch_become_one() -> None:
    played = play(pattern(41), {"paint": [lasts(1), lasts(2), lasts(5), lasts(9)]})
    assert played.began("paint") == [1] * 4
    assert played.began("pack") == [1 + 2, 1 + 9]


def test_pattern_42_one_thread_becomes_so_many_of_the_same_branch() -> None:
    played = play(pattern(42), {"ticket": [lasts(1), lasts(2), lasts(3)]})
    assert played.began("ticket") == [1, 1, 1]
    assert len({attempt.step for attempt in played.of("ticket")}) == 3
