"""Are two values the same JSON? As Python's `==`, but true is not 1."""

from __future__ import annotations


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal: numbers by value, mappings in any order, booleans only with booleans."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
