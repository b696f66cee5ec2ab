"""What does a JSON value with `{{ templates }}` in its texts come to, once its names stand for something?

A text that is exactly one template has the value of its expression, of whatever type; any other text is put together.
`parsing` has the grammar. Everything is read and checked once, by `compile_value`; what is left for `Value.render` is
one closure per template. Data are only looked up: keys of mappings and elements of lists, never attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from stepwell.errors import ExpressionError
from stepwell.expressions.names import SAID, Failed, Listed, listed, shortened, spelled, suggestion
from stepwell.expressions.names import Names as Names
from stepwell.expressions.names import Reference as Reference
from stepwell.expressions.parsing import Expression, Malformed, Path, parse
from stepwell.expressions.texts import Json, is_finite, kind_of, text_of

LONGEST_TEXT: Final = 8 * 1024 * 1024
"""How many characters all texts that one `render` puts together may have; what is passed on as it is does not count."""

DEEPEST: Final = 200
"""How deep lists and objects may be nested in what is compiled."""

MOST_PARTS: Final = 1_000_000
"""How many values may be in what is compiled, so that one that names itself many times over ends."""

At: TypeAlias = tuple[str | int, ...]
Where: TypeAlias = str | Callable[[At], str]
"""What an error calls the place: a prefix such as `settings`, or a function of the path inside the value."""

_Room: TypeAlias = list[int]
_Make: TypeAlias = Callable[[Names, _Room], object]
"""What a value is compiled to; the list's one number is how many characters may still be made."""

_Look: TypeAlias = Callable[[Names], object]
"""What an operand or an expression is compiled to; raises `_Missing`."""


class Value:
    """A JSON value with its templates compiled.

    `source` is what it was compiled from; `references` are all lookups in it, in order; `is_constant` says that there
    are none; `is_expression`, that it is a text that is exactly one template.
    """

    __slots__ = ("_make", "is_constant", "is_expression", "references", "source")

    def __init__(self, source: Json, references: tuple[Reference, ...], is_expression: bool, make: _Make) -> None:
        self.source = source
        self.references = references
        self.is_constant = not references
        self.is_expression = is_expression
        self._make = make

    def render(self, names: Names) -> object:
        """The value, as JSON data. What was looked up is handed on uncopied and must not be changed.

        Raises:
            ExpressionError: a name or a field is not there and has no `??`; a text would be too long, or would be made
                of what has no JSON form. The text names the expression, its place, and what there is.
        """
        return self._make(names, [LONGEST_TEXT])

    def __repr__(self) -> str:
        return f"Value({self.source!r})"


def compile_value(source: Json, where: Where = "") -> Value:
    """Compile all templates in the texts of a JSON value; keys of objects are no templates.

    Raises:
        ExpressionError: a template is malformed, or the value is no JSON or over a budget. Several: all are named.
    """
    compiler = _Compiler(where)
    node = compiler.compiled(source, ())
    if compiler.errors:
        raise _all(compiler.errors)
    return Value(source, tuple(compiler.references), compiler.is_expression, _maker(node))


def _all(errors: Sequence[ExpressionError]) -> ExpressionError:
    first = errors[0]
    if len(errors) == 1:
        return first
    said = "; ".join(str(error) for error in errors[:SAID])
    more = f"; and {len(errors) - SAID:,} more" if len(errors) > SAID else ""
    return ExpressionError(said + more, path=first.path, offset=first.offset, each=errors)


class _Missing(Exception):
    """A lookup came to nothing; the text says where it stopped, and what is there."""


class _Fixed(NamedTuple):
    """A part of a value in which nothing is looked up."""

    value: Json


_Node: TypeAlias = _Fixed | _Make


class _Compiler:
    """Compiles one value; gathers its references and its errors."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.references: list[Reference] = []
        self.errors: list[ExpressionError] = []
        self.is_expression = False
        self.parts = 0

    def compiled(self, source: Json, at: At) -> _Node:
        """One part of the value. It calls itself once a level, so that `DEEPEST` fits Python's stack."""
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise self._error(f"there are more than {MOST_PARTS:,} values in it", ())
        match source:
            case str():
                return self._text(source, at) if "{{" in source else _Fixed(source)
            case None | bool() | int():
                return _Fixed(source)
            case float():
                if not is_finite(source):
                    self._note(f"{source} is no JSON number", at)
                return _Fixed(source)
            case list() | tuple():
                self._check_depth(at)
                return _list([self.compiled(one, (*at, index)) for index, one in enumerate(source)])
            case dict():
                self._check_depth(at)
                return _object({self._key(key, at): self.compiled(one, (*at, key)) for key, one in source.items()})
            case _:
                hint = "write it in quotes" if hasattr(source, "isoformat") else "give plain data"
                self._note(f"a {type(source).__name__} is no JSON ({hint})", at)
                return _Fixed(None)

    def _check_depth(self, at: At) -> None:
        if len(at) >= DEEPEST:
            raise self._error(f"it is nested more than {DEEPEST} deep", at[:3])

    def _key(self, key: object, at: At) -> str:
        if not isinstance(key, str):
            self._note(f"the key {shortened(repr(key), 40)} is no text (write it in quotes)", at)
            return ""
        if "{{" not in key:
            return key
        try:
            parts = parse(key)
        except Malformed:
            parts = []
        match parts:
            case [str(literal)]:
                return literal
        self._note(f"the key {shortened(key, 40)!r} is no template (where `{{{{` is meant as text write `\\{{{{`)", at)
        return key

    def _text(self, source: str, at: At) -> _Node:
        try:
            parts = parse(source)
        except Malformed as error:
            self._note(
                f"in `{_excerpt(source, error.offset)}`, character {error.offset + 1:,}: {error}", at, error.offset
            )
            return _Fixed(source)
        pieces = [part if isinstance(part, str) else self._expression(part, at) for part in parts]
        if len(pieces) == 1:
            only = pieces[0]
            if isinstance(only, str):
                return _Fixed(only)
            self.is_expression = not at
            return only
        texts = [text_of(piece.value) if isinstance(piece, _Fixed) else piece for piece in pieces]
        if all(isinstance(text, str) for text in texts):
            return _Fixed("".join(text for text in texts if isinstance(text, str)))
        return self._joined(texts, at)

    def _expression(self, expression: Expression, at: At) -> _Node:
        looks: list[_Look | _Fixed] = []
        paths = []
        for operand in expression.operands:
            if isinstance(operand, Path):
                paths.append(operand)
                looks.append(_path(operand))
            elif operand.value is not None or operand is expression.operands[-1]:
                looks.append(_Fixed(operand.value))
                break  # what stands behind a value is never reached
        before: tuple[Reference, ...] = ()
        for path in paths:
            defaulted = path is not paths[-1] or isinstance(looks[-1], _Fixed)
            last = Reference(path.root, path.keys, defaulted, path.text, path.offset, at, () if defaulted else before)
            self.references.append(last)
            before += (last,)
        first = looks[0]
        if isinstance(first, _Fixed):
            return first
        return self._reporting(_chain(looks) if len(looks) > 1 else first, expression, at)

    def _reporting(self, look: _Look, expression: Expression, at: At) -> _Make:
        text = expression.text[2:-2].strip()

        def make(names: Names, room: _Room) -> object:
            try:
                return look(names)
            except _Missing as error:
                raise self._error(f"`{shortened(text, 200)}`: {error}", at, expression.offset) from None

        return make

    def _joined(self, pieces: Sequence[str | _Make], at: At) -> _Make:
        def make(names: Names, room: _Room) -> object:
            texts = []
            for piece in pieces:
                if isinstance(piece, str):
                    text = piece
                else:
                    value = piece(names, room)
                    try:
                        text = value if isinstance(value, str) else text_of(value)
                    except ValueError as error:
                        raise self._error(f"{kind_of(value)} cannot be put into a text: {error}", at) from None
                room[0] -= len(text)
                if room[0] < 0:
                    raise self._error(f"more than {LONGEST_TEXT:,} characters of text would be put together", at)
                texts.append(text)
            return "".join(texts)

        return make

    def _note(self, message: str, at: At, offset: int = 0) -> None:
        self.errors.append(self._error(message, at, offset))

    def _error(self, message: str, at: At, offset: int = 0) -> ExpressionError:
        where = self.where(at) if callable(self.where) else spelled(self.where, at)
        return ExpressionError(f"{where}: {message}" if where else message, path=at, offset=offset)


def _path(path: Path) -> _Look:
    root, keys, _, _ = path
    is_whole = not keys or (root == "nodes" and len(keys) == 1)

    def look(names: Names) -> object:
        try:
            value = names.lookup(root)
        except LookupError as error:
            raise _unknown(root, names, error) from None
        for index, key in enumerate(keys):
            value = value[key] if type(value) is dict and key in value else _step(value, key, root, keys[:index])
        if is_whole and type(value) is Failed:
            raise _Missing(f"{path.text} has failed, and has only `{path.text}.error`")
        return value

    return look


def _step(value: object, key: str | int, root: str, before: At) -> object:
    """What an object has under the key, or a list at the place, -1 being the last."""
    if isinstance(key, str):
        if isinstance(value, Mapping) and key in value:
            found: object = value[key]
            return found
    elif isinstance(value, list | tuple) and -len(value) <= key < len(value):
        element: object = value[key]
        return element
    raise _Missing(_absent(value, key, spelled(root, before)))


def _absent(value: object, key: str | int, place: str) -> str:
    if isinstance(value, Mapping) and isinstance(key, str):
        fields = [name for name in value if isinstance(name, str)]
        if not fields:
            return f"{place} has no field {key!r}; it has none at all"
        return f"{place} has no field {key!r}; it has: {listed(fields)}{suggestion(key, fields)}"
    if isinstance(value, list | tuple) and isinstance(key, int):
        return f"{place} has no element [{key}]; it has {len(value):,}"
    wanted = f"field {key!r}" if isinstance(key, str) else f"element [{key}]"
    kind = "an object" if isinstance(value, Mapping) else kind_of(value)
    return f"{place} is {kind} and has no {wanted}"


def _unknown(root: str, names: Names, error: LookupError) -> _Missing:
    if not isinstance(error, KeyError) and str(error):
        return _Missing(f"{root}: {error}")
    known = list(names.known()) if isinstance(names, Listed) else []
    there = f"; there are: {listed(known)}{suggestion(root, known)}" if known else ""
    return _Missing(f"nothing is called {root!r} here{there}")


def _chain(looks: Sequence[_Look | _Fixed]) -> _Look:
    """The first that is there and not null, or else what the last one is."""
    *before, last = (_literal(look.value) if isinstance(look, _Fixed) else look for look in looks)

    def look(names: Names) -> object:
        for one in before:
            try:
                value = one(names)
            except _Missing:
                continue
            if value is not None:
                return value
        return last(names)

    return look


def _literal(value: object) -> _Look:
    return lambda names: value


def _list(nodes: Sequence[_Node]) -> _Node:
    fixed = [node.value for node in nodes if isinstance(node, _Fixed)]
    if len(fixed) == len(nodes):
        return _Fixed(fixed)
    makes = [_maker(node) for node in nodes]
    return lambda names, room: [make(names, room) for make in makes]


def _object(nodes: Mapping[str, _Node]) -> _Node:
    fixed = {key: node.value for key, node in nodes.items() if isinstance(node, _Fixed)}
    if len(fixed) == len(nodes):
        return _Fixed(fixed)
    makes = [(key, _maker(node)) for key, node in nodes.items()]
    return lambda names, room: {key: make(names, room) for key, make in makes}


def _maker(node: _Node) -> _Make:
    if not isinstance(node, _Fixed):
        return node
    value = node.value
    if isinstance(value, list | dict):
        return lambda names, room: _copied(value)
    return lambda names, room: value


def _copied(value: Json) -> Json:
    """The same lists and objects anew: whoever is given a constant may change it without changing the next one's."""
    if isinstance(value, dict):
        return {key: _copied(one) if isinstance(one, dict | list) else one for key, one in value.items()}
    return [_copied(one) if isinstance(one, dict | list) else one for one in value]


def _excerpt(source: str, offset: int) -> str:
    start, end = max(offset - 40, 0), offset + 40
    cut = source[start:end].replace("\n", "\\n")
    return ("…" if start else "") + cut + ("…" if end < len(source) else "")
