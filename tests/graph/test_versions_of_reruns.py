"""Which version of a graph a rerun is of."""

from __future__ import annotations

import asyncio

import pytest

from stepwell import Stepwell, graph_workflow
from stepwell.errors import RequestRefused

FLOW = "stepwell: 1\nid: told\nnodes: {{say: {{transform: {text}}}}}\n"
FIRST, SECOND = FLOW.format(text="first"), FLOW.format(text="second")


def test_a_rerun_is_of_the_version_that_new_runs_get_or_of_the_one_that_is_named() -> None:
    async def run() -> None:
        async with Stepwell("memory://") as app:
            await app.deploy(FIRST, label="1")
            run = await app.start(graph_workflow(FIRST))
            assert await run.result() == "first"
            await app.deploy(SECOND, label="2")
            assert await (await app.rerun(run.id)).result() == "second"
            assert await (await app.rerun(run.id, version="1")).result() == "first"
            with pytest.raises(RequestRefused, match="no deployed version '3'"):
                await app.rerun(run.id, version="3")

    asyncio.run(run())


def test_where_no_version_serves_new_runs_a_rerun_stays_with_the_runs_own() -> None:
    async def run() -> None:
        async with Stepwell("memory://") as app:
            run = await app.start(graph_workflow(FIRST))
            assert await run.result() == "first"
            assert await (await app.rerun(run.id)).result() == "first"

    asyncio.run(run())
