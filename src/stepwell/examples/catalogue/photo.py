"""How a product's photograph is made: the picture's ink on a paper, as a real PNG or JPEG file of 112 × 112 pixels."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

from stepwell.examples.catalogue.images import PictureSet
from stepwell.examples.catalogue.stock import Look, Rgb

if TYPE_CHECKING:
    from PIL import Image

FRAME = 112
"""Width and height of a photograph in pixels."""

_ROOM = FRAME - 6


def photograph(pictures: PictureSet, look: Look) -> bytes:
    """The bytes of the image file; equal looks give equal bytes with the same version of Pillow."""
    from PIL import Image, ImageFilter

    frame = Image.new("L", (FRAME, FRAME))
    ink = pictures.ink(look.picture, round(look.size * FRAME / 4) * 4)
    ink.thumbnail((_ROOM, _ROOM))  # a few drawings are wider than their em square
    frame.paste(ink, (_start(ink.width, look.left, look.cut), _start(ink.height, look.top, 0.0)))
    if look.tilt:
        frame = frame.rotate(look.tilt, Image.Resampling.BILINEAR)
    if look.blur:
        frame = frame.filter(ImageFilter.GaussianBlur(look.blur))
    image = _paper(look.paper, look.shade).copy()
    image.paste(look.ink, (0, 0, FRAME, FRAME), frame)
    out = io.BytesIO()
    if look.quality:
        image.save(out, "JPEG", quality=look.quality)
    else:
        image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _start(length: int, offset: float, cut: float) -> int:
    """Where ink of this length begins: off the centre by `offset`, or with `cut` of it outside the frame."""
    if cut:
        return -round(cut * length)
    return round((FRAME - length) / 2 + offset * FRAME)


@lru_cache(maxsize=256)
def _paper(top: Rgb, bottom: Rgb) -> Image.Image:
    """A sheet that is `top` above and `bottom` below."""
    from PIL import Image

    sheet = Image.new("RGB", (FRAME, FRAME), top)
    if bottom != top:
        sheet.paste(bottom, (0, 0, FRAME, FRAME), Image.linear_gradient("L").resize((FRAME, FRAME)))
    return sheet
