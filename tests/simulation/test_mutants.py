"""Does the simulator notice a broken engine?"""

from __future__ import annotations

import pytest
from mutants import MUTANTS, Mutant, first_failure, mutated

SEEDS = range(1500)


@pytest.mark.campaign
@pytest.mark.parametrize("mutant", [one for one in MUTANTS if not one.survives], ids=lambda one: one.name)
def test_a_broken_engine_is_caught(mutant: Mutant) -> None:
    assert first_failure(mutant, SEEDS) is not None, f"no seed of {SEEDS} notices that {mutant.name}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_every_mutant_fits_the_engine_of_today(mutant: Mutant) -> None:
    with mutated(mutant):
        pass
