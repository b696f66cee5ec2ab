"""Does the simulator notice a broken engine?"""

from __future__ import annotations

import pytest
from mutants import MUTANTS, Mutant, first_failure, mutated

SEEDS = range(1000)

RARE = {
    "an append behind a refused one is given up",
    "messages of this process overtake those of others",
    "exit runs keep their children to themselves",
    "messages that come while a run is picked up are dropped",
    "a completed child is silent to a parent that is retried",
    "a paused run holds its place",
    "what was done on the way out is taken for changed code",
    "a message that overtook another hides it",
    "appends are not fenced by seq",
}
"""Noticed by few seeds, or by another fence first; `python -m stepwell.testing.simulation --seeds 20000` finds them."""

OFTEN = [one for one in MUTANTS if not one.survives and one.name not in RARE]


@pytest.mark.campaign
@pytest.mark.parametrize("mutant", OFTEN, ids=lambda one: one.name)
def test_a_broken_engine_is_caught(mutant: Mutant) -> None:
    assert first_failure(mutant, SEEDS) is not None, f"no seed of {SEEDS} notices that {mutant.name}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_every_mutant_fits_the_engine_of_today(mutant: Mutant) -> None:
    with mutated(mutant):
        pass


def test_what_is_listed_as_rare_exists() -> None:
    assert {one.name for one in MUTANTS} >= RARE
