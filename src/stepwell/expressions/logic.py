"""Is a JSONLogic rule true of some data? Compiled once, evaluated many times, by datalogic-py.

The format is that of https://jsonlogic.com; the library passes the official suite and all others that are published.
It is imported when the first rule is compiled.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.errors import DefinitionError

if TYPE_CHECKING:
    from datalogic_py import Engine

NO_RULE = b"null"


class Rule:
    """One compiled rule.

    Raises:
        DefinitionError: it is not JSONLogic; the text says what is wrong and where.
    """

    def __init__(self, source: bytes) -> None:
        from datalogic_py import DataLogicError

        engine = _engine()
        self.source = source
        text = source.decode()
        try:
            engine.compile_checked(text)
            self._rule = engine.compile(text)
        except DataLogicError as error:
            found = "; ".join(d.get("message", "") for d in getattr(error, "diagnostics", ()) or ())
            raise DefinitionError(f"the condition {text[:300]} is not JSONLogic: {found or error}") from None

    def holds(self, data: bytes) -> bool:
        """Whether the rule is truthy (in JSONLogic's sense) for this JSON.

        Raises:
            DefinitionError: it fails on this data.
        """
        from datalogic_py import DataLogicError

        try:
            return bool(_engine().truthy(self._rule.evaluate_str(data.decode())))
        except DataLogicError as error:
            raise DefinitionError(f"the condition {self.source.decode()[:300]} fails on this data: {error}") from None

    def value(self, data: bytes) -> bytes:
        """What the rule gives for this JSON, as JSON.

        Raises:
            DefinitionError: it fails on this data.
        """
        from datalogic_py import DataLogicError

        try:
            return self._rule.evaluate_str(data.decode()).encode()
        except DataLogicError as error:
            raise DefinitionError(f"the rule {self.source.decode()[:300]} fails on this data: {error}") from None


@functools.cache
def _engine() -> Engine:
    from datalogic_py import Engine

    return Engine()


@functools.lru_cache(maxsize=1000)
def rule(source: bytes) -> Rule:
    """The compiled rule for this JSON; kept for the next time.

    Raises:
        DefinitionError: see `Rule`.
    """
    return Rule(source)


def written(where: Any) -> msgspec.Raw:  # Any: JSON, as a dict for one
    """A rule that code gives as a dict (or None) as canonical JSON, compiled once to see that it is one.

    Raises:
        DefinitionError: see `Rule`; or it is no JSON.
    """
    if where is None:
        return msgspec.Raw(NO_RULE)
    try:
        source = msgspec.json.encode(where, order="sorted")
    except TypeError as error:
        raise DefinitionError(f"where={where!r} is not JSON: {error}; give a JSONLogic rule such as "
                              '{"==": [{"var": "data.id"}, 7]}') from None  # fmt: skip
    rule(source)
    return msgspec.Raw(source)
