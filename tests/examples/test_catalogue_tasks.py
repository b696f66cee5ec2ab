"""The whole catalogue by plain calls, without an engine: a real shop over a real socket, 220 products."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from stepwell.examples.catalogue import web
from stepwell.examples.catalogue.demo import Shop, ShopNotStarted, describe, order, prepare
from stepwell.examples.catalogue.pages import read_listing, read_product
from stepwell.examples.catalogue.records import (
    BrokenImage,
    Dropped,
    Features,
    NotFound,
    Product,
    Report,
    Row,
    Score,
    ShopTrouble,
    Similar,
)
from stepwell.examples.catalogue.sheet import title_of
from stepwell.examples.catalogue.tasks import (
    export_results,
    fetch_image,
    fetch_page,
    find_similar,
    list_page,
    process_image,
    score_groups,
)
from stepwell.examples.catalogue.workflow import error_name

ITEMS = 220


@dataclass(frozen=True)
class Finished:
    """What a plain drive through the tasks gave."""

    done: list[tuple[Product, Features]]
    dropped: list[Dropped]
    found: Similar
    score: Score


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = prepare(tmp_path_factory.mktemp("catalogue"), ITEMS, 1)
    yield shop
    shop.stop()


async def look_at(number: int, folder: str) -> tuple[Product, Features]:
    """The three steps with four attempts each, as the retry policy says, but without its delays."""
    page = await persistent(number, fetch_page, folder)
    assert isinstance(page, Product)
    for attempt in range(4):
        try:
            await fetch_image(number, page.image, folder)
            break
        except ShopTrouble:
            if attempt == 3:
                raise
    return page, process_image(number, folder)


async def persistent(number: int, step: object, folder: str) -> object:
    for _ in range(3):
        try:
            return await step(number, folder)  # type: ignore[operator]  # an async task of two parameters
        except ShopTrouble:
            pass
    return await step(number, folder)  # type: ignore[operator]  # likewise


async def drive(shop: Shop) -> Finished:
    folder = str(shop.folder)
    first = await list_page(1, folder)
    rest = await list_page.map(range(2, first.pages + 1), common={"folder": folder})
    numbers = [number for listing in (first, *rest) for number in listing.numbers]
    slots = asyncio.Semaphore(16)

    async def one(number: int) -> tuple[Product, Features] | Exception:
        async with slots:
            try:
                return await look_at(number, folder)
            except (NotFound, BrokenImage, ShopTrouble) as error:
                return error

    outcomes = await asyncio.gather(*map(one, numbers))
    done = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    dropped = [
        Dropped(number, error_name(outcome), str(outcome))
        for number, outcome in zip(numbers, outcomes, strict=True)
        if isinstance(outcome, Exception)
    ]
    found = find_similar([page.number for page, _ in done], [seen.shape for _, seen in done])
    score = await score_groups(found, [page.number for page, _ in done], folder)
    await web.close()
    return Finished(done, dropped, found, score)


@pytest.fixture(scope="module")
def finished(shop: Shop) -> Finished:
    return asyncio.run(drive(shop))


def test_all_but_the_hopeless_products_are_processed_and_those_are_named_with_a_reason(
    shop: Shop, finished: Finished
) -> None:
    assert len(finished.done) + len(finished.dropped) == ITEMS
    assert len(finished.dropped) == shop.stats()["hopeless"]
    assert {one.error for one in finished.dropped} == {"NotFound", "ShopTrouble", "BrokenImage"}
    assert all(str(one.number) in one.reason for one in finished.dropped)


def test_the_groups_agree_with_the_shops_own(finished: Finished) -> None:
    assert finished.score.precision > 0.9
    assert finished.score.recall > 0.9


def test_no_page_was_fetched_twice_with_success(shop: Shop, finished: Finished) -> None:
    assert finished.done
    assert shop.stats()["pages_fetched_again"] == 0


def exported(shop: Shop, finished: Finished) -> dict[str, bytes]:
    rows = [Row(page.number, page.name, page.price, seen.ink, seen.paper, seen.dhash) for page, seen in finished.done]
    names = export_results(rows, finished.found, finished.score, finished.dropped, order(shop))
    return {name: (shop.results / name).read_bytes() for name in names}


def test_the_results_hold_every_product_group_and_dropped_one(shop: Shop, finished: Finished) -> None:
    files = exported(shop, finished)
    catalogue = list(csv.DictReader(files["catalogue.csv"].decode().splitlines()))
    assert len(catalogue) == len(finished.done)
    grouped = {int(line["number"]) for line in catalogue if line["group"] != "0"}
    groups = [json.loads(line) for line in files["groups.jsonl"].decode().splitlines()]
    assert grouped == {member["number"] for group in groups for member in group["members"]}
    dropped = list(csv.DictReader(files["dropped.csv"].decode().splitlines()))
    assert [int(line["number"]) for line in dropped] == [one.number for one in finished.dropped]


def test_the_contact_sheet_is_a_picture_of_cards(shop: Shop, finished: Finished) -> None:
    exported(shop, finished)
    with Image.open(shop.results / "contact-sheet.png") as sheet:
        assert sheet.width == 1480
        colours = sheet.convert("RGB").getcolors(1_000_000)
        assert colours is not None
        assert len(colours) > 100


def test_exporting_again_gives_the_same_files_and_leaves_nothing_half_written(shop: Shop, finished: Finished) -> None:
    assert exported(shop, finished) == exported(shop, finished)
    assert sorted(path.name for path in shop.results.iterdir()) == sorted(exported(shop, finished))


def test_photographs_that_are_gone_leave_an_empty_place_on_the_sheet(
    shop: Shop, finished: Finished, tmp_path: Path
) -> None:
    from stepwell.examples.catalogue.sheet import contact_sheet

    sheet = contact_sheet(finished.found, finished.score, {}, tmp_path, 3)
    assert sheet.startswith(b"\x89PNG")


def test_the_description_says_how_many_were_lost_and_that_nothing_was_done_twice(shop: Shop) -> None:
    report = Report(220, 210, 40, 120, Score(100, 100, 97), {"NotFound": 4, "BrokenImage": 6}, ["catalogue.csv"])
    text = describe(report, shop.stats())
    assert "210 of 220 products processed; could not be: 6 BrokenImage, 4 NotFound" in text
    assert "precision 0.970" in text
    assert "nothing finished was done twice" in text
    assert describe(report, {}).count("\n") == 2


def test_the_workflows_input_does_not_know_the_port(shop: Shop) -> None:
    assert str(shop.url.rsplit(":", 1)[1]) not in repr(order(shop)).replace(str(shop.folder), "")


def test_without_a_shop_the_trouble_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ShopTrouble, match=r"there is no shop\.json"):
        asyncio.run(fetch_page(1, str(tmp_path)))


def test_a_shop_that_has_ended_is_trouble_that_may_pass(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1}')

    async def ask() -> None:
        try:
            await fetch_page(1, str(tmp_path))
        finally:
            await web.close()

    with pytest.raises(ShopTrouble, match="no answer from the shop"):
        asyncio.run(ask())


def test_a_shop_of_no_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShopNotStarted, match="0 items"):
        prepare(tmp_path, 0)


def test_pages_that_say_too_little_are_refused_by_name() -> None:
    with pytest.raises(NotFound, match="product 7: its page has no price"):
        read_product(7, '<h1>Lamp</h1><img class="photo" src="/img/7.png">')
    with pytest.raises(NotFound, match="no list page"):
        read_listing("<p>closed")


def test_names_with_markup_and_entities_are_read_as_text() -> None:
    html = (
        '<h1>Cup &amp; <b>saucer</b>\n &lt;3</h1><p class="price" data-cents="250"><img class="photo" src="/img/1.png">'
    )
    assert read_product(1, html) == Product(1, "Cup & saucer <3", 250, "/img/1.png")


def test_a_card_is_titled_with_what_its_names_have_in_common() -> None:
    assert title_of(["Hat fedora mug, teal", "Hat fedora badge, plum"]) == "Hat fedora"
    assert title_of(["Cup mug, teal", "Lamp mug, teal"]) == "Cup mug, teal"
    assert title_of([]) == ""
