"""The contact sheet: the best groups as cards of up to six photographs, each with its number and similarity."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stepwell.examples.catalogue.records import Group, Score, Similar

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_COLUMNS: Final = 2
_SHOWN: Final = 6
_PHOTO: Final = 104
_GAP: Final = 12
_PAD: Final = 16
_TITLE: Final = 34
_CAPTION: Final = 24
_HEAD: Final = 92
_CARD: Final = (2 * _PAD + _SHOWN * _PHOTO + (_SHOWN - 1) * _GAP, _PAD + _TITLE + _PHOTO + _CAPTION + 8)

_PAGE, _WHITE, _LINE, _TEXT, _FAINT, _GOOD = "#eef0f3", "#ffffff", "#d9dde3", "#1d232b", "#6b7480", "#0e7a4b"


def contact_sheet(similar: Similar, score: Score, names: Mapping[int, str], folder: Path, groups: int) -> bytes:
    """A PNG of up to `groups` groups: the fullest first (up to six members), of those the most alike."""
    from PIL import Image, ImageDraw

    best = sorted(similar.groups, key=lambda group: (-min(len(group.members), _SHOWN), -min(group.scores)))[:groups]
    lines = max(1, -(-len(best) // _COLUMNS))
    width = _PAD + _COLUMNS * (_CARD[0] + _PAD)
    image = Image.new("RGB", (width, _HEAD + lines * (_CARD[1] + _PAD)), _PAGE)
    draw = ImageDraw.Draw(image)
    _head(draw, similar, score, len(names))
    for at, group in enumerate(best):
        left = _PAD + at % _COLUMNS * (_CARD[0] + _PAD)
        _card(image, draw, (left, _HEAD + at // _COLUMNS * (_CARD[1] + _PAD)), group, names, folder)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def title_of(names: Sequence[str]) -> str:
    """What the names begin with in common, by words; the first name when they have nothing in common."""
    words = zip(*(name.split() for name in names), strict=False)
    common = takewhile(lambda at: len(set(at)) == 1, words)
    return " ".join(at[0] for at in common).rstrip(",") or (names[0] if names else "")


def _head(draw: ImageDraw.ImageDraw, similar: Similar, score: Score, products: int) -> None:
    grouped = sum(len(group.members) for group in similar.groups)
    draw.text((_PAD, 16), "Products that look alike", _TEXT, _letters(28))
    draw.text(
        (_PAD, 56),
        f"{products:,} products, {len(similar.groups):,} groups of {grouped:,}.   Against the shop's own groups: "
        f"precision {score.precision:.3f}, recall {score.recall:.3f}",
        _FAINT,
        _letters(16),
    )


def _card(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    group: Group,
    names: Mapping[int, str],
    folder: Path,
) -> None:
    left, top = at
    draw.rounded_rectangle((left, top, left + _CARD[0], top + _CARD[1]), 10, _WHITE, _LINE)
    title = _fit(title_of([names.get(number, "") for number in group.members]), _letters(17), _CARD[0] - 260)
    draw.text((left + _PAD, top + 12), title, _TEXT, _letters(17))
    more = len(group.members) - _SHOWN
    count = f"{len(group.members)} products" + (f", {more} not shown" if more > 0 else "")
    draw.text((left + _CARD[0] - _PAD, top + 14), count, _FAINT, _letters(14), anchor="ra")
    for place, (number, value) in enumerate(zip(group.members[:_SHOWN], group.scores, strict=False)):
        x, y = left + _PAD + place * (_PHOTO + _GAP), top + _PAD + _TITLE - 6
        photo = _photo(folder, number)
        if photo is not None:
            image.paste(photo, (x, y))
        draw.rectangle((x, y, x + _PHOTO - 1, y + _PHOTO - 1), outline=_LINE)
        draw.text((x, y + _PHOTO + 6), f"no. {number}", _FAINT, _letters(13))
        draw.text((x + _PHOTO, y + _PHOTO + 6), f"{value:.3f}", _GOOD, _letters(13), anchor="ra")


def _photo(folder: Path, number: int) -> Image.Image | None:
    """The photograph scaled to its place; None when its file is gone."""
    from PIL import Image

    from stepwell.examples.catalogue.features import decode
    from stepwell.examples.catalogue.records import BrokenImage

    try:
        return decode(folder / f"{number}").resize((_PHOTO, _PHOTO), Image.Resampling.LANCZOS)
    except (OSError, BrokenImage):
        return None


def _fit(text: str, letters: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened to this many pixels."""
    while len(text) > 4 and letters.getlength(text) > width:
        text = text[:-4].rstrip() + "..."
    return text


def _letters(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
