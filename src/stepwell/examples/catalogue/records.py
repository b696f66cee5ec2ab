"""What the steps of the catalogue hand to each other: small records that are journaled as JSON, and three errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class NotFound(Exception):
    """The shop says that there is no such page or picture; asking again does not help."""


class BrokenImage(Exception):
    """The bytes are no picture that can be used: cut short, something else, or far too large."""


class ShopTrouble(Exception):
    """The shop could not answer this time; asking again may help."""


@dataclass(frozen=True, slots=True)
class CatalogueInput:
    """The workflow's input.

    `folder` is the demo's data folder: the shop is found through the port file in it, photographs go to `images/`
    and results to `results/`. No port is in the input, so a run goes on under the same input when the shop was
    started again elsewhere. `concurrency` is how many products are worked on at once, `sheet_groups` how many
    groups the contact sheet shows.
    """

    folder: str
    concurrency: int = 32
    sheet_groups: int = 24


@dataclass(frozen=True, slots=True)
class Listing:
    """One list page: the products on it, and how many list pages there are."""

    numbers: list[int]
    pages: int


@dataclass(frozen=True, slots=True)
class Product:
    """What a product page says. `price` is in cents, `image` the picture's path on the shop."""

    number: int
    name: str
    price: int
    image: str


@dataclass(frozen=True, slots=True)
class Features:
    """What a photograph looks like, in about 200 bytes of JSON.

    `shape` is the drawing without its colour, size and place: 20 × 20 grey values of 2 bits, four a byte, base64.
    (Four bits each would double the size and find no more.)
    `dhash` is the 64-bit difference hash of the same (N. Krawetz, *Kind of Like That*, 2013), 16 hex digits; `ink`
    and `paper` are the two main colours as `#rrggbb`.
    """

    number: int
    dhash: str
    ink: str
    paper: str
    shape: str


@dataclass(frozen=True, slots=True)
class Group:
    """Products found to be similar, by number; `scores` has each member's best similarity (0 to 1) to another one."""

    members: list[int]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class Similar:
    """All groups of two and more, largest first; `compared` pairs were looked at closely, `linked` were similar."""

    groups: list[Group]
    compared: int
    linked: int
    threshold: float


@dataclass(frozen=True, slots=True)
class Score:
    """How the found groups agree with the shop's own: counts of pairs of products in one group."""

    true_pairs: int
    found_pairs: int
    correct_pairs: int

    @property
    def precision(self) -> float:
        """Share of the found pairs that are right (1 when none was found)."""
        return self.correct_pairs / self.found_pairs if self.found_pairs else 1.0

    @property
    def recall(self) -> float:
        """Share of the right pairs that were found (1 when there is none)."""
        return self.correct_pairs / self.true_pairs if self.true_pairs else 1.0


@dataclass(frozen=True, slots=True)
class Dropped:
    """A product that could not be processed: the name of the error and what it said."""

    number: int
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A processed product as it is exported."""

    number: int
    name: str
    price: int
    ink: str
    paper: str
    dhash: str


class Looked(NamedTuple):
    """What came of one product, as the graph hands it on: what a `Row` has, and the shape of its drawing."""

    number: int
    name: str
    price: int
    ink: str
    paper: str
    dhash: str
    shape: str

    @property
    def row(self) -> Row:
        """What is exported."""
        return Row(*self[:-1])


@dataclass(frozen=True, slots=True)
class Report:
    """The workflow's result. `dropped` counts what could not be processed by error, `files` are the exported ones."""

    listed: int
    processed: int
    groups: int
    grouped: int
    score: Score
    dropped: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
