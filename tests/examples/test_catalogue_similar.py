"""Finding what looks alike: groups agree with the truth, pairs are counted rightly, memory is bounded by blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell.examples.catalogue import similar
from stepwell.examples.catalogue.features import features
from stepwell.examples.catalogue.images import GeneratedPictures, choose
from stepwell.examples.catalogue.photo import photograph
from stepwell.examples.catalogue.records import Features, Score, Similar
from stepwell.examples.catalogue.similar import connected, find_groups, score_groups
from stepwell.examples.catalogue.stock import Stock, pictures_needed

ITEMS = 240


@pytest.fixture(scope="module")
def shop() -> Stock:
    pictures = GeneratedPictures(900)
    chosen = choose(pictures, pictures_needed(ITEMS), 5)
    return Stock(ITEMS, 5, chosen, [pictures.title(number) for number in chosen])


@pytest.fixture(scope="module")
def photographs(shop: Stock, tmp_path_factory: pytest.TempPathFactory) -> list[Features]:
    path: Path = tmp_path_factory.mktemp("photographs") / "photo"
    seen = []
    for number in range(1, ITEMS + 1):
        path.write_bytes(photograph(GeneratedPictures(900), shop.item(number).look))
        seen.append(features(number, path))
    return seen


def groups_of(photographs: list[Features], threshold: float = similar.THRESHOLD) -> Similar:
    return find_groups([one.number for one in photographs], [one.shape for one in photographs], threshold)


def test_the_groups_of_a_shop_are_found(shop: Stock, photographs: list[Features]) -> None:
    found = groups_of(photographs)
    score = score_groups([group.members for group in found.groups], shop.truth(), range(1, ITEMS + 1))
    assert score.precision > 0.9
    assert score.recall > 0.9


def test_every_member_carries_its_best_similarity_which_is_over_the_threshold(photographs: list[Features]) -> None:
    found = groups_of(photographs)
    assert all(len(group.members) == len(group.scores) for group in found.groups)
    assert all(found.threshold <= round(score, 2) <= 1 for group in found.groups for score in group.scores)
    assert [len(group.members) for group in found.groups] == sorted(
        (len(group.members) for group in found.groups), reverse=True
    )


def test_the_size_of_the_blocks_does_not_change_what_is_found(
    photographs: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = groups_of(photographs)
    monkeypatch.setattr(similar, "_CELLS_AT_ONCE", 1)
    monkeypatch.setattr(similar, "_PAIRS_AT_ONCE", 7)
    assert [group.members for group in groups_of(photographs).groups] == [group.members for group in whole.groups]


def test_the_order_of_the_photographs_does_not_change_what_is_found(photographs: list[Features]) -> None:
    forward = {frozenset(group.members) for group in groups_of(photographs).groups}
    assert {frozenset(group.members) for group in groups_of(photographs[::-1]).groups} == forward


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_photographs_have_no_groups(photographs: list[Features], count: int) -> None:
    assert groups_of(photographs[:count]).groups == []


def test_photographs_that_are_all_different_have_no_groups(shop: Stock, photographs: list[Features]) -> None:
    paired = {number for group in shop.truth() for number in group}
    alone = [one for one in photographs if one.number not in paired][:5]
    assert groups_of(alone, threshold=0.999).groups == []


def test_links_join_sets_however_long_the_chain() -> None:
    assert connected(6, [(4, 3), (0, 1), (3, 5)]) == [[0, 1], [3, 4, 5]]
    assert connected(5_000, ((at, at + 1) for at in range(4_999))) == [list(range(5_000))]
    assert connected(3, []) == []


def test_pairs_are_counted_only_among_known_products() -> None:
    truth = [[1, 2, 3], [4, 5]]
    assert score_groups([[1, 2, 3], [4, 5]], truth, range(1, 10)) == Score(4, 4, 4)
    assert score_groups([[1, 2, 4]], truth, range(1, 10)) == Score(true_pairs=4, found_pairs=3, correct_pairs=1)
    assert score_groups([[1, 2, 3]], truth, [1, 2, 4]) == Score(true_pairs=1, found_pairs=1, correct_pairs=1)
    assert score_groups([[7, 8]], truth, range(1, 10)) == Score(true_pairs=4, found_pairs=1, correct_pairs=0)


def test_a_score_without_pairs_is_perfect_not_a_division_by_zero() -> None:
    empty = score_groups([], [], [])
    assert (empty.precision, empty.recall) == (1.0, 1.0)
