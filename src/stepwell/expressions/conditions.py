"""Does a condition hold, for what its names stand for? True, false, one `{{ template }}`, or a JSONLogic rule.

In a rule the first part of a path is a name, as in templates: `{"==": [{"var": "fetch.status"}, 200]}`. A rule takes
what is not there as null, as JSONLogic does; a template needs a `??` for it. Texts in a rule are just texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from stepwell.errors import ExpressionError
from stepwell.expressions import logic
from stepwell.expressions.names import Names, Reference, shortened
from stepwell.expressions.reads import references, taken, wanted
from stepwell.expressions.templates import Value, Where, compile_value
from stepwell.expressions.texts import Json, kind_of


class Logic:
    """A JSONLogic rule over names, compiled.

    `source` is what it was compiled from; `references` are all that it reads, found in advance; `uses_clock` says that
    two evaluations with the same data may differ, because it asks for the time. `lookalikes` are the texts in it that
    look like templates; they are just texts, which is hardly what was meant.
    """

    __slots__ = ("_rule", "_wanted", "_where", "lookalikes", "references", "source", "uses_clock")

    def __init__(self, source: Json, where: Where = "", *, templating: bool = True) -> None:
        self.source = source
        self._where = where
        try:
            text = logic.source_of(source)
            self._rule = logic.template(text) if templating else logic.rule(text)
            self.references = references(source, self._rule)
        except ExpressionError as error:
            raise self._placed(error) from None
        self._wanted = tuple(wanted(self.references).items())
        self.uses_clock = not self._rule.facts["deterministic"]
        self.lookalikes = tuple(_lookalikes(source)) if b"{{" in text else ()

    def holds(self, names: Names) -> bool:
        """Whether the rule gives something that is true in JSONLogic's sense.

        Raises:
            ExpressionError: it fails on this data.
        """
        try:
            return self._rule.holds(self._data(names))
        except ExpressionError as error:
            raise self._placed(error) from None

    def value(self, names: Names) -> object:
        """What the rule gives, as plain data.

        Raises:
            ExpressionError: it fails on this data.
        """
        try:
            result: object = msgspec.json.decode(self._rule.value(self._data(names)))
        except ExpressionError as error:
            raise self._placed(error) from None
        return result

    def _data(self, names: Names) -> bytes:
        """What the rule reads, and nothing else; names that stand for nothing are left out."""
        data = {}
        for name, wish in self._wanted:
            try:
                value = names.lookup(name)
            except LookupError:
                continue
            data[name] = value if wish is None else taken(value, wish)
        return logic.encoded(data)

    def _placed(self, error: ExpressionError) -> ExpressionError:
        where = self._where(()) if callable(self._where) else self._where
        return ExpressionError(f"{where}: {error}") if where else error

    def __repr__(self) -> str:
        return f"Logic({self.source!r})"


def compile_logic(source: Json, where: Where = "", *, templating: bool = True) -> Logic:
    """Compile a JSONLogic rule whose paths start with names; `logic.Rule` says what `templating` is.

    Raises:
        ExpressionError: it is no JSONLogic, or does not say by name what it reads.
    """
    return Logic(source, where, templating=templating)


def _lookalikes(source: Json) -> Iterator[str]:
    match source:
        case str() if "{{" in source:
            yield source
        case list() | tuple():
            for one in source:
                yield from _lookalikes(one)
        case dict():
            for one in source.values():
                yield from _lookalikes(one)


class Condition:
    """A compiled condition.

    `source` is what it was compiled from; `references` are all that it looks up; `uses_clock` says that it asks for the
    time; `is_constant`, that it always comes out alike; `lookalikes` are those of `Logic`.
    """

    __slots__ = ("_holds", "is_constant", "lookalikes", "references", "source", "uses_clock")

    def __init__(self, source: Json, holds: Callable[[Names], bool], made: Value | Logic | None = None) -> None:
        self.source = source
        self.references: tuple[Reference, ...] = made.references if made else ()
        self.uses_clock = isinstance(made, Logic) and made.uses_clock
        self.lookalikes = made.lookalikes if isinstance(made, Logic) else ()
        self.is_constant = not self.references and not self.uses_clock
        self._holds = holds

    def holds(self, names: Names) -> bool:
        """Whether it is true, in JSONLogic's sense: null, false, 0, and an empty text, list or object are not.

        Raises:
            ExpressionError: a template's name or field is not there and has no `??`; a rule fails on this data.
        """
        return self._holds(names)

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"


def compile_condition(source: Json, where: Where = "") -> Condition:
    """Compile a condition: true or false, a text that is one template, or a JSONLogic rule.

    Raises:
        ExpressionError: it is none of these, or malformed; the text says what is wrong and where.
    """
    match source:
        case bool():
            return Condition(source, lambda names: source)
        case str():
            value = compile_value(source, where)
            if value.is_expression:
                return Condition(source, lambda names: bool(value.render(names)), value)
        case {**fields} if fields:
            made = Logic(source, where, templating=False)
            return Condition(source, made.holds, made)
    place = where(()) if callable(where) else where
    said = f"the text {shortened(source, 80)!r}" if isinstance(source, str) else kind_of(source)
    raise ExpressionError(
        f"{place}{': ' if place else ''}{said} is no condition: write true, false, one template such as "
        '`{{ review.ok }}`, or JSONLogic such as {"==": [{"var": "fetch.status"}, 200]}'
    )
