"""How is a version written? `label+hash`, or the hash alone: the author's label, and 12 hex digits of the source.

A run whose recorded version has a label stays with the function of that label; one without goes on with today's code,
call by call (`programs.matching`). The hash is for people: it tells that the code was another.
"""

from __future__ import annotations


def version_text(label: str, digest: str) -> str:
    """The version of a function with this label ("" for none) and hash ("" when it is not known here)."""
    return f"{label}+{digest}" if label else digest


def digest_of(version: str) -> str:
    """The hash in a version; "" when it is not known."""
    return version.rpartition("+")[2]


def label_of(version: str) -> str:
    """The label in a version; "" when it has none. A label may hold a `+` of its own."""
    return version.rpartition("+")[0]
