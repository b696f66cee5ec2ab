"""What the shop sells and how it misbehaves: everything follows from the number of items and a seed.

Products that show the same picture form a *group*: the truth that the found groups are scored against. Every
product of a group is its own photograph: other colours (dark on light or light on dark), size, place in the frame,
a tilt of up to 4 degrees, a flat or shaded background, sometimes slightly out of focus, sometimes cut off a little
at one edge, as PNG or as JPEG of quality 45 to 90. Products of different pictures are *not* similar, however
alike the pictures look (see `images.TWIN` for the ones that are left out as indistinguishable).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Rgb: TypeAlias = tuple[int, int, int]
PageFault: TypeAlias = Literal["slow", "flaky", "down", "missing"]
ImageFault: TypeAlias = Literal["flaky", "missing", "truncated", "not_an_image", "bomb", "wrong_type"]

PAGE_FAULTS: Final[Mapping[PageFault, float]] = MappingProxyType(
    {"slow": 0.02, "flaky": 0.03, "down": 0.002, "missing": 0.003}
)
IMAGE_FAULTS: Final[Mapping[ImageFault, float]] = MappingProxyType(
    {"flaky": 0.01, "missing": 0.001, "truncated": 0.002, "not_an_image": 0.001, "bomb": 0.0, "wrong_type": 0.0}
)
"""Share of the items with each fault; of every fault there is at least one (in shops of 100 items and more)."""

PAGE_SIZE: Final = 100

_GROUP_SIZES = (2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6)
_SINGLES = 0.65

_COLOURS: Final[tuple[tuple[str, Rgb], ...]] = (
    ("crimson", (190, 24, 60)), ("tomato", (214, 78, 46)), ("amber", (196, 120, 10)), ("olive", (112, 122, 26)),
    ("forest", (30, 112, 60)), ("teal", (14, 118, 118)), ("petrol", (18, 84, 110)), ("azure", (28, 104, 196)),
    ("navy", (30, 44, 120)), ("indigo", (78, 58, 176)), ("plum", (128, 40, 130)), ("rose", (200, 54, 118)),
    ("cocoa", (104, 62, 40)), ("slate", (70, 84, 104)), ("graphite", (44, 46, 52)), ("black", (16, 16, 18)),
)  # fmt: skip
_PALE: Final[tuple[Rgb, ...]] = (
    (255, 255, 255), (250, 246, 236), (238, 244, 250), (240, 248, 240), (250, 238, 242), (244, 240, 252),
    (236, 236, 236),
)  # fmt: skip
_KINDS: Final = (
    "sticker", "badge", "mug", "poster", "tea towel", "tote bag", "cushion", "stamp", "coaster", "patch",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """How one product's photograph is taken. Lengths are shares of the frame, `tilt` is in degrees."""

    picture: int
    ink: Rgb
    paper: Rgb
    shade: Rgb
    size: float
    left: float
    top: float
    tilt: float
    cut: float
    blur: float
    quality: int
    """JPEG quality, or 0 for PNG."""

    @property
    def suffix(self) -> str:
        return "jpg" if self.quality else "png"


@dataclass(frozen=True, slots=True)
class Item:
    """One product as the shop knows it. `price` is in cents."""

    number: int
    name: str
    price: int
    text: str
    look: Look


class Stock:
    """The items `1 … items` of a shop, made from `seed` and the chosen `pictures` (numbers into a picture set).

    `shows[number - 1]` is the picture of an item. When the pictures do not suffice they are gone through again, so
    that groups grow in very large shops.
    """

    def __init__(self, items: int, seed: int, pictures: Sequence[int], titles: Sequence[str]) -> None:
        self.items = items
        self.seed = seed
        self._titles = dict(zip(pictures, titles, strict=True))
        chance = random.Random(f"stock {seed}")
        shows: list[int] = []
        while len(shows) < items:
            for picture in pictures:
                shows.extend([picture] * _copies(chance))
                if len(shows) >= items:
                    break
        del shows[items:]
        chance.shuffle(shows)
        self.shows: tuple[int, ...] = tuple(shows)
        self.page_faults, self.image_faults = _faults(items, random.Random(f"faults {seed}"))

    def item(self, number: int) -> Item:
        """The item with this number. Raises `KeyError` when the shop has none."""
        if not 1 <= number <= self.items:
            raise KeyError(number)
        chance = random.Random(f"item {self.seed} {number}")
        picture = self.shows[number - 1]
        (colour, ink), kind = chance.choice(_COLOURS), chance.choice(_KINDS)
        look = _look(picture, ink, chance)
        title = self._titles[picture]
        return Item(
            number=number,
            name=f"{title.capitalize()} {kind}, {colour}",
            price=chance.randrange(190, 4_990, 10),
            text=f"A {kind} with the motif “{title}” in {colour}.",
            look=look,
        )

    def truth(self) -> list[list[int]]:
        """The groups of two and more items, each sorted, by their first item."""
        groups: dict[int, list[int]] = {}
        for at, picture in enumerate(self.shows):
            groups.setdefault(picture, []).append(at + 1)
        return [group for group in groups.values() if len(group) > 1]

    def hopeless(self) -> dict[int, str]:
        """The items that no number of attempts can process, with the fault of each."""
        bad_page = {n: fault for n, fault in self.page_faults.items() if fault in ("down", "missing")}
        bad_image = {
            n: f"image {fault}" for n, fault in self.image_faults.items() if fault not in ("flaky", "wrong_type")
        }
        return dict(sorted({**bad_image, **bad_page}.items()))


def pictures_needed(items: int) -> int:
    """How many pictures a shop of this many items wants (an upper bound; fewer will do)."""
    mean = _SINGLES + (1 - _SINGLES) * sum(_GROUP_SIZES) / len(_GROUP_SIZES)
    return int(items / mean * 1.1) + 20


def _copies(chance: random.Random) -> int:
    return 1 if chance.random() < _SINGLES else chance.choice(_GROUP_SIZES)


def _look(picture: int, ink: Rgb, chance: random.Random) -> Look:
    paper = chance.choice(_PALE)
    shade = tuple(int(part * 0.88) for part in paper) if chance.random() < 0.4 else paper
    if chance.random() < 0.25:  # light on dark
        ink, paper, shade = paper, ink, tuple(int(part * 0.8) for part in ink) if shade != paper else ink
    size = chance.uniform(0.56, 0.86)
    room = (0.94 - size) / 2
    return Look(
        picture=picture,
        ink=ink,
        paper=paper,
        shade=(shade[0], shade[1], shade[2]),
        size=size,
        left=chance.uniform(-room, room),
        top=chance.uniform(-room, room),
        tilt=chance.uniform(-4, 4) if chance.random() < 0.5 else 0.0,
        cut=chance.uniform(0.01, 0.05) if chance.random() < 0.08 else 0.0,
        blur=chance.uniform(0.4, 0.9) if chance.random() < 0.15 else 0.0,
        quality=chance.randint(45, 90) if chance.random() < 0.6 else 0,
    )


def _faults(items: int, chance: random.Random) -> tuple[dict[int, PageFault], dict[int, ImageFault]]:
    """Which items' pages and images misbehave, and how; an item has at most one fault of each sort."""

    def share(rates: Mapping[str, float]) -> dict[int, str]:
        at_least = 1 if items >= 100 else 0
        wanted = [fault for fault, rate in rates.items() for _ in range(max(at_least, round(rate * items)))]
        return dict(zip(chance.sample(range(1, items + 1), min(len(wanted), items)), wanted, strict=False))

    pages: dict[int, PageFault] = share(PAGE_FAULTS)  # type: ignore[arg-type, assignment]  # keys stay literals
    images: dict[int, ImageFault] = share(IMAGE_FAULTS)  # type: ignore[arg-type, assignment]  # likewise
    return pages, images
