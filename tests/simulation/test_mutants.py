"""Does the simulator notice a broken engine?"""

from __future__ import annotations

import pytest
from mutants import MUTANTS, Mutant, first_failure, mutated

SEEDS = range(400)

RARE = {
    "a body does not hear that its question was taken back",
    "a caller that gives up waiting keeps the engine from its new run",
    "a claim keeps the old epoch",
    "a completed child is silent to a parent that is retried",
    "a container does not wait for what is in it",
    "a full queue keeps children from their parents",
    "a late answer of the store shows taken messages again",
    "a live chunk overtakes those before it",
    "a message that overtook another hides it",
    "a node does not wait for the child that it gives up",
    "a paused run holds its place",
    "a paused run starts attempts",
    "a rebuilt graph publishes again",
    "a retry that goes on undoing withdraws the cancellation",
    "a run of which a scope was undone goes on",
    "an answer that is there already overtakes earlier ones",
    "an append behind a refused one is given up",
    "an edit is not seen",
    "an event that is there keeps no others from waiting",
    "appends are not fenced by seq",
    "claiming ends with the first trouble",
    "exit runs keep their children to themselves",
    "losers go on waiting",
    "messages go to a runner on its way out",
    "messages of this process overtake those of others",
    "messages that come while a run is picked up are dropped",
    "refused appends are offered again in any order",
    "resuming asks again for what has just ended",
    "resuming does not ask for steps again",
    "trouble while a run is picked up loses it",
    "trouble while the graph of a claimed run is loaded loses the run",
    "what a transaction writes is on disk before its start",
    "what goes on in a block is undone beside it",
    "what is published during a scan is missed",
    "what undoes a cancelled run is not tried again",
}
"""Noticed by few seeds, or by another fence first: thousands find some of them, scenarios and conformance others."""

UNTRIED = {
    "a compensation that failed for good can be passed over",
    "a deadline passes unseen",
    "a rebuilt body says again that it publishes",
    "a rebuilt subscription begins with the first event",
    "a run that was undone is retried",
    "a second cancellation stops the undoing",
    "a transaction whose outcome nobody wanted is done again",
    "another than the winner wins",
    "live chunks are read again from the journal",
    "one more goes into a queue than may",
    "room in a queue is not noticed",
    "runs that went by a change go back",
    "several waits are satisfied before the body moves",
    "the end of a child is not waited for",
    "the last chunks are left out",
    "two waits of a subscription get the same event",
    "what a body leaves behind is not waited for",
    "what a transaction wrote stays when it is rolled back",
    "what is undone because something beside it failed does not count",
}
"""How many seeds these take has not been measured; one of them keeps a simulated process busy for ever."""

OFTEN = [one for one in MUTANTS if not one.survives and one.name not in RARE | UNTRIED]


@pytest.mark.campaign
@pytest.mark.parametrize("mutant", OFTEN, ids=lambda one: one.name)
def test_a_broken_engine_is_caught(mutant: Mutant) -> None:
    assert first_failure(mutant, SEEDS) is not None, f"no seed of {SEEDS} notices that {mutant.name}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_every_mutant_fits_the_engine_of_today(mutant: Mutant) -> None:
    with mutated(mutant):
        pass


def test_what_is_listed_as_rare_exists() -> None:
    assert {one.name for one in MUTANTS} >= RARE | UNTRIED
