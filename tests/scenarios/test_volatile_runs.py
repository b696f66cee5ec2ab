"""Runs in memory only leave when many more have ended: a pipeline of messages does not grow without end."""

from __future__ import annotations

import asyncio

import pytest

from stepwell import Stepwell, workflow
from stepwell.engine import worker


@workflow
async def echo(number: int) -> int:
    """Gives its input."""
    return number


def test_old_runs_in_memory_go_and_young_ones_can_still_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "KEEP_VOLATILE", 10)

    async def play() -> tuple[int, int]:
        async with Stepwell("memory://", workflows=[echo]) as app:
            for number in range(100):
                run = await app.start(echo, number, durability="memory")
                assert await run.result() == number
            assert await run.result() == 99
            return len(app._volatile.data.runs), len(app._volatile.data.journals)

    runs, journals = asyncio.run(play())
    assert 10 <= runs <= 21
    assert journals == runs
