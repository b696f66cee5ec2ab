"""Is a JSONLogic rule true of some data, and what does it give? Compiled once, evaluated many times, by datalogic-py.

The format is that of https://jsonlogic.com; the library passes the official suite and all others that are published.
It is imported when the first rule is compiled. Rules and data are handed to it as JSON text: its parser has a limit of
nesting (256 levels) where its way through Python objects ends the process, and it is the faster of the two.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from stepwell.errors import DefinitionError, ExpressionError
from stepwell.expressions.names import shortened
from stepwell.expressions.texts import Json, json_of

if TYPE_CHECKING:
    from datalogic_py import DataLogicError, Engine, RuleFacts

NO_RULE = b"null"

MOST_OPERATIONS: Final = 10_000_000
"""How much one evaluation may do, as the library counts: about one for each operator, item, and 32 characters."""

LONGEST_RESULT: Final = 64 * 1024 * 1024
"""How many characters of JSON a rule may give."""

LITERAL_KEY: Final = "\\"
"""In a template, a key behind this is a field of the output even if an operator is called so: `\\type`."""


class Rule:
    """One compiled rule, from its JSON.

    With `templating`, an object that is no operator is an output: `{"name": {"var": "user.name"}, "ok": true}`; a
    field that is called as an operator is has a backslash before it. Otherwise such an object is refused.

    Raises:
        ExpressionError: it is not JSONLogic; the text says what is wrong and where.
    """

    def __init__(self, source: bytes, *, templating: bool = False) -> None:
        from datalogic_py import DataLogicError

        engine = _engine()
        self.source = source
        self._said = "rule" if templating else "condition"
        text = source.decode()
        try:
            problems = [one for one in engine.check(text, _mode(templating)) if one["severity"] == "error"]
            if problems:
                found = "; ".join(f"{one['message']}{_at(one['pointer'])}" for one in problems[:20])
                raise ExpressionError(f"the {self._said} {_shown(source)} is not JSONLogic: {found}")
            self._rule = engine.compile_template(text) if templating else engine.compile(text)
        except DataLogicError as error:
            raise ExpressionError(f"the {self._said} {_shown(source)} is not JSONLogic: {error}") from None

    @property
    def facts(self) -> RuleFacts:
        """What the compiled rule reads and calls, as the library sees it."""
        return self._rule.facts()

    def holds(self, data: bytes) -> bool:
        """Whether the rule is truthy (in JSONLogic's sense) for this JSON.

        Raises:
            ExpressionError: it fails on this data.
        """
        result = self._evaluated(data)
        return result == "true" or (result != "false" and bool(_engine().truthy(result)))

    def value(self, data: bytes) -> bytes:
        """What the rule gives for this JSON, as JSON.

        Raises:
            ExpressionError: it fails on this data, or gives more than `LONGEST_RESULT`.
        """
        return self._evaluated(data).encode()

    def _evaluated(self, data: bytes) -> str:
        from datalogic_py import DataLogicError

        try:
            result = self._rule.evaluate_str(data.decode())
        except DataLogicError as error:
            problem = _problem(error)
            raise ExpressionError(f"the {self._said} {_shown(self.source)} fails on this data: {problem}") from None
        if len(result) > LONGEST_RESULT:
            raise ExpressionError(
                f"the {self._said} {_shown(self.source)} gives {len(result):,} characters of JSON, "
                f"and {LONGEST_RESULT:,} are the most"
            )
        return result


def evaluate(source: Json, data: object, *, templating: bool = True) -> object:
    """What a JSONLogic rule, given as plain data, gives for some plain data; compiled once and kept.

    With `templating` (see `Rule`) the rule may be an object whose fields are rules.

    Raises:
        ExpressionError: the rule is not JSONLogic or fails on this data, or one of the two has no JSON form.
    """
    text = source_of(source)
    made = template(text) if templating else rule(text)
    result: object = msgspec.json.decode(made.value(encoded(data)))
    return result


def source_of(rule: Json) -> bytes:
    """A rule that is given as plain data, as JSON.

    Raises:
        ExpressionError: it has no JSON form.
    """
    try:
        return json_of(rule).encode()
    except ValueError as error:
        raise ExpressionError(f"the rule is not JSON: {error}") from None


def encoded(data: object) -> bytes:
    """Data for a rule, as JSON; keys are sorted, as in the journal, so that going through them is the same on replay.

    Raises:
        ExpressionError: they have no JSON form.
    """
    try:
        return _ENCODER.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ExpressionError(f"the data of a JSONLogic rule are not JSON: {error}") from None


@functools.cache
def _engine() -> Engine:
    from datalogic_py import Engine

    return Engine(template_key_escape=LITERAL_KEY, config={"ops_budget": MOST_OPERATIONS})


def _mode(templating: bool) -> Literal["template", "strict"]:
    return "template" if templating else "strict"


def _at(pointer: str) -> str:
    return f" (at {shortened(pointer, 100)})" if pointer else ""


def _shown(source: bytes) -> str:
    return shortened(source.decode(), 300)


def _problem(error: DataLogicError) -> str:
    if error.error_type == "BudgetExceeded":
        return f"it does more than {MOST_OPERATIONS:,} operations"
    text = str(error).replace('Thrown: {"type":"NaN"}', "a value is no number")
    steps = getattr(error, "path", None)
    return f"{text}{_at(steps[-1]['json_pointer'])}" if steps else text


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is none")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain, order="sorted")


@functools.cache
def inner_arguments() -> Mapping[str, int | Literal["last"] | None]:
    """The operators, and which argument of each is about an item rather than about the data (`last`: of several)."""
    return {
        name: operator["scoped_arg"]
        for operator in _engine().operators()
        for name in (operator["name"], *operator["aliases"])
    }


@functools.lru_cache(maxsize=1000)
def rule(source: bytes) -> Rule:
    """The compiled rule for this JSON; kept for the next time.

    Raises:
        ExpressionError: see `Rule`.
    """
    return Rule(source)


@functools.lru_cache(maxsize=1000)
def template(source: bytes) -> Rule:
    """The compiled rule for this JSON, with `templating`; kept for the next time.

    Raises:
        ExpressionError: see `Rule`.
    """
    return Rule(source, templating=True)


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
