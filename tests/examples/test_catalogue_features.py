"""What is measured on a photograph: the drawing counts, not its colours, size, place or file format."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from stepwell.examples.catalogue.counter import _bomb
from stepwell.examples.catalogue.features import SIDE, features, unpack
from stepwell.examples.catalogue.images import GeneratedPictures
from stepwell.examples.catalogue.photo import photograph
from stepwell.examples.catalogue.records import BrokenImage, Features
from stepwell.examples.catalogue.stock import Look

WHITE, NAVY, RED = (255, 255, 255), (30, 44, 120), (190, 24, 60)
PLAIN = Look(40, NAVY, WHITE, WHITE, size=0.7, left=0, top=0, tilt=0, cut=0, blur=0, quality=0)


def measured(tmp_path: Path, look: Look) -> Features:
    path = tmp_path / "photo"
    path.write_bytes(photograph(GeneratedPictures(), look))
    return features(1, path)


def apart(one: Features, other: Features) -> float:
    """Mean difference of the shapes' levels, of 3."""
    pairs = zip(unpack(one.shape), unpack(other.shape), strict=True)
    return sum(abs(a - b) for a, b in pairs) / SIDE**2


@pytest.mark.parametrize(
    "change",
    [
        {"ink": RED, "paper": (250, 246, 236)},
        {"ink": WHITE, "paper": NAVY, "shade": (24, 35, 96)},
        {"size": 0.57},
        {"left": 0.1, "top": -0.08},
        {"quality": 50},
    ],
    ids=["colour", "light on dark", "size", "place", "JPEG"],
)
def test_a_drawing_keeps_its_shape_in_another_photograph(tmp_path: Path, change: dict[str, object]) -> None:
    plain = measured(tmp_path, PLAIN)
    same = apart(plain, measured(tmp_path, dataclasses.replace(PLAIN, **change)))  # type: ignore[arg-type]  # of Look
    other = apart(plain, measured(tmp_path, dataclasses.replace(PLAIN, picture=41)))
    assert same < 0.2
    assert other > 3 * same


def test_the_main_colours_are_those_of_ink_and_paper(tmp_path: Path) -> None:
    seen = measured(tmp_path, dataclasses.replace(PLAIN, ink=RED, paper=(240, 248, 240), shade=(240, 248, 240)))
    assert seen.paper == "#f0f8f0"
    found = bytes.fromhex(seen.ink[1:])
    assert all(abs(part - drawn) < 8 for part, drawn in zip(found, RED, strict=True))


def png(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, NAVY).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (photograph(GeneratedPictures(), PLAIN)[:400], "truncated"),
        (photograph(GeneratedPictures(), dataclasses.replace(PLAIN, quality=80))[:900], "truncated"),
        (b"<!doctype html><p>moved", "no PNG or JPEG"),
        (b"", "no PNG or JPEG"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "no PNG or JPEG"),
        (_bomb(), "far too many pixels"),
        (png((5000, 4000)), "too many"),
        (b"\0" * 2_000_001, "2,000,001 bytes"),
        (png((50, 50)), "of one colour"),
    ],
    ids=["cut PNG", "cut JPEG", "HTML", "empty", "GIF", "bomb", "large", "long", "blank"],
)
def test_what_is_no_usable_picture_is_refused_with_the_file_and_the_reason(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "17"
    path.write_bytes(content)
    with pytest.raises(BrokenImage, match=says) as refused:
        features(17, path)
    assert str(refused.value).startswith("17: ")


def test_a_large_transparent_picture_is_measured_as_on_white_paper(tmp_path: Path) -> None:
    image = Image.new("RGBA", (900, 700), (0, 0, 0, 0))
    image.paste((30, 44, 120, 255), (200, 200, 500, 300))
    image.save(tmp_path / "1", "PNG")
    seen = features(1, tmp_path / "1")
    assert seen.paper == "#ffffff"
    assert seen.ink[1] in "12"
