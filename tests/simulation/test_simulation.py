"""Does the engine keep its promises when processes die, freeze, lose their store and come back?"""

from __future__ import annotations

import gc

import pytest

from stepwell.testing.simulation import main, simulate

CHUNK = 100


@pytest.mark.parametrize("start", range(0, 500, CHUNK))
def test_every_promise_holds_in_hundreds_of_simulated_histories(start: int) -> None:
    gc.collect()
    for seed in range(start, start + CHUNK):
        simulate(seed)  # what it raises names the seed and tells what happened


@pytest.mark.campaign
@pytest.mark.parametrize("start", range(500, 4_000, 500))
def test_every_promise_holds_in_many_more(start: int) -> None:
    for seed in range(start, start + 500):
        simulate(seed)


@pytest.mark.parametrize("seed", [3, 11, 42])
def test_a_seed_gives_the_same_history_every_time(seed: int) -> None:
    assert simulate(seed) == simulate(seed)


def test_the_command_says_how_many_seeds_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3"]) == 0
    assert capsys.readouterr().out == "3 seeds, 0 failed\n"
