"""What a photograph looks like, apart from colour, size and place: decode within limits, find the ink, measure it.

The paper is estimated from the four corners (it may be shaded), the ink is what differs from it, light on dark or
dark on light. Cut to its bounding box, centred in a square and scaled to 20 × 20, the ink of two photographs of one
drawing differs only by tilt, blur, compression and what was cut off.
"""

from __future__ import annotations

import base64
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.examples.catalogue.records import BrokenImage, Features

if TYPE_CHECKING:
    from PIL import Image

SIDE = 20
"""Width and height of `Features.shape` in cells."""

MAX_BYTES = 2_000_000
MAX_PIXELS = 16_000_000
_LARGEST = 192
_CORNER = 4
_LEVELS = range(256)
_VISIBLE = [255 if level >= 100 else 0 for level in _LEVELS]
_FOUR = [bytes((packed >> 6, packed >> 4 & 3, packed >> 2 & 3, packed & 3)) for packed in range(256)]
_SOLID = [255 if level > 200 else 0 for level in _LEVELS]


def features(number: int, path: Path) -> Features:
    """Measure the photograph in `path`.

    Raises:
        BrokenImage: it is over `MAX_BYTES` or `MAX_PIXELS`, no PNG or JPEG, damaged, or of one colour.
    """
    image = decode(path)
    paper = _paper(image)
    ink = _ink(image, paper)
    square = _square(ink, path)
    return Features(
        number=number,
        dhash=_difference_hash(square),
        ink=_mean_colour(image, ink.point(_SOLID)),
        paper=_hex(paper.resize((1, 1)).tobytes()),
        shape=base64.b64encode(_pack(square)).decode(),
    )


def decode(path: Path) -> Image.Image:
    """The photograph as RGB, at most 192 pixels wide and high. Raises `BrokenImage`, naming the file and why."""
    from PIL import Image, UnidentifiedImageError

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BrokenImage(f"{path.name}: {size:,} bytes; at most {MAX_BYTES:,} are accepted")
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BrokenImage(f"{path.name}: {image.width} × {image.height} pixels are too many")
            image.load()
            image.thumbnail((_LARGEST, _LARGEST))
            if not image.has_transparency_data:
                return image.convert("RGB")
            solid = Image.new("RGBA", image.size, "white")
            solid.alpha_composite(image.convert("RGBA"))
            return solid.convert("RGB")
    except UnidentifiedImageError:
        raise BrokenImage(f"{path.name}: this is no PNG or JPEG file") from None
    except Image.DecompressionBombError:
        raise BrokenImage(f"{path.name}: the file claims to hold far too many pixels") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise BrokenImage(f"{path.name}: {error}") from None


def unpack(shape: str) -> bytes:
    """The `SIDE * SIDE` levels (0 to 3) of a `Features.shape`."""
    return b"".join(map(_FOUR.__getitem__, base64.b64decode(shape)))


def _paper(image: Image.Image) -> Image.Image:
    """The background, drawn from the mean colours of the four corners."""
    from PIL import Image

    right, below = image.width - _CORNER, image.height - _CORNER
    corners = Image.new("RGB", (2, 2))
    for at, (x, y) in enumerate(((0, 0), (right, 0), (0, below), (right, below))):
        patch = image.crop((x, y, x + _CORNER, y + _CORNER)).resize((1, 1), Image.Resampling.BOX)
        corners.paste(patch, (at % 2, at // 2))
    return corners.resize(image.size, Image.Resampling.BILINEAR)


def _ink(image: Image.Image, paper: Image.Image) -> Image.Image:
    """How much each pixel differs from the paper, 0 to 255, faint noise removed."""
    from PIL import ImageChops

    red, green, blue = ImageChops.difference(image, paper).split()
    distance = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    most = max(level for level, count in enumerate(distance.histogram()) if count) or 1
    low, span = 0.25 * most, 0.6 * most
    return distance.point([0 if level < low else min(255, int((level - low) * 255 / span)) for level in _LEVELS])


def _square(ink: Image.Image, path: Path) -> Image.Image:
    from PIL import Image

    box = ink.point(_VISIBLE).getbbox()
    if box is None:
        raise BrokenImage(f"{path.name}: the picture is of one colour")
    drawing = ink.crop(box)
    side = max(drawing.size)
    square = Image.new("L", (side, side))
    square.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    return square.resize((SIDE, SIDE), Image.Resampling.BOX)


def _pack(square: Image.Image) -> bytes:
    levels = iter([round(level / 85) for level in square.tobytes()])
    return bytes(a << 6 | b << 4 | c << 2 | d for a, b, c, d in zip(levels, levels, levels, levels, strict=True))


def _difference_hash(square: Image.Image) -> str:
    from PIL import Image

    small = square.resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = 0
    for row in range(8):
        for column in range(8):
            at = row * 9 + column
            bits = bits << 1 | (small[at] < small[at + 1])
    return f"{bits:016x}"


def _mean_colour(image: Image.Image, mask: Image.Image) -> str:
    histogram = image.histogram(mask)
    channels = [histogram[start : start + 256] for start in (0, 256, 512)]
    return _hex(bytes(round(sum(map(mul, _LEVELS, channel)) / max(1, sum(channel))) for channel in channels))


def _hex(colour: bytes) -> str:
    return "#" + colour.hex()
