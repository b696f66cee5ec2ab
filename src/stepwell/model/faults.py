"""Why a value cannot be written, and where in it: `$.pages[3].price is nan, …`.

Only asked when something was refused, so it may be slow, but it never runs the value's own code: no `__str__`, no
`__getattr__`, no `__eq__`. A fault is found by looking at types and at the fields that they declare.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator

import msgspec

MAX_DEPTH = 200
"""Levels of containers in a value without declared types; deeper ones could not be read on a full stack."""

_PLAIN_KEYS = frozenset({str, int, float, bool, type(None)})


class Refusal(Exception):
    """A value is refused: what was found, what to do, and the path to it, gathered while the error travels up."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy
        self.segments: list[str] = []

    def within(self, segment: str) -> Refusal:
        """Say that the value stands at `segment` of its container."""
        self.segments.append(segment)
        return self

    @property
    def path(self) -> str:
        """The place in the value, from `$`; a long one is cut in the middle."""
        segments = self.segments[::-1]
        if len(segments) > 12:
            segments = [*segments[:6], " … ", *segments[-3:]]
        return "$" + "".join(segments)


def type_name(kind: type) -> str:
    """The name of a type with its module, read without running code of its metaclass."""
    name = str(type.__dict__["__qualname__"].__get__(kind))
    module = type.__dict__["__module__"].__get__(kind)
    if module in ("builtins", "__main__") or not isinstance(module, str):
        return name.rpartition("<locals>.")[2]
    return f"{module}.{name.rpartition('<locals>.')[2]}"


def member(key: object) -> str:
    """The path segment of a dict's member or a field: `.name`, or `["odd name"]`."""
    if type(key) is str:
        return f".{key}" if key.isidentifier() else f"[{key[:60]!r}]"
    return f"[{key!r}]" if type(key) in _PLAIN_KEYS else f"[{type_name(type(key))}]"


def unknown(value: object) -> Refusal:
    """The refusal of a value whose type has no form in JSON."""
    kind = type(value)
    name = type_name(kind)
    remedy = "write what it is made of: plain values, a dataclass, or what is needed to make it again inside the task"
    for test, text in _REMEDIES:
        if test(kind):
            remedy = text
            break
    return Refusal(f"{_article(name)} {name}", remedy)


def not_finite(value: object) -> Refusal:
    """The refusal of nan, inf or -inf."""
    return Refusal(f"{value!r}, which JSON cannot hold", "use None or a string instead")


def _article(name: str) -> str:
    return "an" if name[:1].lower() in "aeiou" else "a"


def _subclass_of(*kinds: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, kinds)


_REMEDIES: tuple[tuple[Callable[[type], bool], str], ...] = (
    (
        lambda kind: type_name(kind).startswith("numpy.") and kind.__name__ == "ndarray",
        "use .tolist() for a list of Python numbers, or write a file and give its name",
    ),
    (lambda kind: type_name(kind).startswith("numpy."), "use .item() for the Python number"),
    (_subclass_of(types.GeneratorType), "make a list of it: list(…)"),
    (_subclass_of(types.AsyncGeneratorType), "collect it into a list: [item async for item in …]"),
    (_subclass_of(types.CoroutineType), "await it first"),
    (_subclass_of(range, map, filter, zip, type({}.keys()), type({}.values()), type({}.items())), "use list(…)"),
    (
        _subclass_of(types.FunctionType, types.BuiltinFunctionType, types.MethodType, type),
        "write its name and look it up where it is needed",
    ),
    (_subclass_of(BaseException), "write its text, str(error), or raise it"),
    (_subclass_of(complex), "write a list of its real and imaginary part"),
    (_subclass_of(memoryview), "use bytes(…)"),
)


def find_fault(value: object, probe: Callable[[object], object], *, text_keys: bool = False) -> Refusal | None:
    """Return the first thing in `value` that JSON cannot hold, with its path; None when there is nothing.

    Looks for numbers that are not finite, lone surrogates, containers that contain themselves or are too deep, with
    `text_keys` for keys that are no strings, and for leaves which `probe` (that writes one) refuses. Classes with
    declared fields are fine here: whether the hint allows them is not asked.
    """
    stack: list[tuple[object, _Link | None]] = [(value, None)]
    while stack:
        found, link = stack.pop()
        fault = _fault_of(found)
        if fault is not None:
            return _placed(fault, link)
        members = members_of(found)
        if members is None:
            try:
                probe(found)
            except Refusal as refusal:
                return _placed(refusal, link)
            except Exception:  # what the leaf itself may be refused for was looked at above
                pass
            continue
        depth = link.depth + 1 if link else 0
        if depth > MAX_DEPTH:
            return _too_deep(_Link(link, "", found, depth))
        children = []
        for key, segment, child in members:
            fault = _fault_of(key) or (_no_text(key) if text_keys else None)
            if fault is not None:
                return _placed(fault, _Link(link, segment, found, depth))
            children.append((child, _Link(link, segment, found, depth)))
        stack.extend(reversed(children))
    return None


class _Link:
    """One step from a container to its member; `holder` is the container."""

    __slots__ = ("depth", "holder", "parent", "segment")

    def __init__(self, parent: _Link | None, segment: str, holder: object, depth: int) -> None:
        self.parent = parent
        self.segment = segment
        self.holder = holder
        self.depth = depth


def _placed(fault: Refusal, link: _Link | None) -> Refusal:
    while link is not None:
        fault.within(link.segment)
        link = link.parent
    return fault


def _too_deep(link: _Link) -> Refusal:
    chain: list[_Link] = []
    step: _Link | None = link
    while step is not None:
        chain.append(step)
        step = step.parent
    chain.reverse()
    first_seen: dict[int, int] = {}
    for position, step in enumerate(chain):
        if id(step.holder) in first_seen:
            return _placed(
                Refusal("a container that contains itself", "break the circle: refer to it by a name or an id"),
                chain[position - 1],
            )
        first_seen[id(step.holder)] = position
    return _placed(Refusal(f"nested deeper than {MAX_DEPTH} levels", "flatten it, or write it as text"), link.parent)


def _fault_of(value: object) -> Refusal | None:
    """What is wrong with the value itself, its members aside."""
    kind = type(value)
    if issubclass(kind, str):
        return _surrogates(str.__str__(value))
    if kind is float and not math.isfinite(value):  # type: ignore[arg-type]  # a float, by its type
        return not_finite(value)
    if kind is int and value.bit_length() > 2000:  # type: ignore[attr-defined]  # an int, by its type
        try:
            str(value)
        except ValueError:
            return Refusal(
                "an int of more digits than Python writes (sys.get_int_max_str_digits())", "write hex(…) as a string"
            )
    return _secret(kind)


def _no_text(key: object) -> Refusal | None:
    if issubclass(type(key), str):
        return None
    name = type_name(type(key))
    return Refusal(f"a member whose key is of type {name}", f"use strings as keys, or declare them: dict[{name}, …]")


def _surrogates(text: str) -> Refusal | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"a string with a lone surrogate ({text[error.start]!a} at {error.start})"
        return Refusal(found, "it is no text: write bytes (os.fsencode for file names), or replace the character")
    return None


def _secret(kind: type) -> Refusal | None:
    pydantic = sys.modules.get("pydantic")
    names = ("SecretStr", "SecretBytes", "Secret")
    if pydantic is not None and issubclass(kind, tuple(getattr(pydantic, n) for n in names if hasattr(pydantic, n))):
        return Refusal(
            f"a {kind.__name__}, which is written as asterisks", "write the name of the secret and read it in the task"
        )
    return None


def members_of(value: object) -> Iterable[tuple[object, str, object]] | None:
    """(key, path segment, value) of what a container holds; None when it is none. Without keys the key is ``""``."""
    kind = type(value)
    if issubclass(kind, dict):
        held_items: Iterable[tuple[object, object]] = dict.items(value)  # type: ignore[arg-type]  # a dict, by its type
        return [(key, member(key), item) for key, item in held_items]
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            held: Iterator[object] = base.__iter__(value)  # type: ignore[arg-type]  # the base's own, not an override
            return [("", f"[{index}]", item) for index, item in enumerate(held)]
    names = field_names(kind)
    if names is None:
        return None
    fields = []
    for name in names:
        try:
            fields.append(("", member(name), object.__getattribute__(value, name)))
        except AttributeError:
            continue
    return fields


def field_names(kind: type) -> list[str] | None:
    """The fields that a class declares; None when it is none of the kinds that declare them."""
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    if hasattr(kind, "__pydantic_fields__"):
        return list(kind.__pydantic_fields__)
    return None


def _lost() -> Refusal:
    return Refusal(
        "not part of the declared type and would be lost", "declare it, or annotate with the type that has it"
    )


def find_dropped(written: object, kept: object) -> Refusal | None:
    """Compare what was written with what is left of it after reading: a member or item that is gone is a refusal."""
    if type(written) is dict and type(kept) is dict:
        for key, item in written.items():
            if key not in kept:
                return _lost().within(member(key))
            fault = find_dropped(item, kept[key])
            if fault is not None:
                return fault.within(member(key))
    elif type(written) is list and type(kept) is list:
        if len(written) > len(kept):
            return _lost().within(f"[{len(kept)}]")
        for index, (item, other) in enumerate(zip(written, kept, strict=False)):
            fault = find_dropped(item, other)
            if fault is not None:
                return fault.within(f"[{index}]")
    return None
