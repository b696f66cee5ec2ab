"""One value is written and read by one type hint; what is written is the encoding of what will be read.

A typed value is encoded, read back by its hint and encoded again: so a value that does not fit its hint is refused
when it is written and not when a replay needs it, and two inputs that read alike (`5` and `5.0` for a float) have
the same bytes. All three happen in C; Python code walks only what `shapes` says.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from types import NoneType
from typing import Any, Final, Never, NoReturn, TypeVar

import msgspec
from msgspec import inspect as kinds

from stepwell.errors import Unserialisable
from stepwell.model import foreign, shapes, tagging
from stepwell.model.faults import Refusal, find_dropped, find_fault, type_name
from stepwell.model.foreign import ENCODE
from stepwell.model.refusals import DECODE, at, hint_text, refused_read, refused_write

NULL: Final = msgspec.Raw(b"null")

_UNTYPED = (inspect.Parameter.empty, object)
_ANYTHING: Final = frozenset({str, int, bool, NoneType})
_EXACT: Final[dict[type, type]] = {kinds.IntType: int, kinds.BoolType: bool, kinds.NoneType: NoneType}
_PACK: Final = msgspec.msgpack.Encoder(enc_hook=foreign.dump).encode
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")  # a float64 whose exponent bits are all set


class Form:
    """How values of one hint are written and read; errors here are unplaced (`Refusal`, msgspec's, the type's own).

    `exact` are the types whose values are written by `ENCODE` alone, if at all.

    Raises:
        TypeError: msgspec cannot take the hint.
    """

    __slots__ = (
        "_decode",
        "_has_foreign",
        "_has_numbers",
        "_hint",
        "_settled",
        "_shape",
        "_text_only",
        "exact",
        "info",
        "untyped",
    )

    def __init__(self, hint: object) -> None:
        self._hint: Any = hint  # Any: a type form, which Python cannot spell yet
        self.info = kinds.type_info(self._hint)
        self.untyped = shapes.is_untyped(self.info)
        self.exact = _ANYTHING if self.untyped else _exact(self.info)
        self._text_only = isinstance(self.info, kinds.StrType) or self.exact == {str, NoneType}
        self._shape = shapes.shape_of(self.info)
        self._settled = self._shape is not None and shapes.is_settled(self.info)
        parts = shapes.everything_in(self.info)
        self._has_foreign = any(isinstance(part, kinds.CustomType) for part in parts)
        self._has_numbers = self._has_foreign or any(isinstance(part, kinds.FloatType) for part in parts)
        self._decode = msgspec.json.Decoder(self._hint, dec_hook=foreign.load).decode

    def write(self, value: object) -> bytes:
        """Return canonical JSON."""
        if self.untyped:
            return _write_untyped(value)
        self.check_text(value)
        if self._settled and tagging.is_plain(value):
            first = ENCODE(value)
            self._decode(first)  # it fits the hint, and there is nothing that reading would put into another form
            if b'"$' not in first:
                return first
        first = self._encode(value)
        if (b"null" in first and self._has_numbers and _hides_number(value)) or (
            self._has_foreign and foreign.MASK in first
        ):
            fault = find_fault(value, ENCODE)
            if fault is not None:
                raise fault
        final = self._encode(self.read(first))
        if final != first and (fault := find_dropped(DECODE(first), DECODE(final))):
            raise fault
        return final

    def check_text(self, value: object) -> None:
        """Refuse what msgspec would turn into text where the hint is `str`: bytes as base64, dates, paths."""
        if self._text_only and not issubclass(type(value), (str, NoneType)):
            raise Refusal(f"of type {type_name(type(value))}, not the declared str", "mend the value or the hint")

    def rewrite(self, value: object) -> bytes:
        """Return canonical JSON of what `read` gave."""
        return _write_untyped(value) if self.untyped else self._encode(value)

    def _encode(self, value: object) -> bytes:
        return ENCODE(value if self._shape is None else self._shape.tag(value))

    def read(self, data: bytes) -> object:
        """Return the value that the bytes stand for."""
        if self._shape is None or not self._shape.reads_tags or b'"$' not in data:
            return self._decode(data)
        raw = self._shape.untag(DECODE(data))
        return msgspec.convert(raw, self._hint, str_keys=True, dec_hook=foreign.load)


def _hides_number(value: object) -> bool:
    """Whether a `null` may stand for a number that is not finite: MessagePack, unlike JSON, writes those out."""
    try:
        return _NOT_FINITE.search(_PACK(value)) is not None
    except Exception:  # what only JSON can write, such as very large ints, is searched in Python
        return True


def _write_untyped(value: object) -> bytes:
    if tagging.is_plain(value):
        try:
            data = ENCODE(value)
        except ValueError:  # an int of very many digits, or no text: the walk below tells
            pass
        else:
            if b'"$' not in data:
                return data
    return ENCODE(tagging.tag(value))


def _exact(info: kinds.Type) -> frozenset[type]:
    if isinstance(info, kinds.UnionType):
        return frozenset().union(*map(_exact, info.types))
    if info == kinds.StrType():
        return frozenset({str})
    kind = _EXACT.get(type(info))
    return frozenset({kind}) if kind is not None and info == type(info)() else frozenset()


def form_of(hint: object, place: str) -> Form:
    """Return how the hint is written and read.

    Raises:
        Unserialisable: no JSON form can be told from the hint; the text names `place` and the hint.
    """
    return _form(usable(hint, place))


def _form(hint: object) -> Form:
    try:
        hash(hint)
    except TypeError:  # such as an Annotated with a list
        return Form(hint)
    return _cached_form(hint)


@functools.lru_cache(maxsize=1024)  # signals and state ask for a codec at each use, and preparing one takes 20 µs
def _cached_form(hint: object) -> Form:
    return Form(hint)


def usable(hint: object, place: str) -> object:
    """Return the hint, or what stands for it, in a form that msgspec takes. Raises as `form_of` does."""
    if hint in _UNTYPED or isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs, TypeVar)):
        return Any
    if hint in (NoReturn, Never):
        return None
    try:
        form = _form(hint)
    except Exception as error:  # a hint may be any object, and resolving its names may raise anything
        stand_in = foreign.stand_in(hint)
        if stand_in is not None:
            return stand_in
        reason = str(error).partition(" - type `")[0]
        remedy = "annotate with types that can be told apart, such as msgspec Structs with tags"
        if isinstance(error, NameError):
            remedy = "define or import what it names at module level, not only under TYPE_CHECKING"
        raise Unserialisable(
            f"{place}: the hint `{hint_text(hint)}` has no one JSON form: {reason}; {remedy}"
        ) from error
    for part in shapes.everything_in(form.info):
        if isinstance(part, kinds.CustomType) and not foreign.knows(part.cls):
            raise Unserialisable(
                f"{place}: the hint `{hint_text(hint)}` holds `{type_name(part.cls)}`, which cannot be written as "
                "JSON; annotate with plain types, a dataclass or a model (list[…] for Iterable and Iterator)"
            )
    return hint


class ValueCodec:
    """Writes and reads values of one type hint at one named place.

    `hint` is a type form; `object`, `Any` and `inspect.Parameter.empty` say nothing about the value, `None` says
    that it is None. `place` begins every error, such as ``result of fetch``.

    Without a hint JSON values go as they are, and datetime, date, time, timedelta, Decimal, UUID, bytes, set,
    frozenset, tuple and Path come back as what they were. Dict members come back in the order of their keys. A
    pydantic model is written by pydantic, its `Any` fields as pydantic reads them.

    Raises:
        Unserialisable: the hint has no JSON form.
    """

    __slots__ = ("_exact", "_form", "hint", "place")

    def __init__(self, hint: object, place: str) -> None:
        self.hint = hint
        self.place = place
        self._form = form_of(hint, place)
        self._exact = self._form.exact

    def encode(self, value: object) -> msgspec.Raw:
        """Return the canonical JSON of `value`.

        Raises:
            Unserialisable: it does not fit the hint, or JSON cannot hold it; the text names place, path, what was
                found and what to do.
        """
        if type(value) in self._exact:
            if value is None:
                return NULL
            try:
                return msgspec.Raw(ENCODE(value))
            except ValueError:  # no text, or too many digits: said below
                pass
        try:
            return msgspec.Raw(self._form.write(value))
        except Exception as error:
            raise Unserialisable(refused_write(self._form, value, error, self.place, self.hint)) from error

    def decode(self, data: bytes | msgspec.Raw) -> object:
        """Return the value that `encode` was given.

        Raises:
            Unserialisable: the bytes do not fit the hint, for instance because its type was changed since.
        """
        data = bytes(data)
        try:
            return self._form.read(data)
        except Exception as error:
            what, path = refused_read(self._form, data, error)
            raise Unserialisable(
                f"{at(self.place, path)}: {what}; the recorded data does not fit `{hint_text(self.hint)}`: "
                "was the type changed? Give the new field a default, or read the old form too"
            ) from error
