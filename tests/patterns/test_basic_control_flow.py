"""Patterns 1 to 5: one after the other, all at once, all together again, one of several, and on from there."""

from __future__ import annotations

import pytest
from playing import lasts, pattern, play


def test_pattern_01_a_task_begins_when_the_one_before_it_has_ended() -> None:
    played = play(pattern(1), {"pick": lasts(2, "screws"), "pack": lasts(3), "ship": lambda parcel: f"sent {parcel}"})
    assert played.order == ["pick", "pack", "ship"]
    assert [played.began(name) for name in played.order] == [[0], [2], [5]]
    assert played.inputs("pack") == [{"goods": "screws"}]
    assert played.result == "sent pack"


def test_pattern_02_all_branches_of_a_split_run_at_the_same_time() -> None:
    played = play(pattern(2), {"bill": lasts(5), "pack": lasts(3), "thank": lasts(1)})
    assert played.began("bill") == played.began("pack") == played.began("thank") == [1]
    assert played.done == [("order", 1), ("thank", 2), ("pack", 4), ("bill", 6)]
    assert played.length == 6
    assert played.result == {"bill": "bill", "pack": "pack", "thank": "thank"}


@pytest.mark.parametrize(("bill", "pack"), [(1, 4), (4, 1), (2, 2)])
def test_pattern_03_what_follows_begins_once_when_the_last_branch_has_ended(bill: int, pack: int) -> None:
    played = play(pattern(3), {"bill": lasts(bill, "€ 5"), "pack": lasts(pack, "box")})
    assert played.began("ship") == [1 + max(bill, pack)]
    assert played.inputs("ship") == [{"invoice": "€ 5", "parcel": "box"}]


@pytest.mark.parametrize(("size", "taken"), [("small", "letter"), ("large", "parcel"), ("odd", "ask")])
def test_pattern_04_exactly_one_branch_is_taken(size: str, taken: str) -> None:
    played = play(pattern(4), input={"size": size})
    assert played.order == [taken]
    assert played.status == "completed"


@pytest.mark.parametrize(("online", "taken"), [(True, "mail"), (False, "letter")])
def test_pattern_05_what_follows_runs_once_after_the_branch_that_was_taken(online: bool, taken: str) -> None:
    played = play(pattern(5), {taken: lasts(3)}, {"online": online})
    assert played.order == [taken, "file"]
    assert played.began("file") == [3]
