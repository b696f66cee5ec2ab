"""Rates: read from text and written again."""

from __future__ import annotations

import pytest

from stepwell.errors import ArgumentError
from stepwell.model.rates import Rate, rate, written


@pytest.mark.parametrize(
    ("text", "expected", "again"),
    [
        ("10/1s", Rate(10, 1_000_000), "10/1s"),
        ("10/s", Rate(10, 1_000_000), "10/1s"),
        (" 3 / 1h30m ", Rate(3, 5_400_000_000), "3/90m"),
        ("1/250ms", Rate(1, 250_000), "1/250ms"),
        ("7/1.5s", Rate(7, 1_500_000), "7/1500ms"),
        ("5/2d", Rate(5, 172_800_000_000), "5/2d"),
    ],
)
def test_a_rate_is_how_many_per_how_long(text: str, expected: Rate, again: str) -> None:
    assert rate(text) == expected
    assert written(*expected) == again
    assert rate(again) == expected


@pytest.mark.parametrize("text", ["", "10", "/1s", "x/1s", "0/1s", "10/0s", "10/", "10/x", "-1/1s", "1.5/1s", 10, None])
def test_what_is_no_rate_is_refused_by_name(text: object) -> None:
    with pytest.raises(ArgumentError, match=r"limit: .* is not a rate; write how many per how long, such as '10/1s'"):
        rate(text, "limit")  # type: ignore[arg-type]  # whatever a person may give
