"""What `KEY=VALUE` says: the value is JSON where it is JSON, and otherwise the text as it stands."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec


def read_settings(given: Sequence[str], option: str) -> dict[str, object]:
    """The keys and values of a repeated option.

    Raises:
        click.BadParameter: one has no key or no `=`, or a key is given twice.
    """
    settings: dict[str, object] = {}
    for one in given:
        key, equals, text = one.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{one!r}: write KEY=VALUE", param_hint=option)
        if key in settings:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=option)
        try:
            settings[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            settings[key] = text
    return settings
