"""The catalogue's tasks: outside a run they are plain functions."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from stepwell import Retry, task
from stepwell.examples.catalogue import export, features, similar, web
from stepwell.examples.catalogue.pages import read_listing, read_product
from stepwell.examples.catalogue.records import (
    BrokenImage,
    CatalogueInput,
    Dropped,
    Features,
    Listing,
    Looked,
    NotFound,
    Product,
    Row,
    Score,
    Similar,
)
from stepwell.examples.catalogue.where import IMAGES, RESULTS

_ASK = Retry(attempts=4, first="50ms", backoff=2, max="1s", never_on=(NotFound,))
_DECODE = Retry(attempts=2, first="50ms", never_on=(BrokenImage,))


@task(retry=_ASK, timeout="10s")
async def list_page(page: int, folder: str) -> Listing:
    """The products on one list page of the shop."""
    return read_listing((await web.get(folder, f"/products?page={page}")).decode())


@task(retry=_ASK, timeout="10s")
async def fetch_page(number: int, folder: str) -> Product:
    """What the shop says about a product."""
    return read_product(number, (await web.get(folder, f"/p/{number}")).decode())


@task(retry=_ASK, timeout="10s")
async def fetch_image(number: int, path: str, folder: str) -> int:
    """Put a product's photograph into the data folder as `images/<number>`; returns its size in bytes.

    The shop's content type is not believed: whether it is a picture shows when it is decoded.
    """
    body = await web.get(folder, path)
    _write(Path(folder) / IMAGES / str(number), body)
    return len(body)


@task(retry=_DECODE, timeout="20s")
def process_image(number: int, folder: str) -> Features:
    """Measure a product's photograph."""
    return features.features(number, Path(folder) / IMAGES / str(number))


@task(executor="process", timeout="10m")
def find_similar(numbers: list[int], shapes: list[str]) -> Similar:
    """The groups of products whose photographs show the same drawing; `shapes` in the order of `numbers`.

    In a process of its own: it needs numpy and 80 MB.
    """
    return similar.find_groups(numbers, shapes)


@task(retry=_ASK, timeout="30s")
async def score_groups(found: Similar, among: list[int], folder: str) -> Score:
    """Compare the found groups with the shop's own, counting only products that could be processed."""
    truth = (await web.get_json(folder, "/truth"))["groups"]
    return similar.score_groups([group.members for group in found.groups], truth, among)


@task(executor="process", timeout="5m")
def export_results(
    rows: list[Row], found: Similar, score: Score, dropped: list[Dropped], order: CatalogueInput
) -> list[str]:
    """Write the results folder; returns the names of the files."""
    folder = Path(order.folder)
    return export.export_all(rows, found, score, dropped, folder / IMAGES, folder / RESULTS, order.sheet_groups)


# -- for the graph, whose map gives a list with nothing in the place of what failed; its expressions could put that into
#    other forms too, at three times the memory


@task(executor="process", timeout="10m")
def similar_products(products: list[Looked | None]) -> Similar:
    """`find_similar` among the products that could be processed."""
    known = [one for one in products if one is not None]
    return similar.find_groups([one.number for one in known], [one.shape for one in known])


@task(executor="process", timeout="5m")
def export_products(
    products: list[Looked | None], found: Similar, score: Score, dropped: list[Dropped], order: CatalogueInput
) -> list[str]:
    """`export_results` of the products that could be processed."""
    rows = [one.row for one in products if one is not None]
    return export_results(rows, found, score, dropped, order)


@task
async def count_dropped(dropped: list[Dropped]) -> dict[str, int]:
    """How many could not be processed, by error; expressions make no keys from data."""
    return dict(Counter(one.error for one in dropped))


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(body)
    os.replace(fresh, path)
