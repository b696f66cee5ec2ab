"""The shop: what it answers, what it counts, and that neither restarts nor kills make it forget."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from stepwell.examples.catalogue import ledger as ledgers
from stepwell.examples.catalogue.counter import Counter
from stepwell.examples.catalogue.demo import prepare
from stepwell.examples.catalogue.images import GeneratedPictures, choose
from stepwell.examples.catalogue.ledger import Ledger
from stepwell.examples.catalogue.pages import read_listing, read_product
from stepwell.examples.catalogue.shop import Server
from stepwell.examples.catalogue.stock import Stock, pictures_needed

ITEMS = 250


@pytest.fixture(scope="module")
def stock() -> Stock:
    pictures = GeneratedPictures(900)
    chosen = choose(pictures, pictures_needed(ITEMS), 1)
    return Stock(ITEMS, 1, chosen, [pictures.title(number) for number in chosen])


@pytest.fixture
def counter(stock: Stock, tmp_path: Path) -> Counter:
    return Counter(stock, GeneratedPictures(900), Ledger(tmp_path, ITEMS), {"pictures": "generated"})


def image_path(stock: Stock, number: int) -> str:
    return f"/img/{number}.{stock.item(number).look.suffix}"


def test_list_pages_link_to_every_product_once(counter: Counter) -> None:
    pages = [read_listing(counter.answer("GET", f"/products?page={page}").body.decode()) for page in (1, 2, 3)]
    assert [page.pages for page in pages] == [3, 3, 3]
    assert [number for page in pages for number in page.numbers] == list(range(1, ITEMS + 1))


@pytest.mark.parametrize(
    "target", ["/products?page=4", "/products?page=0", "/products?page=x", "/p/0", "/p/251", "/no"]
)
def test_what_the_shop_does_not_have_is_a_404(counter: Counter, target: str) -> None:
    assert counter.answer("GET", target).status == 404


def test_a_product_page_says_what_the_stock_says(counter: Counter, stock: Stock) -> None:
    number = next(n for n in range(1, ITEMS) if n not in stock.page_faults)
    product = read_product(number, counter.answer("GET", f"/p/{number}").body.decode())
    item = stock.item(number)
    assert (product.name, product.price, product.image) == (item.name, item.price, image_path(stock, number))


def test_every_fault_is_there_and_behaves_as_it_is_called(counter: Counter, stock: Stock) -> None:
    pages = {fault: number for number, fault in stock.page_faults.items()}
    pictures = {fault: number for number, fault in stock.image_faults.items()}
    assert {*pages} == {"slow", "flaky", "down", "missing"}
    assert {*pictures} == {"flaky", "missing", "truncated", "not_an_image", "bomb", "wrong_type"}
    assert 0.1 <= counter.answer("GET", f"/p/{pages['slow']}").delay <= 0.8
    assert {counter.answer("GET", f"/p/{pages['down']}").status for _ in range(9)} == {500}
    assert counter.answer("GET", f"/p/{pages['missing']}").status == 404
    flaky = [counter.answer("GET", f"/p/{pages['flaky']}").status for _ in range(4)]
    assert flaky in ([500, 200, 200, 200], [500, 500, 200, 200])
    wrong = counter.answer("GET", image_path(stock, pictures["wrong_type"]))
    assert (wrong.status, wrong.type) == (200, "text/plain")
    assert counter.answer("GET", image_path(stock, pictures["missing"])).status == 404


def test_equal_seeds_make_equal_shops_and_others_do_not(stock: Stock) -> None:
    pictures = GeneratedPictures(900)
    chosen = choose(pictures, pictures_needed(ITEMS), 1)
    titles = [pictures.title(number) for number in chosen]
    same, other = Stock(ITEMS, 1, chosen, titles), Stock(ITEMS, 2, chosen, titles)
    assert (same.truth(), same.hopeless(), same.item(9)) == (stock.truth(), stock.hopeless(), stock.item(9))
    assert other.truth() != stock.truth()


def test_when_the_pictures_do_not_suffice_groups_grow(stock: Stock) -> None:
    small = Stock(100, 1, [5, 6, 7], ["five", "six", "seven"])
    assert sum(map(len, small.truth())) == 100
    assert {small.item(number).look.picture for number in range(1, 101)} == {5, 6, 7}


def test_pages_fetched_again_are_told_and_failed_requests_are_not_fetches(counter: Counter, stock: Stock) -> None:
    good = [n for n in range(1, ITEMS) if n not in stock.page_faults][:3]
    down = next(n for n, fault in stock.page_faults.items() if fault == "down")
    for number in [*good, good[1], down, down]:
        counter.answer("GET", f"/p/{number}")
    stats = counter.stats()
    assert (stats["pages_fetched_again"], stats["fetched_again"]) == (1, [good[1]])
    kinds = stats["kinds"]
    assert isinstance(kinds, dict)
    assert kinds["page"] == {"requests": 6, "answered": 4, "refused": 2, "distinct": 3, "repeated": 1}


def test_a_ledger_opened_again_goes_on_where_it_was_even_after_a_torn_line(tmp_path: Path) -> None:
    first = Ledger(tmp_path, 10)
    first.begin("run 1")
    first.note("page", 3, 500)
    first.note("page", 3, 200)
    first.close()
    with open(tmp_path / ledgers.FILE, "ab") as file:
        file.write(b"p 4 20")
    again = Ledger(tmp_path, 10)
    again.note("page", 5, 200)
    again.close()
    third = Ledger(tmp_path, 10)
    assert (third.run, third.asked("page", 3), third.asked("page", 4), third.asked("page", 5)) == ("run 1", 2, 0, 1)
    third.close()


def test_counting_begins_anew_for_another_run_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 10)
    assert ledger.begin("a")
    ledger.note("image", 1, 200)
    assert not ledger.begin("a")
    assert ledger.asked("image", 1) == 1
    assert ledger.begin("b")
    assert ledger.asked("image", 1) == 0
    ledger.close()


async def exchange(port: int, request: bytes, answers: int) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    bodies = []
    for _ in range(answers):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        bodies.append(await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    return bodies


def test_requests_on_one_connection_are_answered_in_their_order_slow_ones_too(counter: Counter, stock: Stock) -> None:
    slow = next(number for number, fault in stock.page_faults.items() if fault == "slow")
    good = next(number for number in range(1, ITEMS) if number not in stock.page_faults)

    async def run() -> list[bytes]:
        server = Server(counter)
        listening = await server.listen(0)
        serving = asyncio.create_task(server.serve(listening))
        port = listening.sockets[0].getsockname()[1]
        request = "".join(f"GET /p/{number} HTTP/1.1\r\nHost: shop\r\n\r\n" for number in (slow, good)).encode()
        bodies = await exchange(port, request, 2)
        await exchange(port, b"POST /end HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{}", 1)
        await serving
        return bodies

    first, second = asyncio.run(run())
    assert read_product(slow, first.decode()).number == slow
    assert f'data-number="{good}"' in second.decode()


def test_a_shop_that_nobody_asks_ends_by_itself(counter: Counter) -> None:
    async def run() -> None:
        server = Server(counter, idle_seconds=0.01)
        await asyncio.wait_for(server.serve(await server.listen(0)), 10)

    asyncio.run(run())


def test_a_shop_is_found_again_by_the_next_program(tmp_path: Path) -> None:
    shop = prepare(tmp_path, 120, 1)
    try:
        again = prepare(tmp_path, 120, 1)
        assert (again.pid, again.url, again.found, shop.found) == (shop.pid, shop.url, True, False)
    finally:
        shop.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_shop_comes_back_at_the_same_address_and_remembers_its_counts(tmp_path: Path) -> None:
    from stepwell.examples.catalogue.where import ask

    shop = prepare(tmp_path, 120, 1, run="r")
    ask(shop.url, "/p/5")
    before = shop.stats()["kinds"]
    os.kill(shop.pid, signal.SIGKILL)
    again = prepare(tmp_path, 120, 1, run="r")
    try:
        assert again.pid != shop.pid
        assert again.url == shop.url
        assert again.stats()["kinds"] == before
        assert before["page"]["requests"] == 1
        other = prepare(tmp_path, 120, 1, run="another run")
        assert other.stats()["kinds"]["page"]["requests"] == 0
    finally:
        again.stop()


def test_a_shop_of_another_size_takes_the_place_of_the_former(tmp_path: Path) -> None:
    small = prepare(tmp_path, 100, 1)
    large = prepare(tmp_path, 130, 1)
    try:
        assert large.pid != small.pid
        assert large.stats()["items"] == 130
    finally:
        large.stop()
