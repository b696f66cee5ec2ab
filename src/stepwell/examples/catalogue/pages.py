"""What the shop's HTML says: list pages and product pages, read with the standard library's parser."""

from __future__ import annotations

from html.parser import HTMLParser

from stepwell.examples.catalogue.records import Listing, NotFound, Product

_Attributes = list[tuple[str, str | None]]


def read_listing(html: str) -> Listing:
    """The products that a list page links to, in its order. Raises `NotFound` when it is no list page."""
    page = _ListPage()
    page.feed(html)
    page.close()
    if page.pages is None:
        raise NotFound("this is no list page of the shop: it does not say how many there are")
    return Listing(page.numbers, page.pages)


def read_product(number: int, html: str) -> Product:
    """What a product page says. Raises `NotFound`, naming the product and what is missing."""
    page = _ProductPage()
    page.feed(html)
    page.close()
    for what, found in (("name", page.name), ("price", page.price), ("picture", page.image)):
        if not found:
            raise NotFound(f"product {number}: its page has no {what}")
    return Product(number, " ".join("".join(page.name).split()), int(page.price), page.image)


class _ListPage(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.pages: int | None = None

    def handle_starttag(self, tag: str, attrs: _Attributes) -> None:
        given = dict(attrs)
        href = given.get("href") or ""
        if tag == "a" and given.get("class") == "product" and href.startswith("/p/") and href[3:].isdecimal():
            self.numbers.append(int(href[3:]))
        elif tag == "nav" and (given.get("data-pages") or "").isdecimal():
            self.pages = int(given["data-pages"] or 0)


class _ProductPage(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.name: list[str] = []
        self.price = ""
        self.image = ""
        self._in_name = False

    def handle_starttag(self, tag: str, attrs: _Attributes) -> None:
        given = dict(attrs)
        kind = given.get("class")
        cents = given.get("data-cents") or ""
        source = given.get("src") or ""
        if tag == "h1":
            self._in_name = True
        elif tag == "p" and kind == "price" and cents.isdecimal():
            self.price = cents
        elif tag == "img" and kind == "photo" and source.startswith("/img/"):
            self.image = source

    def handle_endtag(self, tag: str) -> None:
        if tag == "h1":
            self._in_name = False

    def handle_data(self, data: str) -> None:
        if self._in_name:
            self.name.append(data)
