"""The catalogue as a workflow: list the shop, work on every product, find what looks alike, score it, export it."""

from __future__ import annotations

from collections import Counter

from stepwell import ctx, workflow
from stepwell.examples.catalogue.records import (
    BrokenImage,
    CatalogueInput,
    Dropped,
    NotFound,
    Report,
    Row,
    ShopTrouble,
)
from stepwell.examples.catalogue.tasks import (
    export_results,
    fetch_image,
    fetch_page,
    find_similar,
    list_page,
    process_image,
    score_groups,
)


@workflow
async def catalogue(order: CatalogueInput) -> Report:
    """Build the catalogue of the shop in `order.folder`.

    Three steps for each product, `order.concurrency` products at a time; those that cannot be processed are counted
    in the report and listed in the results folder.
    """
    first = await list_page(1, order.folder)
    rest = await list_page.map(range(2, first.pages + 1), concurrency=4, common={"folder": order.folder})
    numbers = [number for listing in (first, *rest) for number in listing.numbers]

    async def product(number: int) -> tuple[Row, str]:
        return await look_at(number, order.folder)

    outcomes = await ctx.map(product, numbers, concurrency=order.concurrency, on_error="collect", label="products")
    rows: list[Row] = []
    shapes: list[str] = []
    dropped: list[Dropped] = []
    for number, outcome in zip(numbers, outcomes, strict=True):
        if isinstance(outcome, Exception):
            dropped.append(Dropped(number, error_name(outcome), str(outcome)))
        else:
            rows.append(outcome[0])
            shapes.append(outcome[1])
    del outcomes  # with 10,000 products every copy counts
    processed = [row.number for row in rows]
    found = await find_similar.aio(processed, shapes)
    del shapes
    score = await score_groups(found, processed, order.folder)
    files = await export_results.aio(rows, found, score, dropped, order)
    return Report(
        listed=len(numbers),
        processed=len(rows),
        groups=len(found.groups),
        grouped=sum(len(group.members) for group in found.groups),
        score=score,
        dropped=dict(Counter(one.error for one in dropped)),
        files=files,
    )


async def look_at(number: int, folder: str) -> tuple[Row, str]:
    """The three steps for one product: what is exported of it, and the shape of its drawing."""
    page = await fetch_page(number, folder)
    await fetch_image(number, page.image, folder)
    seen = await process_image.aio(number, folder)
    return Row(number, page.name, page.price, seen.ink, seen.paper, seen.dhash), seen.shape


def error_name(error: Exception) -> str:
    """The name of the error's class as people know it, whatever the engine has wrapped it in."""
    for kind in (NotFound, BrokenImage, ShopTrouble, TimeoutError):
        if isinstance(error, kind):
            return kind.__name__
    return type(error).__name__
