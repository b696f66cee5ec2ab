"""Where the shop's pictures come from: icon fonts of the `QtAwesome` package, or generated shapes without it.

The package (MIT; a pure Python wheel of 2.6 MB) is looked up by its installed files and never imported, so no GUI
library is needed. Four of its fonts are used: Material Design Icons 6 (Apache-2.0), Remix Icon (Apache-2.0),
Phosphor (MIT) and Font Awesome 6 Solid (SIL OFL 1.1), about 11,900 drawings. The font of
brand marks is left out, though the others hold some.

A *picture* is one drawing. Icon sets hold many drawings that a thumbnail cannot tell apart (`battery-40` and
`battery-50`), and several sets draw the same thing in the same way (an arrow, a tick, an @). A shop of such twins
has no right answer, so `choose` takes drawings in a shuffled order and skips each one that is a twin of one taken
before: one whose softened 16 × 16 raster correlates with it by more than `TWIN` (same font) or `LOOKALIKE` (another
font). About 7,000 stay, and they are still hard: `lock` and `lock-open`, `bank-plus` and `bank-minus` are all there.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageFont

PACKAGE = "QtAwesome"
TWIN = 0.96
"""Correlation over which two drawings of one font count as twins, and only one of them is sold."""

LOOKALIKE = 0.88
"""The same for drawings of different fonts, which differ in stroke and proportion where they mean the same."""

_RASTER = 16
_SOFTEN = (1, 2, 1, 2, 4, 2, 1, 2, 1)


class PictureSet(Protocol):
    """A numbered set of drawings; the same number gives the same drawing on every machine with the same set."""

    source: str

    def __len__(self) -> int:
        """How many drawings there are."""

    def title(self, number: int) -> str:
        """What is drawn, in words."""

    def family(self, number: int) -> int:
        """Which font (or other common hand) the drawing comes from."""

    def ink(self, number: int, pixels: int) -> Image.Image:
        """The drawing as a tight greyscale mask (255 is ink), its em square `pixels` wide; empty if it has no ink."""


@dataclass(frozen=True, slots=True)
class _Face:
    """A font of the package: the stem of its files, and which of its names are left out."""

    font: str
    charmap: str
    left_out: tuple[str, ...]


_FACES = (
    _Face("materialdesignicons6-webfont-", "materialdesignicons6-webfont-charmap-", ()),
    _Face("phosphor-", "phosphor-charmap-", ("-thin", "-light", "-bold", "-fill", "-duotone", "-logo")),
    _Face("remixicon-", "remixicon-charmap-", ()),
    _Face("fontawesome6-solid-webfont-", "fontawesome6-solid-webfont-charmap-", ()),
)


class FontPictures:
    """Drawings from the icon fonts of the installed package.

    Raises:
        LookupError: the package is not installed, or no longer holds the expected fonts.
    """

    def __init__(self) -> None:
        try:
            files = metadata.files(PACKAGE) or []
            version = metadata.version(PACKAGE)
        except metadata.PackageNotFoundError:
            raise LookupError(f"{PACKAGE} is not installed") from None
        self.source = f"icon fonts of {PACKAGE} {version}"
        self._paths: list[str] = []
        self._drawings: list[tuple[int, int, str]] = []
        for face in _FACES:
            paths = {file.name: str(file.locate()) for file in files}
            charmap = _one(paths, face.charmap, ".json")
            taken: set[int] = set()
            with open(charmap, encoding="utf-8") as text:
                names: dict[str, str] = json.load(text)
            for name, code in names.items():
                point = int(code, 16)
                if point not in taken and not name.endswith(face.left_out or ("\0",)):
                    taken.add(point)
                    self._drawings.append((len(self._paths), point, name))
            self._paths.append(_one(paths, face.font, ".ttf"))

    def __len__(self) -> int:
        return len(self._drawings)

    def title(self, number: int) -> str:
        return self._drawings[number][2].replace("-", " ")

    def family(self, number: int) -> int:
        return self._drawings[number][0]

    def ink(self, number: int, pixels: int) -> Image.Image:
        from PIL import Image

        face, point, _ = self._drawings[number]
        mask = _font(self._paths[face], pixels).getmask(chr(point))
        if not all(mask.size):
            return Image.new("L", (0, 0))
        image = Image.frombytes("L", mask.size, bytes(mask))
        return image.crop(image.getbbox())


def _one(paths: dict[str, str], start: str, end: str) -> str:
    """The path of the file whose name is `start`, a version number, `end`."""
    for name, path in paths.items():
        middle = name[len(start) : -len(end)]
        if name.startswith(start) and name.endswith(end) and middle[:1].isdigit():
            return path
    raise LookupError(f"{PACKAGE} holds no {start}*{end}")


@lru_cache(maxsize=128)
def _font(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, pixels)


class GeneratedPictures:
    """Drawings made from their number alone: bars, discs, rings and polygons. Used when no set is installed."""

    source = "generated shapes"
    _SHAPES = ("bar", "disc", "ring", "polygon", "star")

    def __init__(self, count: int = 12_000) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def title(self, number: int) -> str:
        return f"{' and '.join(sorted(set(self._shapes(random.Random(number))[:2])))} {number}"

    def family(self, number: int) -> int:
        return number  # none has another of its kind: the stricter limit holds between all

    def ink(self, number: int, pixels: int) -> Image.Image:
        from PIL import Image, ImageDraw

        chance = random.Random(number)
        shapes = self._shapes(chance)
        size = pixels * 2
        image = Image.new("L", (size, size))
        draw = ImageDraw.Draw(image)
        for at, shape in enumerate(shapes):
            _draw_shape(draw, shape, chance, size, fill=0 if at % 3 == 2 else 255)
        small = image.reduce(2)
        return small.crop(small.getbbox() or (0, 0, 0, 0))

    def _shapes(self, chance: random.Random) -> list[str]:
        return [chance.choice(self._SHAPES) for _ in range(chance.randint(5, 8))]


def _draw_shape(draw: object, shape: str, chance: random.Random, size: int, *, fill: int) -> None:
    from PIL import ImageDraw

    assert isinstance(draw, ImageDraw.ImageDraw)
    x, y = (chance.uniform(0.15, 0.85) * size for _ in range(2))
    r = chance.uniform(0.06, 0.24) * size
    turn = chance.uniform(0, math.tau)
    match shape:
        case "disc":
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        case "ring":
            draw.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=max(2, int(r / 3)))
        case "bar":
            dx, dy = 1.4 * r * math.cos(turn), 1.4 * r * math.sin(turn)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=max(2, int(r / 2)))
        case _:
            corners = chance.randint(3, 7)
            dent = 0.45 if shape == "star" else 1.0
            points = [
                (
                    x + r * (dent if at % 2 else 1.0) * math.cos(turn + math.tau * at / (2 * corners)),
                    y + r * (dent if at % 2 else 1.0) * math.sin(turn + math.tau * at / (2 * corners)),
                )
                for at in range(2 * corners)
            ]
            draw.polygon(points, fill=fill)


def picture_set() -> PictureSet:
    """The installed icon fonts, or generated shapes when they are not installed; `source` says which."""
    try:
        return FontPictures()
    except LookupError as missing:
        pictures = GeneratedPictures()
        pictures.source = f"{GeneratedPictures.source} ({missing}; `pip install {PACKAGE}` brings real pictures)"
        return pictures


def choose(pictures: PictureSet, count: int, seed: int) -> list[int]:
    """Up to `count` numbers of drawings, in a shuffled order, no two of them twins (see the module's text).

    Fewer come back when the set is exhausted. Memory: one float32 raster per drawing and one block of products.
    """
    import numpy as np

    order = list(range(len(pictures)))
    random.Random(f"pictures {seed}").shuffle(order)
    taken: list[int] = []
    families = np.empty(0, dtype=np.int32)
    rasters = np.empty((0, _RASTER * _RASTER), dtype=np.float32)
    for start in range(0, len(order), 512):
        if len(taken) >= count:
            break
        block = order[start : start + 512]
        fresh, alone = _rasters(pictures, block)
        family = np.array([pictures.family(number) for number in block], dtype=np.int32)
        if len(rasters):
            limit = np.where(family[:, None] == families, TWIN, LOOKALIKE)
            alone &= (fresh @ rasters.T <= limit).all(axis=1)
        twins = fresh @ fresh.T > np.where(family[:, None] == family, TWIN, LOOKALIKE)
        for at, number in enumerate(block):
            if alone[at] and not (twins[at, :at] & alone[:at]).any():
                taken.append(number)
            else:
                alone[at] = False
        rasters = np.concatenate([rasters, fresh[alone]])
        families = np.concatenate([families, family[alone]])
    return taken[:count]


def _rasters(pictures: PictureSet, block: list[int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The block's softened rasters, one a row, centred and of length 1; and which of them are not empty."""
    import numpy as np

    pixels = b"".join(_raster(pictures, number) for number in block)
    rows = np.frombuffer(pixels, dtype=np.uint8).reshape(len(block), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.maximum(length, 1e-6)
    return rows, length[:, 0] > 1.0


def _raster(pictures: PictureSet, number: int) -> bytes:
    """The drawing centred in a square and softened, as 256 grey values."""
    from PIL import Image, ImageFilter

    ink = pictures.ink(number, 32)
    side = max(*ink.size, 1)
    square = Image.new("L", (side + 4, side + 4))
    square.paste(ink, (2 + (side - ink.width) // 2, 2 + (side - ink.height) // 2))
    soft = square.resize((_RASTER, _RASTER), Image.Resampling.BOX).filter(ImageFilter.Kernel((3, 3), _SOFTEN))
    return soft.tobytes()
