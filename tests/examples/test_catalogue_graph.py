"""The catalogue as a graph: the same result, and the same files, as the function gives."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from stepwell import Stepwell
from stepwell.examples.catalogue import web
from stepwell.examples.catalogue.demo import Shop, order, prepare
from stepwell.examples.catalogue.graph import DEFINITION, GRAPH, catalogue_graph
from stepwell.examples.catalogue.workflow import catalogue

pytest.importorskip("numpy")
pytest.importorskip("PIL")

ITEMS = 120


def taken(shop: Shop) -> dict[str, bytes]:
    """The files in the results folder, which is emptied."""
    found = {path.name: path.read_bytes() for path in shop.results.iterdir()}
    for path in shop.results.iterdir():
        path.unlink()
    return found


def test_the_graph_gives_the_report_the_groups_and_the_files_of_the_function(tmp_path: Path) -> None:
    shop = prepare(tmp_path, ITEMS, 1)

    async def run() -> None:
        async with asyncio.timeout(60), Stepwell("memory://") as app:
            report = await app.run(catalogue, order(shop))
            files = taken(shop)
            result = await app.run(catalogue_graph(), asdict(order(shop)))
            await web.close()
        assert result == msgspec.to_builtins(report)
        assert report.dropped and report.groups
        assert taken(shop) == files
        assert set(files) == set(report.files)

    try:
        asyncio.run(run())
    finally:
        shop.stop()


def test_the_definition_is_beside_the_modules_and_says_its_name() -> None:
    assert DEFINITION.is_file()
    assert catalogue_graph().name == GRAPH
