"""What must not be read in outputs and errors is replaced: the secrets that a request was made with, in each form."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec

PLACEHOLDER: Final = "***"

SHORTEST: Final = 4
"""Secrets with fewer characters are not looked for: replaced everywhere, they would spoil what they stand in."""


class Redactor:
    """Replaces secrets in texts, bytes and JSON; with none it hands everything on as it is."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST:
                found.update(_forms(secret))
        self._texts = sorted(found, key=len, reverse=True)  # the longest first: one may be a part of another
        self._bytes = [one.encode() for one in self._texts]

    def text(self, text: str) -> str:
        """The text without secrets."""
        for one in self._texts:
            if one in text:
                text = text.replace(one, PLACEHOLDER)
        return text

    def raw(self, found: bytes) -> bytes:
        """Bytes without the UTF-8 of secrets."""
        for one in self._bytes:
            if one in found:
                found = found.replace(one, PLACEHOLDER.encode())
        return found

    def json(self, found: Any) -> Any:  # Any: JSON
        """Plain JSON without secrets in its texts and keys."""
        return self._cleaned(found) if self._texts else found

    def _cleaned(self, found: Any) -> Any:  # Any: JSON
        if isinstance(found, str):
            return self.text(found)
        if isinstance(found, list):
            return [self._cleaned(one) for one in found]
        if isinstance(found, dict):
            return {self.text(key): self._cleaned(one) for key, one in found.items()}
        return found


def _forms(secret: str) -> Iterable[str]:
    """The secret as it is, and as it may come back: in a URL, in JSON, in Base64."""
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield msgspec.json.encode(secret).decode()[1:-1]
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
