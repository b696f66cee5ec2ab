"""The shop's pictures: real icons when their package is installed, generated shapes when it is not."""

from __future__ import annotations

from importlib import metadata

import pytest
from PIL import Image

from stepwell.examples.catalogue import images
from stepwell.examples.catalogue.images import FontPictures, GeneratedPictures, choose, picture_set


def installed() -> bool:
    try:
        return bool(metadata.version(images.PACKAGE))
    except metadata.PackageNotFoundError:
        return False


def test_without_the_package_shapes_are_generated_and_the_source_says_how_to_get_real_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "PACKAGE", "no-such-package-of-icons")
    pictures = picture_set()
    assert isinstance(pictures, GeneratedPictures)
    assert "pip install no-such-package-of-icons" in pictures.source


def test_a_generated_picture_follows_from_its_number_alone() -> None:
    one, other = GeneratedPictures(), GeneratedPictures()
    assert one.ink(77, 64).tobytes() == other.ink(77, 64).tobytes()
    assert one.ink(77, 64).tobytes() != one.ink(78, 64).tobytes()
    assert one.title(77) == other.title(77)


def test_chosen_pictures_are_all_different_and_the_same_for_the_same_seed() -> None:
    pictures = GeneratedPictures(900)
    chosen = choose(pictures, 200, seed=3)
    assert len(set(chosen)) == len(chosen) == 200
    assert chosen == choose(pictures, 200, seed=3)
    assert chosen != choose(pictures, 200, seed=4)


class Twins(GeneratedPictures):
    """Every drawing twice: in one family, or in two."""

    def ink(self, number: int, pixels: int) -> Image.Image:
        return super().ink(number // 2, pixels)


def test_of_twins_only_one_is_chosen() -> None:
    chosen = choose(Twins(200), 200, seed=1)
    assert chosen
    assert len({number // 2 for number in chosen}) == len(chosen)


@pytest.mark.skipif(not installed(), reason=f"{images.PACKAGE} is not installed")
def test_the_package_holds_thousands_of_drawings_with_names_and_ink() -> None:
    pictures = FontPictures()
    assert len(pictures) > 10_000
    chosen = choose(pictures, 100, seed=1)
    assert all(pictures.title(number) for number in chosen)
    assert all(min(pictures.ink(number, 64).size) > 0 for number in chosen)
