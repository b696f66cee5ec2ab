"""The catalogue under the engine: what was finished before an interruption is not done again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stepwell import Stepwell
from stepwell.examples.catalogue import web
from stepwell.examples.catalogue.demo import order, prepare
from stepwell.examples.catalogue.workflow import catalogue

ITEMS = 150


def test_a_run_processes_all_but_the_hopeless_products(tmp_path: Path) -> None:
    shop = prepare(tmp_path, ITEMS, 1)

    async def run() -> None:
        async with asyncio.timeout(60), Stepwell("memory://") as app:
            report = await (await app.start(catalogue, order(shop))).result()
            await web.close()
        assert report.listed == ITEMS
        assert report.processed == ITEMS - shop.stats()["hopeless"]
        assert report.score.precision > 0.9
        assert report.score.recall > 0.9
        assert all((shop.results / name).stat().st_size for name in report.files)

    try:
        asyncio.run(run())
        assert shop.stats()["pages_fetched_again"] == 0
    finally:
        shop.stop()


def test_after_an_interruption_only_what_was_in_flight_is_fetched_again(tmp_path: Path) -> None:
    shop = prepare(tmp_path, ITEMS, 1)
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    concurrency = 8

    async def interrupted() -> None:
        async with asyncio.timeout(60):
            app = Stepwell(store)
            await app.open()
            await app.start(catalogue, order(shop, concurrency=concurrency), id="r")
            while await asyncio.to_thread(lambda: shop.stats()["kinds"]["page"]["answered"]) < 40:
                await asyncio.sleep(0)
            await app.close(grace=0)
            await web.close()

    async def resumed() -> int:
        async with asyncio.timeout(60), Stepwell(store, workflows=[catalogue]) as app:
            run = await app.start(catalogue, order(shop, concurrency=concurrency), id="r")
            report = await run.result()
            await web.close()
            return report.processed

    try:
        asyncio.run(interrupted())
        before = shop.stats()["kinds"]["page"]["answered"]
        assert asyncio.run(resumed()) == ITEMS - shop.stats()["hopeless"]
        assert before < ITEMS
        assert shop.stats()["pages_fetched_again"] <= concurrency
    finally:
        shop.stop()
