"""Values and calls survive the journal, or are refused with the place, what was found and what to do."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import socket
import subprocess
import sys
import threading
import typing
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NoReturn, NotRequired, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import ArgumentError, DefinitionError, Unserialisable
from stepwell.model.codec import CallCodec, ValueCodec, checksum, content_hash

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    note: Any = None


class Row(TypedDict):
    id: int
    extra: NotRequired[Any]


@dataclasses.dataclass(frozen=True)
class Key:
    shop: str
    number: int


@dataclasses.dataclass
class Page:
    url: str
    price: float | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    next: Page | None = None
    seen: dt.datetime | None = None


@dataclasses.dataclass
class RichPage(Page):
    colour: str = "red"


@dataclasses.dataclass
class Box(Generic[T]):
    held: T


class Circle(msgspec.Struct, tag=True, rename="camel", omit_defaults=True):
    the_radius: float
    any_thing: Any = None


class Square(msgspec.Struct, tag=True, array_like=True):
    side: int
    note: Any = None


class Cube(Square, tag="Square", array_like=True):
    depth: int = 0


class Plot(msgspec.Struct, tag=True):
    places: dict[int, Any]


class Plain(msgspec.Struct):
    pages: list[Page] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    born: dt.date = dt.date(2020, 1, 1)


class Dog(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    kind: Literal["dog"] = "dog"
    weight: decimal.Decimal = decimal.Decimal("1.50")
    known_as: str = pydantic.Field("Rex", validation_alias="knownAs", serialization_alias="name")


class Zoo(pydantic.BaseModel):
    cats: list[Cat] = []
    weight: float | None = None
    token: pydantic.SecretStr | None = None


@dataclasses.dataclass
class Shelter:
    zoo: Zoo
    first: Cat | None = None


BERLIN = ZoneInfo("Europe/Berlin")
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


def round_trip(hint: object, value: object) -> object:
    codec = ValueCodec(hint, "result of fetch")
    data = codec.encode(value)
    back = codec.decode(data)
    assert bytes(codec.encode(back)) == bytes(data), "what was read is written as the same bytes"
    assert codec.decode(bytes(data)) == back, "bytes and Raw are read alike"
    return back


TYPED = [
    (str, "ä€😀"),
    (str, ""),
    (int, -(2**200)),
    (int, 10**4000),
    (float, -0.0),
    (float, 1e308),
    (bool, True),
    (None, None),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"ab")),
    (dt.datetime, dt.datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=dt.UTC)),
    (dt.datetime, dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))),
    (dt.datetime, dt.datetime(2026, 3, 1, 12, 30)),
    (dt.datetime, dt.datetime(1880, 1, 1, tzinfo=BERLIN)),
    (dt.date, dt.date(1, 1, 1)),
    (dt.time, dt.time(23, 59, 59, 999999)),
    (dt.time, dt.time(1, tzinfo=dt.UTC)),
    (dt.timedelta, dt.timedelta(days=-1, microseconds=1)),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (uuid.UUID, ID),
    (Colour, Colour.GREEN),
    (Level, Level.HIGH),
    (pathlib.Path, pathlib.Path("/tmp/a b")),
    (pathlib.PurePosixPath, pathlib.PurePosixPath("a/b")),
    (set[str], {"b", "a"}),
    (set[Colour], {Colour.RED, Colour.GREEN}),
    (set[int | str], {1, "1", 2}),
    (frozenset[tuple[int, ...]], frozenset({(2,), (1, 2)})),
    (set[Key], {Key("b", 1), Key("a", 2)}),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (Point, Point(1, 2)),
    (Point, Point(1, {"at": dt.date(2026, 1, 1)})),
    (Row, {"id": 1}),
    (Row, {"id": 1, "extra": (1, 2)}),
    (int | None, None),
    (int | str | list[int] | None, [1]),
    (Literal["a", "b"], "b"),
    (Annotated[int, msgspec.Meta(gt=1)], 2),
    (typing.NewType("Name", str), "x"),
    (dict[int, str], {2: "b", 10: "a"}),
    (dict[uuid.UUID, list[int]], {ID: [1]}),
    (dict[Colour, int], {Colour.GREEN: 1, Colour.RED: 2}),
    (dict[dt.date, Any], {dt.date(2026, 1, 1): {1, 2}}),
    (dict[pathlib.Path, int], {pathlib.Path("a"): 1}),
    (Mapping[str, Sequence[int]], {"a": [1, 2]}),
    (Page, Page("u", 1.5, {"a": [1, {"b": dt.date(2026, 1, 1)}], "$t": 1}, Page("v"), dt.datetime(2026, 1, 1))),
    (list[Page | None], [Page("u"), None]),
    (Box[int], Box(1)),
    (Box, Box({"a": {1, 2}})),
    (Circle, Circle(1.5)),
    (Circle, Circle(1.5, {"$x": b"a"})),
    (Square, Square(2, (1,))),
    (Circle | list[Any] | None, [(1,)]),
    (Circle | list[Any] | None, Circle(1.0, (2,))),
    (list[Circle | Plot], [Circle(1.0, {1}), Plot({2: 3})]),
    (list[Square], [Square(2, {3})]),
    (Plain, Plain([Page("u", meta={"a": (1,)})])),
    (Cat, Cat()),
    (Dog, Dog(knownAs="Bello")),
    (list[Cat], [Cat(), Cat(born=dt.date(2021, 2, 3))]),
    (dict[str, Cat | None], {"a": Cat(), "b": None}),
    (Cat | Dog, Dog()),
    (list[Cat | Dog], [Dog(), Cat()]),
    (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], Cat()),
    (Shelter, Shelter(Zoo(cats=[Cat()]), Cat())),
    (tuple[Any, int], ((1, 2), 3)),
    (list[Any], [(1,), {2}, b"3", {"a": decimal.Decimal("4")}]),
    (dict[str, Any], {"$t": "datetime", "v": {"$t": 1}, "w": dt.date(2026, 1, 1)}),
    (dict[str, object], {"a": (1, 2)}),
    (dict, {1: "a", "1": "b", (1, 2): {3}, None: 1.5}),
    (dict, {"$t": "dict", "v": [[1, 2]]}),
    (dict[Any, int], {(1, 2): 3, "$a": 4}),
    (list, [(1, 2)]),
    (tuple, (1, (2,), {"a": {3}})),
    (set, {(1, 2), "a", 3}),
    (set[Any], {(1, 2), "a", 3}),
    (Any | None, (1,)),
    (object, None),
]


@pytest.mark.parametrize(("hint", "value"), TYPED, ids=[f"{h!s:.50}-{i}" for i, (h, _) in enumerate(TYPED)])
def test_a_value_comes_back_as_its_hint_declares(hint: object, value: object) -> None:
    back = round_trip(hint, value)
    assert back == value
    assert type(back) is type(value)
    assert _types(back) == _types(value)


def _types(value: object) -> object:
    """Types all the way down, since (1,) and [1] may not be mixed up inside either."""
    if isinstance(value, dict):
        return {key: (_types(key), _types(item)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_types, value))
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset((item, _types(item)) for item in value)
    return type(value)


UNTYPED = [
    None,
    True,
    0,
    2**70,
    -(10**6000),
    1.5,
    "$t",
    "text",
    [],
    {},
    {"a": [1, None, {"b": [[]]}]},
    {"$t": "datetime", "v": "2026-01-01"},
    {"$ref": "#/x", "plain": {"$t": 1}},
    {1: 2, "1": 3, 1.5: 4, None: 5, False: 6},
    {(1, "a"): 1, frozenset({1}): 2, ID: 3, b"k": 4, dt.date(2026, 1, 1): {5}},
    (),
    (1, [2, (3,)]),
    {1, "a", (2, 3), None},
    frozenset({frozenset({1})}),
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 7, 1, 8, tzinfo=BERLIN),
    dt.datetime(1880, 1, 1, tzinfo=BERLIN),
    dt.datetime(2026, 1, 1),
    dt.date(2026, 1, 1),
    dt.time(1, 2, 3),
    dt.timedelta(days=-3, microseconds=7),
    decimal.Decimal("1E+500"),
    decimal.Decimal("-0.00"),
    ID,
    b"",
    bytearray(b"\xff"),
    pathlib.Path("a/b"),
    [{"deep": [{"at": dt.datetime(2026, 1, 1), "ids": (ID, {b"x"})}]}],
]


@pytest.mark.parametrize("hint", [object, Any, __import__("inspect").Parameter.empty])
@pytest.mark.parametrize("value", UNTYPED, ids=range(len(UNTYPED)))
def test_a_value_without_a_hint_comes_back_the_same(value: object, hint: object) -> None:
    back = round_trip(hint, value)
    assert back == value
    assert _types(back) == _types(value)


def test_plain_json_without_a_hint_is_written_as_it_is() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"d": "x", "c": "y"}}
    assert bytes(ValueCodec(object, "x").encode(value)) == b'{"a":{"c":"y","d":"x"},"b":[1,2.5,null,true]}'


def test_other_values_without_a_hint_are_tagged() -> None:
    encode = ValueCodec(object, "x").encode
    assert json.loads(bytes(encode(decimal.Decimal("1.10")))) == {"$t": "decimal", "v": "1.10"}
    assert json.loads(bytes(encode({3, 1}))) == {"$t": "set", "v": [1, 3]}
    assert json.loads(bytes(encode({2: (1,)}))) == {"$t": "dict", "v": [[2, {"$t": "tuple", "v": [1]}]]}


def test_the_instant_of_a_datetime_is_kept_where_its_offset_has_seconds() -> None:
    value = dt.datetime(1880, 1, 1, tzinfo=BERLIN)
    assert value.utcoffset() == dt.timedelta(minutes=53, seconds=28)
    assert round_trip(dt.datetime, value) == value
    assert round_trip(list[Page], [Page("u", seen=value)]) == [Page("u", seen=value)]


def test_values_that_read_alike_have_the_same_bytes() -> None:
    def written(hint: object, value: object) -> bytes:
        return bytes(ValueCodec(hint, "x").encode(value))

    assert written(float, 5) == written(float, 5.0) == b"5.0"
    assert written(list[float], [5]) == written(list[float], [5.0])
    assert written(uuid.UUID, str(ID).upper()) == written(uuid.UUID, ID)
    assert written(list[int], (1, 2)) == written(list[int], [1, 2])


def test_subclasses_of_str_int_and_float_are_written_as_what_the_hint_says() -> None:
    class Text(str):
        def __str__(self) -> str:
            raise AssertionError("user code ran")

    assert ValueCodec(str, "x").decode(ValueCodec(str, "x").encode(Text("a"))) == "a"
    assert bytes(ValueCodec(list[str], "x").encode([Text("a")])) == b'["a"]'
    assert bytes(ValueCodec(dict[str, int], "x").encode({"a": Level.LOW})) == b'{"a":1}'


def test_a_function_that_never_returns_may_say_so() -> None:
    assert ValueCodec(NoReturn, "x").decode(b"null") is None


class Hostile:
    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"user code ran: {name}")

    def __str__(self) -> str:
        raise AssertionError("user code ran")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("user code ran")

    def __hash__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        raise AssertionError("user code ran")


def _circle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def _nest(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _numpy(name: str) -> Any:
    return getattr(pytest.importorskip("numpy"), name)


NAN = float("nan")
REFUSED: list[tuple[str, object, Callable[[], object], list[str]]] = [
    ("nan", object, lambda: NAN, ["result of fetch is nan", "use None or a string"]),
    ("nan among nones", object, lambda: {"a": [None, -float("inf")]}, ["$.a[1] is -inf"]),
    ("nan beside a date", object, lambda: [dt.date(2026, 1, 1), NAN], ["$[1] is nan"]),
    ("nan for float", float, lambda: NAN, ["result of fetch is nan"]),
    ("nan for an optional float", float | None, lambda: NAN, ["is nan"]),
    ("nan in a field", list[Page], lambda: [Page("a"), Page("b", NAN)], ["$[1].price is nan"]),
    ("nan beside a large int", list[float | int | None], lambda: [2**90, NAN], ["$[1] is nan"]),
    ("nan in a dict", dict[str, float | None], lambda: {"a": None, "b c": NAN}, ["$['b c'] is nan"]),
    ("nan under Any in a field", Page, lambda: Page("a", meta={"k": [NAN]}), ["$.meta.k[0] is nan"]),
    ("nan in a model", Zoo, lambda: Zoo(weight=NAN), ["$.weight is nan"]),
    ("surrogate", object, lambda: "a\ud800", ["lone surrogate ('\\ud800' at 1)", "bytes"]),
    ("surrogate for str", str, lambda: "\udcff", ["result of fetch is a string with a lone surrogate"]),
    ("surrogate in a field", Page, lambda: Page("\udcff"), ["$.url is a string with a lone surrogate"]),
    ("surrogate key", object, lambda: {"x\ud800": 1}, ["$['x\\ud800']", "surrogate"]),
    ("surrogate beside a date", object, lambda: [dt.date(2026, 1, 1), "\ud800"], ["$[1]", "surrogate"]),
    ("circle", object, _circle, ["$[1].again is a container that contains itself", "id"]),
    ("circle in list", list, _circle, ["$[1].again is a container that contains itself"]),
    ("too deep", object, lambda: _nest(5000), ["nested deeper than 200 levels", "flatten"]),
    ("too deep, typed", list[Any], lambda: _nest(5000), ["nested deeper than 200 levels"]),
    ("dataclass", object, lambda: Page("a"), ["Page", "annotate the function (`-> Page`"]),
    ("dataclass inside", dict[str, Any], lambda: {"a": [Page("a")]}, ["$.a[0]", "annotate"]),
    ("struct", object, lambda: [Circle(1.0)], ["$[0]", "Circle", "`-> Circle`"]),
    ("model", object, lambda: {"c": Cat()}, ["$.c", "`-> Cat`"]),
    ("enum", object, lambda: Colour.RED, ["`-> Colour`"]),
    ("int enum", object, lambda: Level.LOW, ["`-> Level`"]),
    ("named tuple", object, lambda: Point(1), ["`-> Point`"]),
    ("pure path", object, lambda: pathlib.PurePosixPath("a"), ["`-> PurePosixPath`"]),
    ("enum key", object, lambda: {Colour.RED: 1}, ["Colour", "annotate"]),
    ("str subclass", object, lambda: type("Mark", (str,), {})("a"), ["Mark", "str(…)"]),
    ("dict subclass", object, lambda: __import__("collections").Counter("aa"), ["Counter", "dict(…)"]),
    ("generator", object, lambda: [(i for i in ())], ["$[0] is a generator", "list(…)"]),
    ("range", object, lambda: range(3), ["range", "list(…)"]),
    ("function", object, lambda: {"f": len}, ["$.f is a builtin_function_or_method", "name"]),
    ("class", object, lambda: Page, ["is a type", "name"]),
    ("lock", object, threading.Lock, ["is a _thread.lock"]),
    (
        "lock in a field",
        list[Page],
        lambda: [Page("a", meta={"l": threading.Lock()})],
        ["$[0].meta.l is a _thread.lock"],
    ),
    ("lock as a field", list[Page], lambda: [Page(threading.Lock())], ["$[0].url is a _thread.lock"]),  # type: ignore[arg-type]
    ("error", object, lambda: ValueError("x"), ["is a ValueError", "str(error)"]),
    ("complex", object, lambda: 1j, ["is a complex"]),
    ("ellipsis", object, lambda: ..., ["is an ellipsis"]),
    ("raw json", object, lambda: msgspec.Raw(b"{"), ["msgspec.Raw"]),
    ("hostile", object, lambda: [Hostile()], ["$[0] is a ", "Hostile"]),
    ("hostile, typed", Page, lambda: Page(Hostile()), ["$.url is a ", "Hostile"]),  # type: ignore[arg-type]
    ("hostile key", object, lambda: {"a": {Hostile(): 1}}, ["$.a[", "Hostile"]),
    ("numpy scalar", object, lambda: {"n": _numpy("float64")(1.5)}, ["$.n is a numpy.float64", ".item()"]),
    ("numpy scalar, typed", float, lambda: _numpy("float64")(1.5), ["numpy.float64", ".item()"]),
    ("numpy int, typed", list[int], lambda: [_numpy("int64")(1)], ["$[0] is a numpy.int64", ".item()"]),
    ("numpy array", object, lambda: _numpy("zeros")(3), ["numpy.ndarray", ".tolist()"]),
    ("zoned time", object, lambda: dt.time(1, tzinfo=BERLIN), ["time of day", "use a datetime"]),
    ("zoned time, typed", list[dt.time], lambda: [dt.time(1, tzinfo=BERLIN)], ["$[0]", "time of day"]),
    ("secret", Zoo, lambda: Zoo(token=pydantic.SecretStr("x")), ["$.token is a SecretStr", "asterisks", "name of"]),
    ("long int, typed", int, lambda: 10**5000, ["more digits", "hex(…)"]),
    ("wrong scalar", int, lambda: "5", ["result of fetch: expected `int`, found `str`", "declared `int`"]),
    ("bytes for str", str, lambda: b"x", ["of type bytes, not the declared str"]),
    ("date for optional str", str | None, lambda: dt.date(2026, 1, 1), ["of type datetime.date, not the declared str"]),
    ("not None", None, lambda: 5, ["expected `null`, found `int`", "`None`"]),
    ("None", Page, lambda: None, ["expected `object`, found `null`", "`Page`"]),
    ("wrong field", list[Page], lambda: [Page("a", "b")], ["$[0].price: expected `float | null`, found `str`"]),  # type: ignore[arg-type]
    ("wrong in dict", dict[str, list[int]], lambda: {"a": [1], "b c": [1, "x"]}, ["$['b c'][1]: expected `int`"]),
    (
        "wrong in nested dicts",
        dict[str, dict[str, int]],
        lambda: {"a": {"b": 1}, "c": {"d": 1, "e": None}},
        ["$.c.e: expected `int`, found `null`"],
    ),
    ("wrong key", dict[int, int], lambda: {"x": 1}, ["key", "expected `int`"]),
    ("int key for str", dict[str, int], lambda: {1: 2}, ["key is of type int", "dict[int, …]"]),
    ("clashing keys", dict[int, Any], lambda: {1: 1, "1": 2}, ["written alike"]),
    ("subclass with more", list[Page], lambda: [RichPage("u")], ["$[0].colour is not part of the declared type"]),
    ("longer subclass", Square, lambda: Cube(1, 2, 3), ["$[3] is not part of the declared type"]),
    ("undeclared key", Row, lambda: {"id": 1, "more": 2}, ["$.more is not part of the declared type"]),
    ("meta", Annotated[int, msgspec.Meta(gt=1)], lambda: 1, ["expected `int` >= 2"]),
    ("union", int | str, lambda: 1.5, ["expected `int | str`, found `float`"]),
]


@pytest.mark.parametrize(("hint", "make", "parts"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_value_is_refused_with_its_place_and_a_remedy(hint: object, make: Any, parts: list[str]) -> None:
    codec = ValueCodec(hint, "result of fetch")
    with pytest.raises(Unserialisable) as caught:
        codec.encode(make())
    text = str(caught.value)
    assert text.startswith("result of fetch")
    for part in parts:
        assert part in text


def test_live_things_are_refused_by_the_name_of_their_type() -> None:
    codec = ValueCodec(object, "result of fetch")

    async def work() -> None: ...

    async def items() -> Any:
        yield 1

    coroutine = work()
    with socket.socket() as live, pytest.raises(Unserialisable, match=r"\$\.s is a socket"):
        codec.encode({"s": live})
    with pytest.raises(Unserialisable, match="coroutine: await it first"):
        codec.encode(coroutine)
    with pytest.raises(Unserialisable, match=r"async_generator: collect it"):
        codec.encode(items())
    with pytest.raises(Unserialisable, match=r"Event"):
        codec.encode(asyncio.Event())
    coroutine.close()


@pytest.mark.parametrize(
    ("hint", "parts"),
    [
        (str | dt.datetime, ["str | datetime", "more than one str-like type"]),
        (Page | Key, ["more than one dataclass"]),
        (Iterable[str], ["Iterable[str]", "list[…]"]),
        (list[socket.socket], ["list[socket.socket]", "socket"]),
        (threading.Event, ["Event"]),
        (Callable[[], int], ["Callable"]),
        (enum.Enum("Odd", {"A": (1, 2)}), ["Odd", "all str or all int"]),
        ("Page", ["Page"]),
        (5, ["`5`"]),
    ],
    ids=str,
)
def test_a_hint_without_one_json_form_is_refused_when_it_is_given(hint: object, parts: list[str]) -> None:
    with pytest.raises(DefinitionError) as caught:
        ValueCodec(hint, "argument 'x' of fetch")
    for part in ["argument 'x' of fetch: the hint", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "data", "parts"),
    [
        (list[Page], b'[{"url":"a"},{"price":1.5}]', ["$[1]: object missing required field `url`"]),
        (dict[str, list[Page]], b'{"a":[],"b":[{"url":1}]}', ["$.b[0].url: expected `str`, found `int`"]),
        (Page, b'{"url":', ["truncated"]),
        (Cat, b'{"born":"x"}', ["born:", "date"]),
        (list[Cat], b'[{"kind":"dog"}]', ["$[0]: kind:"]),
        (object, b'{"$t":"nothing","v":1}', ["tag 'nothing'", "newer version"]),
        (object, b'{"$t":"date","v":"x"}', ["marked as 'date'"]),
        (object, b'{"$t":["date"],"v":"x"}', ["is not known here"]),
        (object, b'{"$t":"set","v":[[1]]}', ["marked as 'set'"]),
        (list[Any], b'[{"$t":"dict","v":1}]', ["tag 'dict'"]),
        (pathlib.Path, b"5", ["expected `str` for a path"]),
        (object, b"\xff", ["result of fetch"]),
        (object, b"[" * 100_000, ["RecursionError"]),
    ],
    ids=str,
)
def test_bytes_that_do_not_fit_the_hint_are_refused(hint: object, data: bytes, parts: list[str]) -> None:
    with pytest.raises(Unserialisable) as caught:
        ValueCodec(hint, "result of fetch").decode(data)
    text = str(caught.value)
    assert text.startswith("result of fetch")
    assert "the recorded data does not fit" in text
    for part in parts:
        assert part in text


def test_an_error_raised_by_a_class_while_it_is_read_is_told() -> None:
    @dataclasses.dataclass
    class Angry:
        x: int

        def __post_init__(self) -> None:
            if self.x < 0:
                raise KeyError("negative")

    with pytest.raises(Unserialisable, match="KeyError: 'negative'"):
        ValueCodec(Angry, "x").decode(b'{"x":-1}')


def test_hashes_and_checksums_are_the_documented_ones() -> None:
    assert content_hash(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert checksum(b"abc") == zlib.crc32(b"abc") == 891568578


# -- calls ----------------------------------------------------------------------------------------------------------
def fetch(url: str, size: int = 3, *, deep: bool = False) -> Page:
    return Page(url)


def untyped(url, size=3):  # type: ignore[no-untyped-def]
    return url


def variadic(a: int, /, *items: Page, key: str = "x", **more: float) -> None: ...


def positional_only(a: int = 1, b: int = 2, /) -> None: ...


def one(shop: dict[str, int]) -> None: ...


def nothing() -> None: ...


def models(cat: Cat, when: dt.datetime | None = None, size: int = None) -> list[Cat]: ...  # type: ignore # noqa: PGH003, RUF013


def later(page: NotDefinedYet) -> NotDefinedYet: ...


class NotDefinedYet(msgspec.Struct):
    number: int


def call(function: Callable[..., object], *args: object, **kwargs: object) -> tuple[bytes, object]:
    codec = CallCodec(function, function.__name__)
    data = codec.encode(args, kwargs)
    back = codec.decode(data)
    again = codec.encode(*back)
    assert bytes(again) == bytes(data), "what was read is written as the same bytes"
    assert bytes(codec.parse(bytes(data))) == bytes(data), "what a journal shows can be typed in"
    return bytes(data), back


def test_a_call_is_an_object_of_its_parameters() -> None:
    assert call(fetch, "a") == (b'{"url":"a"}', (("a",), {}))
    assert call(fetch, "a", 5) == (b'{"size":5,"url":"a"}', (("a", 5), {}))
    assert call(fetch, "a", deep=True) == (b'{"deep":true,"url":"a"}', (("a",), {"deep": True}))
    assert call(nothing) == (b"{}", ((), {}))
    assert call(untyped, (1, {"$t"})) == (
        b'{"url":{"$t":"tuple","v":[1,{"$t":"set","v":["$t"]}]}}',
        (((1, {"$t"}),), {}),
    )


def test_position_and_keyword_give_the_same_bytes() -> None:
    codec = CallCodec(fetch, "fetch")
    assert len({bytes(codec.encode(("a", 5), {})), bytes(codec.encode((), {"size": 5, "url": "a"}))}) == 1


def test_a_default_that_was_given_is_written_and_one_that_was_not_is_left_out() -> None:
    assert call(fetch, "a", 3)[0] != call(fetch, "a")[0]


def test_a_gap_before_a_given_parameter_makes_it_a_keyword() -> None:
    def f(a: int, b: int = 2, c: int = 3) -> None: ...

    assert call(f, 1, c=5) == (b'{"a":1,"c":5}', ((1,), {"c": 5}))


def test_variadic_parameters_come_back_where_they_were() -> None:
    pages = (Page("u"), Page("v", 1.0))
    data, back = call(variadic, 1, *pages, key="k", z=1, b=2.5)
    assert list(json.loads(data)) == ["a", "b", "items", "key", "z"]
    assert back == ((1, *pages), {"key": "k", "b": 2.5, "z": 1.0})
    assert call(variadic, 1)[1] == ((1,), {})


def test_a_gap_before_a_positional_only_parameter_is_filled_with_its_default() -> None:
    assert CallCodec(positional_only, "f").decode(b'{"b":5}') == ((1, 5), {})


def test_arguments_come_back_as_their_hints_declare() -> None:
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert call(models, Cat(), when) == (
        b'{"cat":{"born":"2020-01-01","kind":"cat"},"when":"2026-01-01T00:00:00Z"}',
        ((Cat(), when), {}),
    )
    assert call(models, Cat(), None, None)[1] == ((Cat(), None, None), {})
    assert call(later, NotDefinedYet(3))[1] == ((NotDefinedYet(3),), {})


def test_parameters_may_have_any_name() -> None:
    def odd(self: int, cls: int, p1: str, p0: str, __struct_fields__: int, _private: int) -> None: ...

    assert call(odd, 1, 2, "a", "b", 5, 6)[1] == ((1, 2, "a", "b", 5, 6), {})


def test_methods_partials_and_callable_objects_are_functions_too() -> None:
    import functools

    class Service:
        def run(self, at: dt.date) -> None: ...

        def __call__(self, at: dt.date) -> dt.date: ...  # type: ignore[empty-body]

    day = dt.date(2026, 1, 1)
    for function in (Service().run, Service(), functools.partial(Service().run)):
        codec = CallCodec(function, "run")
        assert codec.decode(codec.encode((day,), {}))[0] == (day,)
    assert CallCodec(Service(), "run").returns.decode(b'"2026-01-01"') == day


def test_hints_may_name_what_the_function_closes_over() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    def f(a: Local) -> Local:
        return Local(a.x)

    codec = CallCodec(f, "f")
    assert codec.decode(codec.encode((Local(1),), {})) == ((Local(1),), {})


def test_an_annotation_that_cannot_be_resolved_is_told_at_first_use() -> None:
    def f(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    codec = CallCodec(f, "f")
    with pytest.raises(DefinitionError, match=r"f: an annotation cannot be resolved.*Missing.*module level"):
        codec.encode((1,), {})


def test_the_result_has_the_codec_of_the_return_annotation() -> None:
    async def work() -> tuple[int, ...]:
        return (1,)

    assert CallCodec(work, "work").returns.decode(b"[1,2]") == (1, 2)
    assert CallCodec(untyped, "untyped").returns.decode(b'{"$t":"tuple","v":[1]}') == (1,)
    with pytest.raises(Unserialisable, match=r"result of fetch: \$\.url: expected `str`"):
        CallCodec(fetch, "fetch").returns.encode(Page(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "text"),
    [
        (fetch, (), {}, "fetch() missing 1 required positional argument: 'url'"),
        (one, (1, 2), {}, "one() takes 1 positional argument but 2 were given"),
        (nothing, (1,), {}, "nothing() takes 0 positional arguments but 1 was given"),
        (fetch, ("a", 1, True), {}, "fetch() takes from 1 to 2 positional arguments but 3 were given"),
        (fetch, ("a",), {"url": "b"}, "fetch() got multiple values for argument 'url'"),
        (fetch, ("a",), {"sise": 1}, "fetch() got an unexpected keyword argument 'sise' (did you mean 'size'?)"),
        (
            positional_only,
            (),
            {"a": 1},
            "positional_only() got some positional-only arguments passed as keyword arguments: 'a'",
        ),
        (lambda a, b, c: None, (), {}, "f() missing 3 required positional arguments: 'a', 'b', and 'c'"),
        (lambda a, b: None, (), {}, "f() missing 2 required positional arguments: 'a' and 'b'"),
        (lambda *, a: None, (), {}, "f() missing 1 required keyword-only argument: 'a'"),
        (variadic, (1,), {"a": 2}, "variadic() got 'a' by keyword, which is the name of another parameter too"),
        (variadic, (1,), {"items": 2}, "variadic() got 'items' by keyword"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_in_pythons_words(
    function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object], text: str
) -> None:
    name = "f" if function.__name__ == "<lambda>" else function.__name__
    with pytest.raises(ArgumentError) as caught:
        CallCodec(function, name).encode(args, kwargs)
    assert str(caught.value).startswith(text)


def test_an_argument_that_cannot_be_written_is_refused_by_its_parameter() -> None:
    cases: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object], str]] = [
        (fetch, (b"a",), {}, "argument 'url' of fetch is of type bytes, not the declared str"),
        (fetch, ("a", "b"), {}, "argument 'size' of fetch: expected `int`, found `str`"),
        (fetch, ("\ud800",), {}, "argument 'url' of fetch is a string with a lone surrogate"),
        (untyped, ("a", {"b": NAN}), {}, "argument 'size' of untyped: $.b is nan"),
        (untyped, (Page("a"),), {}, "argument 'url' of untyped is of type "),
        (untyped, (threading.Lock(),), {}, "argument 'url' of untyped is a _thread.lock"),
        (variadic, (1, Page("a", NAN)), {}, "argument 'items' of variadic: $[0].price is nan"),
        (variadic, (1,), {"z": "x"}, "argument 'z' of variadic: expected `float`, found `str`"),
        (one, ({"a": 1, "b": None},), {}, "argument 'shop' of one: $.b: expected `int`, found `null`"),
    ]
    for function, args, kwargs, text in cases:
        with pytest.raises(Unserialisable) as caught:
            CallCodec(function, function.__name__).encode(args, kwargs)
        assert str(caught.value).startswith(text)


def test_classes_and_builtins_whose_parameters_cannot_be_told_are_refused() -> None:
    with pytest.raises(DefinitionError, match="max: its parameters cannot be told"):
        CallCodec(max, "max").encode((1,), {})


def test_a_class_that_names_a_missing_type_is_refused_with_that_name() -> None:
    @dataclasses.dataclass
    class Broken:
        x: Missing  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(Unserialisable, match=r"`Broken`.*'Missing' is not defined.*at module level"):
        ValueCodec(Broken, "result of fetch")


def test_a_parameter_whose_hint_has_no_json_form_is_named() -> None:
    def f(a: int, b: Iterable[int]) -> None: ...

    with pytest.raises(Unserialisable, match=r"argument 'b' of f: the hint `.*Iterable\[int\]`"):
        CallCodec(f, "f").encode((1, [2]), {})


@pytest.mark.parametrize(
    ("function", "typed", "parts"),
    [
        (untyped, b'{"url":' + b"[" * 300 + b"]" * 300 + b"}", ["argument 'url' of untyped", "deeper than 200"]),
        (untyped, b'{"url":' + b"[" * 800 + b"]" * 800 + b"}", ["untyped"]),
        (fetch, b'{"url":"\\ud800"}', ["not JSON"]),
        (fetch, b"{}", ["fetch() misses 'url' (str)", "it takes url, size, deep"]),
        (fetch, b'{"ur":"a"}', ["has no parameter 'ur' (did you mean 'url'?)", "misses 'url'"]),
        (fetch, b'{"url":"a","q":1}', ["fetch() has no parameter 'q'; it takes"]),
        (fetch, b'{"url":1}', ["argument 'url' of fetch: expected `str`, found `int`", "`str`"]),
        (fetch, b"5", ["argument 'url' of fetch: expected `str`, found `int`"]),
        (fetch, b"{", ["input of fetch is not JSON"]),
        (fetch, b"", ["input of fetch is not JSON"]),
        (fetch, b'"\xff"', ["input of fetch is not JSON"]),
        (nothing, b"null", ["must be a JSON object", "no parameters", "not null"]),
        (lambda a, b: None, b"[1]", ["must be a JSON object of its parameters (a, b), not list"]),
        (one, b'{"shop":{"a":1,"b":"x"}}', ["argument 'shop' of one at $.b: expected `int`, found `str`"]),
        (one, b'{"a":1}', ["has no parameter 'a'", "misses 'shop'"]),
        (models, b'{"cat":{"born":"x"}}', ["argument 'cat' of models", "born"]),
        (variadic, b'{"a":1,"z":"x"}', ["argument 'z' of variadic: expected `float`, found `str`"]),
        (
            variadic,
            b'{"a":1,"items":[{}]}',
            ["argument 'items' of variadic at $[0]: object missing required field `url`"],
        ),
        (untyped, b'{"url":{"$t":"x"}}', ["argument 'url' of untyped", "tag 'x'"]),
    ],
)
def test_typed_input_that_does_not_fit_is_refused_by_its_parameter(
    function: Callable[..., object], typed: bytes, parts: list[str]
) -> None:
    name = "f" if function.__name__ == "<lambda>" else function.__name__
    with pytest.raises(ArgumentError) as caught:
        CallCodec(function, name).parse(typed)
    for part in parts:
        assert part in str(caught.value)


def test_recorded_arguments_that_no_longer_fit_are_refused_by_their_parameter() -> None:
    with pytest.raises(ArgumentError, match="has no parameter 'old'"):
        CallCodec(fetch, "fetch").decode(b'{"old":1,"url":"a"}')
    with pytest.raises(ArgumentError, match="no JSON object"):
        CallCodec(fetch, "fetch").decode(b"[1]")


def test_typed_input_has_the_bytes_of_the_call_it_describes() -> None:
    codec = CallCodec(fetch, "fetch")
    assert bytes(codec.parse(b' { "url" : "\\u0061", "size": 5 } ')) == bytes(codec.encode(("a", 5), {}))
    assert bytes(codec.parse(b'"a"')) == b'{"url":"a"}'
    assert bytes(CallCodec(untyped, "u").parse(b'{"url":{"$ref":"x"}}')) == bytes(
        CallCodec(untyped, "u").encode(({"$ref": "x"},), {})
    )
    codec = CallCodec(variadic, "v")
    assert bytes(codec.parse(b'{"a":1,"items":[{"url":"a"},{"url":"b","next":{"url":"c"}}]}')) == bytes(
        codec.encode((1, Page("a"), Page("b", next=Page("c"))), {})
    )
    assert bytes(CallCodec(models, "m").parse(b'{"cat":{},"when":"2026-01-01T01:00:00+01:00"}')) == (
        b'{"cat":{"born":"2020-01-01","kind":"cat"},"when":"2026-01-01T01:00:00+01:00"}'
    )


def test_a_field_added_with_a_default_leaves_the_bytes_of_recorded_arguments_as_they_were() -> None:
    codec = CallCodec(_takes_added, "f")
    recorded = b'{"added":{"x":1}}'
    assert bytes(codec.encode(*codec.decode(recorded))) == recorded


@dataclasses.dataclass
class Added:
    x: int
    y: int = 2


def _takes_added(added: Added) -> None: ...


def test_the_schema_describes_the_input_object() -> None:
    assert CallCodec(fetch, "fetch").schema() == {
        "type": "object",
        "title": "fetch",
        "properties": {
            "url": {"type": "string"},
            "size": {"type": "integer", "default": 3},
            "deep": {"type": "boolean", "default": False},
        },
        "required": ["url"],
        "additionalProperties": False,
    }


def test_the_schema_holds_the_definitions_it_refers_to() -> None:
    def f(page: Page, shelter: Shelter, path: pathlib.Path, anything: Any, **more: int) -> None: ...

    schema = CallCodec(f, "f").schema()
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    text = json.dumps(schema)
    referred = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert referred <= set(definitions)
    assert {"Page", "Cat"} <= set(definitions)
    assert schema["additionalProperties"] == {"type": "integer"}


# -- properties -----------------------------------------------------------------------------------------------------
text = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.sampled_from(["$t", "$", "v"])
)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text | st.sampled_from(["$t", "v"]), inner, max_size=4),
    max_leaves=12,
)
# A wall-clock time that a clock change skips or repeats equals nothing in another zone (PEP 495), not even in UTC.
zoned = st.datetimes(timezones=st.timezones()).filter(lambda when: when == when.astimezone(dt.UTC))
special = (
    st.binary(max_size=6)
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.datetimes()
    | zoned
)
_hashable = scalars | special | st.tuples(scalars, special) | st.frozensets(scalars | special, max_size=2)


@st.composite  # for its short repr: hypothesis writes strategies out when it draws again
def hashables(draw: st.DrawFn) -> Any:
    return draw(_hashable)


hashable = hashables()
anything = st.recursive(
    scalars | special,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=10,
)
relaxed = settings(deadline=None, max_examples=150)
ANY = ValueCodec(object, "x")


@relaxed
@given(anything)
def test_any_value_without_a_hint_round_trips(value: object) -> None:
    back = ANY.decode(ANY.encode(value))
    assert back == value
    assert _types(back) == _types(value)
    assert bytes(ANY.encode(back)) == bytes(ANY.encode(value))


@relaxed
@given(st.dictionaries(text | st.sampled_from(["$t", "$v"]), anything, max_size=4))
def test_any_value_inside_a_hint_round_trips(value: dict[str, object]) -> None:
    for hint, held in (
        (dict[str, Any], value),
        (Box[dict[str, Any]], Box(value)),
        (list[Circle], [Circle(1.0, value)]),
        (dict, value),
        (Page, Page("u", meta=value)),
    ):
        back = round_trip(hint, held)
        assert back == held


@relaxed
@given(plain, st.randoms(use_true_random=False))
def test_bytes_do_not_depend_on_the_order_of_members(value: object, chance: Any) -> None:
    def shuffled(found: object) -> object:
        if isinstance(found, dict):
            members = list(found.items())
            chance.shuffle(members)
            return {key: shuffled(item) for key, item in members}
        return [shuffled(item) for item in found] if isinstance(found, list) else found

    other = shuffled(value)
    assert bytes(ANY.encode(value)) == bytes(ANY.encode(other))
    codec = CallCodec(untyped, "untyped")
    assert bytes(codec.encode((value, other), {})) == bytes(codec.encode((), {"size": value, "url": other}))


@relaxed
@given(st.dictionaries(st.integers() | st.uuids() | text, st.integers(), max_size=5), st.sets(hashable, max_size=5))
def test_bytes_do_not_depend_on_the_order_of_odd_keys_and_sets(members: dict[Any, int], items: set[Any]) -> None:
    backwards = dict(reversed(members.items()))
    assert bytes(ANY.encode(members)) == bytes(ANY.encode(backwards))
    other: set[Any] = set()
    for item in reversed(list(items)):
        other.add(item)
    assert bytes(ANY.encode(items)) == bytes(ANY.encode(other))


@relaxed
@given(
    st.builds(
        Page,
        text,
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.dictionaries(text, anything, max_size=2),
        st.none() | st.builds(Page, text),
        st.none() | st.datetimes() | zoned,
    )
)
def test_any_dataclass_round_trips(page: Page) -> None:
    assert round_trip(Page, page) == page
    assert call(lambda page: page, {"page": 1})[1] == (({"page": 1},), {})


def test_the_bytes_of_sets_are_the_same_in_every_process() -> None:
    program = (
        "from stepwell.model.codec import ValueCodec; import enum;"
        "E = enum.Enum('E', {c: c for c in 'abcdef'});"
        "print(bytes(ValueCodec(object, 'x').encode({*'abcdef', ('a',), 1})));"
        "print(bytes(ValueCodec(set[E], 'x').encode(set(E))))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "src")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


def test_pydantic_is_not_imported_by_the_codec() -> None:
    program = (
        "import sys; from stepwell.model.codec import ValueCodec, CallCodec;"
        "ValueCodec(object, 'x').encode({'a': (1,)}); CallCodec(lambda a: a, 'f').encode((1,), {});"
        "sys.exit('pydantic' in sys.modules)"
    )
    env = {"PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "src")}
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
