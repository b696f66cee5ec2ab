"""Secrets reach an attempt and nothing else: markers in a step's input are replaced when the attempt is made."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from stepwell.errors import GraphError


def with_secrets(data: msgspec.Raw, named: Mapping[str, str]) -> msgspec.Raw:
    """An input with each marker replaced by the value of the environment variable that `named` gives it.

    Raises:
        GraphError: a variable is not set.
    """
    if not named:
        return data
    text = bytes(data).decode()
    for marker, name in named.items():
        value = os.environ.get(name)
        if value is None:
            raise GraphError(f"secret {name} is not set: give the environment variable {name} to the engine's process")
        text = text.replace(marker, msgspec.json.encode(value).decode()[1:-1])
    return msgspec.Raw(text.encode())
