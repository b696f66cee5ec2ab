"""What the shop answers to a path: pages, pictures, faults, counts and the truth. No sockets here."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stepwell.examples.catalogue.images import PictureSet
from stepwell.examples.catalogue.ledger import Ledger, What
from stepwell.examples.catalogue.photo import photograph
from stepwell.examples.catalogue.stock import PAGE_SIZE, ImageFault, PageFault, Stock

_CACHE_BYTES: Final = 32_000_000
_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg"}
_PRODUCT: Final = re.compile(r"/p/(\d{1,9})")
_IMAGE: Final = re.compile(r"/img/(\d{1,9})\.(png|jpg)")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, to be sent after `delay` seconds."""

    status: int
    type: str
    body: bytes
    delay: float = 0.0


class Counter:
    """Where the shop's customers are served. Answers follow from the stock and from what was asked before."""

    def __init__(self, stock: Stock, pictures: PictureSet, ledger: Ledger, about: Mapping[str, object]) -> None:
        self._stock = stock
        self._pictures = pictures
        self._ledger = ledger
        self._about = dict(about)
        self._photos: dict[int, bytes] = {}
        self._photo_bytes = 0
        self.pages = -(-stock.items // PAGE_SIZE)

    def answer(self, method: str, target: str) -> Answer:
        """The answer to a request; customers' requests are noted in the ledger before it is returned."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if match := _PRODUCT.fullmatch(url.path):
            return self._noted("page", int(match[1]), self._page(int(match[1])))
        if match := _IMAGE.fullmatch(url.path):
            return self._noted("image", int(match[1]), self._image(int(match[1]), match[2]))
        match method, url.path:
            case _, "/products":
                page = query.get("page", "1")
                return self._list(int(page)) if page.isdecimal() and len(page) < 10 else _error(404, "no such page")
            case _, "/":
                return _html("Shop", f'<h1>Shop</h1><p><a href="/products?page=1">{self._stock.items} products</a></p>')
            case _, "/health":
                return _json({**self._about, "run": self._ledger.run})
            case _, "/stats":
                return _json(self.stats())
            case _, "/truth":
                return _json({"groups": self._stock.truth()})
            case "POST", "/run":
                return _json({"begun": self._ledger.begin(" ".join(query.get("id", "").split()))})
            case _:
                return _error(404, "there is nothing here")

    def stats(self) -> dict[str, object]:
        """What `/stats` gives: the ledger's totals, and which pages were fetched more than once with success."""
        again = self._ledger.repeated("page")
        return {
            **self._about,
            "run": self._ledger.run,
            "kinds": self._ledger.totals(),
            "hopeless": len(self._stock.hopeless()),
            "pages_fetched_again": len(again),
            "fetched_again": again[:100],
        }

    def _noted(self, what: What, number: int, answer: Answer) -> Answer:
        self._ledger.note(what, number if number <= self._stock.items else 0, answer.status)
        return answer

    def _list(self, page: int) -> Answer:
        if not 1 <= page <= self.pages:
            return self._noted("list", 0, _error(404, "no such page"))
        first = (page - 1) * PAGE_SIZE + 1
        numbers = range(first, min(first + PAGE_SIZE, self._stock.items + 1))
        links = "\n".join(
            f'<li><a class="product" href="/p/{number}">{escape(self._stock.item(number).name)}</a></li>'
            for number in numbers
        )
        more = f'<a rel="next" href="/products?page={page + 1}">next</a>' if page < self.pages else ""
        body = f'<h1>Products, page {page}</h1>\n<ul>\n{links}\n</ul>\n<nav data-pages="{self.pages}">{more}</nav>'
        return self._noted("list", page, _html(f"Products, page {page}", body))

    def _page(self, number: int) -> Answer:
        fault: PageFault | None = self._stock.page_faults.get(number)
        if fault == "missing" or not 1 <= number <= self._stock.items:
            return _error(404, "this product is no longer sold")
        if fault == "down" or (fault == "flaky" and self._ledger.asked("page", number) < 1 + number % 2):
            return _error(500, "the shop has a problem with this page")
        item = self._stock.item(number)
        body = (
            f'<article class="product" data-number="{number}">\n<h1>{escape(item.name)}</h1>\n'
            f'<p class="price" data-cents="{item.price}">{item.price // 100}.{item.price % 100:02} €</p>\n'
            f'<img class="photo" src="/img/{number}.{item.look.suffix}" alt="{escape(item.name)}">\n'
            f"<p>{escape(item.text)}</p>\n</article>"
        )
        return _html(item.name, body, delay=0.1 + number * 37 % 71 / 100 if fault == "slow" else 0.0)

    def _image(self, number: int, suffix: str) -> Answer:
        fault: ImageFault | None = self._stock.image_faults.get(number)
        if not 1 <= number <= self._stock.items or fault == "missing":
            return _error(404, "no such picture")
        if self._stock.item(number).look.suffix != suffix:
            return _error(404, "no such picture")
        if fault == "flaky" and self._ledger.asked("image", number) < 1 + number % 2:
            return _error(500, "the shop has a problem with this picture")
        match fault:
            case "truncated":
                photo = self._photo(number)
                return Answer(200, _TYPES[suffix], photo[: len(photo) // 2])
            case "not_an_image":
                return Answer(200, _TYPES[suffix], b"<!doctype html><p>Our pictures have moved.</p>\n")
            case "bomb":
                return Answer(200, "image/png", _bomb())
            case "wrong_type":
                return Answer(200, "text/plain", self._photo(number))
            case _:
                return Answer(200, _TYPES[suffix], self._photo(number))

    def _photo(self, number: int) -> bytes:
        """The photograph's file; made once and kept, the oldest ones go when there are too many."""
        photo = self._photos.get(number)
        if photo is None:
            photo = self._photos[number] = photograph(self._pictures, self._stock.item(number).look)
            self._photo_bytes += len(photo)
            while self._photo_bytes > _CACHE_BYTES:
                oldest = next(iter(self._photos))
                self._photo_bytes -= len(self._photos.pop(oldest))
        return photo


def _html(title: str, body: str, delay: float = 0.0) -> Answer:
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )
    return Answer(200, "text/html; charset=utf-8", text.encode(), delay)


def _json(value: object) -> Answer:
    return Answer(200, "application/json", json.dumps(value).encode())


def _error(status: int, text: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{status}: {text}\n".encode())


def _bomb() -> bytes:
    """A PNG that begins well and claims 50,000 × 50,000 pixels."""
    header = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
        + chunk(b"IEND", b"")
    )
