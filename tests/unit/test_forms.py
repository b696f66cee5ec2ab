"""A type is a form: its schema agrees with its codec, and an answer that does not fit is told all that is wrong."""

from __future__ import annotations

import datetime
import decimal
import enum
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import typing
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepwell
from stepwell.errors import AnswerInvalid, DefinitionError, RequestRefused, Unserialisable
from stepwell.model import checking
from stepwell.model.forms import DIALECT, Problem, accept, check, codec_of, refuse, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    HIGH = 3
    LOW = 1


@dataclass
class Item:
    """A thing to order.

    Found by its number.
    """

    sku: Annotated[str, msgspec.Meta(min_length=1, max_length=8, description="the number")]
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1


@dataclass
class Order:
    approved: bool
    items: list[Item]
    due: datetime.datetime
    how: Literal["ship", "fetch", "later"] = "ship"
    note: str | None = field(default=None, metadata={"description": "why"})
    parts: list[Order] = field(default_factory=list)


class Yes(msgspec.Struct, tag="yes", forbid_unknown_fields=True):
    amount: decimal.Decimal


class No(msgspec.Struct, tag="no", rename="camel"):
    the_reason: str
    colours: list[Colour] = []


class Pair(msgspec.Struct, array_like=True):
    left: int
    right: str = ""


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Terms(TypedDict):
    days: int
    fee: NotRequired[float]


class Address(pydantic.BaseModel):
    city: str = pydantic.Field(min_length=2, description="where")
    since: datetime.datetime | None = None
    colour: Colour = Colour.RED


class Person(pydantic.BaseModel):
    """Who it is."""

    full_name: str = pydantic.Field(alias="full-name")
    homes: list[Address] = []
    friend: Person | None = None


T = typing.TypeVar("T")


@dataclass
class Box(typing.Generic[T]):
    held: T


def plain(hint: object) -> dict[str, Any]:
    return {key: value for key, value in schema_of(hint).items() if key != "$schema"}


def wrong(hint: object, value: object) -> dict[str, str]:
    return {problem.path: problem.message for problem in check(schema_of(hint), value)}


# -- what a type becomes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (bool, {"type": "boolean"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (str, {"type": "string"}),
        (None, {"type": "null"}),
        (Any, {}),
        (object, {}),
        (datetime.datetime, {"type": "string", "format": "moment"}),
        (Annotated[datetime.datetime, msgspec.Meta(tz=True)], {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (datetime.time, {"type": "string", "format": "time-of-day"}),
        (datetime.timedelta, {"type": "string", "format": "timedelta"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (decimal.Decimal, {"type": ["string", "number"], "format": "decimal"}),
        (bytes, {"type": "string", "contentEncoding": "base64", "format": "base64"}),
        (Literal["yes", "no", 3], {"enum": ["yes", "no", 3]}),
        (Colour, {"title": "Colour", "enum": ["red", "blue"]}),
        (Level, {"title": "Level", "enum": [3, 1]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list, {"type": "array"}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (
            Annotated[float, msgspec.Meta(gt=0, lt=1, multiple_of=0.25, title="Share", description="of it")],
            {
                "type": "number",
                "exclusiveMinimum": 0,
                "exclusiveMaximum": 1,
                "multipleOf": 0.25,
                "title": "Share",
                "description": "of it",
            },
        ),
        (
            Annotated[list[str], msgspec.Meta(min_length=1, max_length=3)],
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        ),
    ],
    ids=str,
)
def test_a_type_has_its_json_schema(hint: object, schema: dict[str, object]) -> None:
    assert plain(hint) == schema
    assert schema_of(hint)["$schema"] == DIALECT


def test_a_class_is_an_object_with_its_docstring_descriptions_defaults_and_no_other_members() -> None:
    assert plain(Item) == {
        "title": "Item",
        "description": "A thing to order.\n\nFound by its number.",
        "type": "object",
        "properties": {
            "sku": {"type": "string", "minLength": 1, "maxLength": 8, "description": "the number"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
        },
        "required": ["sku"],
        "additionalProperties": False,
    }


def test_choices_stand_in_the_order_in_which_their_author_wrote_them() -> None:
    assert plain(Order)["properties"]["how"] == {"enum": ["ship", "fetch", "later"], "default": "ship"}


def test_a_dataclass_without_a_docstring_has_no_description_and_a_field_has_its_metadata_s() -> None:
    schema = plain(Order)
    assert "description" not in schema
    assert schema["properties"]["note"]["description"] == "why"


def test_a_type_may_contain_itself() -> None:
    order = {"approved": True, "items": [], "due": "2026-11-20T13:00:00"}
    assert check(schema_of(Order), order | {"parts": [order | {"parts": [order]}]}) == []
    assert list(wrong(Order, order | {"parts": [order | {"parts": [{}]}]})) == [
        "parts[0].parts[0].approved",
        "parts[0].parts[0].items",
        "parts[0].parts[0].due",
    ]
    assert wrong(Person, {"full_name": "Ada", "friend": {"full_name": 3}}) == {"friend.full_name": "must be text"}


def test_two_classes_of_one_name_are_two_definitions() -> None:
    def another() -> type:
        @dataclass
        class Item:
            other: int

        return Item

    hint = tuple[Item, another()]  # type: ignore[misc]  # a type made at run time
    names = plain(hint)["$defs"]
    assert len(names) == 2
    assert check(schema_of(hint), [{"sku": "a"}, {"other": 1}]) == []
    assert check(schema_of(tuple[Colour, Address]), ["red", {"city": "Rome", "colour": "blue"}]) == []


def test_generic_classes_are_written_for_what_they_hold() -> None:
    assert wrong(Box[int], {"held": "a"}) == {"held": "must be a whole number"}
    assert wrong(Box[list[Colour]], {"held": ["green"]}) == {"held[0]": 'must be "red" or "blue"'}


def test_a_pydantic_model_is_written_by_pydantic_by_the_names_of_its_fields() -> None:
    schema = plain(Person)
    assert schema["description"] == "Who it is."
    assert schema["required"] == ["full_name"]
    home = schema["$defs"]["Address"]["properties"]
    assert home["city"] == {"description": "where", "minLength": 2, "title": "City", "type": "string"}
    assert wrong(Person, {"full_name": "Ada", "homes": [{"city": "R", "town": 1}]}) == {
        "homes[0].city": "must have at least 2 characters",
        "homes[0].town": "is no field of this form",
    }


def test_a_json_schema_is_taken_as_it_is() -> None:
    given = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert schema_of(given) is given
    assert codec_of(given, "answer").decode(b'{"a":1}') == {"a": 1}
    seventh = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}
    assert [problem.path for problem in check(schema_of(seventh), [1])] == ["[0]"]


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "text"}, 'wrong at type: "text"'),
        ({"properties": {"a": {"pattern": "("}}}, '"(" is not a "regex"'),
        ({"pattern": "(a{1000}){1000}"}, "is not a"),
        ({"$ref": "#/$defs/none"}, "Pointer '/$defs/none' does not exist"),
        ({"$schema": "https://example.org/mine"}, "https://example.org/mine"),
        ({"enum": [datetime.date(2026, 1, 1)]}, "not plain JSON"),
        ({1: 2}, "not plain JSON"),
    ],
    ids=str,
)
def test_a_wrong_json_schema_is_refused_with_its_place(schema: dict[Any, Any], text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        schema_of(schema, "ctx.ask('Publish?')")
    assert text in str(caught.value)
    assert str(caught.value).startswith("ctx.ask('Publish?'): the JSON Schema ")


def test_a_hint_without_a_json_form_is_refused_with_its_place() -> None:
    with pytest.raises(Unserialisable, match="the form of ask: the hint"):
        schema_of(threading.Lock, "the form of ask")


# -- schema and codec agree ------------------------------------------------------------------------------------------

words = st.text(max_size=6)
whole = st.integers(-(2**70), 2**70)
numbers = st.floats(allow_nan=False, allow_infinity=False)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
moments = st.datetimes(timezones=st.none() | offsets)
moments = moments.map(lambda at: at.replace(year=max(at.year, 2)) if at.tzinfo else at).filter(
    lambda at: at.tzinfo is None or 1 < at.year < 9999
)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
skus = st.text(min_size=1, max_size=8)
items = st.builds(Item, skus, st.integers(1, 9))
orders = st.deferred(
    lambda: st.builds(
        Order,
        st.booleans(),
        st.lists(items, max_size=2),
        moments,
        st.sampled_from(["ship", "fetch", "later"]),
        st.none() | words,
        st.lists(orders, max_size=1),
    )
)
addresses = st.builds(
    Address, city=st.text(min_size=2, max_size=4), since=st.none() | moments, colour=st.sampled_from(Colour)
)
people = st.builds(
    lambda name, homes, friend: Person(**{"full-name": name}, homes=homes, friend=friend),
    words,
    st.lists(addresses, max_size=2),
    st.none() | words.map(lambda name: Person(**{"full-name": name})),
)

FITTING: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, whole),
    (float, numbers),
    (str, words),
    (None, st.none()),
    (datetime.datetime, moments),
    (Annotated[datetime.datetime, msgspec.Meta(tz=True)], moments.filter(lambda at: at.tzinfo is not None)),
    (datetime.date, st.dates()),
    (datetime.time, st.times() | st.builds(datetime.time.replace, st.times(), tzinfo=offsets)),
    (datetime.timedelta, st.timedeltas()),
    (decimal.Decimal, decimals),
    (uuid.UUID, st.uuids()),
    (bytes, st.binary(max_size=6)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["b", "a", 2, None], st.sampled_from(["b", "a", 2, None])),
    (list[float], st.lists(numbers, max_size=3)),
    (dict[str, int], st.dictionaries(words, whole, max_size=3)),
    (dict[int, str], st.dictionaries(whole.filter(lambda n: abs(n) < 2**62), words, max_size=3)),
    (dict[Colour, bool], st.dictionaries(st.sampled_from(Colour), st.booleans())),
    (dict[uuid.UUID, int], st.dictionaries(st.uuids(), whole, max_size=2)),
    (set[int], st.sets(whole, max_size=3)),
    (frozenset[str], st.frozensets(words, max_size=3)),
    (tuple[int, str], st.tuples(whole, words)),
    (tuple[bool, ...], st.lists(st.booleans(), max_size=3).map(tuple)),
    (Annotated[str, msgspec.Meta(pattern="^[a-z]+$", max_length=3)], st.from_regex(r"\A[a-z]{1,3}\Z")),
    (int | str | None, whole | words | st.none()),
    (Item, items),
    (Order, orders),
    (Yes | No, st.builds(Yes, decimals) | st.builds(No, words, st.lists(st.sampled_from(Colour), max_size=2))),
    (Pair, st.builds(Pair, whole, words)),
    (Point, st.builds(Point, whole, numbers)),
    (Terms, st.fixed_dictionaries({"days": whole}, optional={"fee": numbers})),
    (Address, addresses),
    (Person, people),
    (list[Address] | None, st.none() | st.lists(addresses, max_size=2)),
    (Box[list[Level]], st.builds(Box, st.lists(st.sampled_from(Level), max_size=2))),
]
pairs = st.one_of([st.tuples(st.just(hint), values) for hint, values in FITTING])

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from([1.0, 2.5, 1e300, "", "a", "red", "ship", "yes", "1", "1.5", "2026-11-20", "13:00:00", "PT1S"])
    | moments.map(datetime.datetime.isoformat),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "type", "held"]), inner),
    max_leaves=3,
)


def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """The JSON value with something in it replaced, left out or added."""
    if isinstance(value, dict) and draw(st.booleans()):
        key = draw(st.sampled_from([*value, "other"]))
        if key in value and draw(st.booleans()):
            return {name: held for name, held in value.items() if name != key}
        return value | {key: spoiled(draw, value.get(key))}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], spoiled(draw, value[place]), *value[place + draw(st.integers(0, 1)) :]]
    return draw(anything)


@settings(max_examples=400, deadline=None)
@given(pairs)
def test_what_the_codec_writes_fits_the_schema_and_comes_back(pair: tuple[Any, Any]) -> None:
    hint, value = pair
    schema, codec = schema_of(hint), codec_of(hint, "answer")
    data = codec.encode(value)
    assert check(schema, msgspec.json.decode(data)) == []
    assert codec.decode(accept(schema, msgspec.json.decode(data), "answer")) == codec.decode(data)


@settings(max_examples=600, deadline=None)
@given(pairs, st.data())
def test_what_fits_the_schema_the_codec_reads(pair: tuple[Any, Any], data: st.DataObject) -> None:
    hint, value = pair
    schema, codec = schema_of(hint), codec_of(hint, "answer")
    given = data.draw(st.composite(spoiled)(msgspec.json.decode(codec.encode(value))))
    try:
        accepted = accept(schema, given, "answer")
    except AnswerInvalid as error:
        assert error.problems
    else:
        codec.decode(accepted)


@pytest.mark.parametrize(
    ("hint", "given", "path"),
    [(int, 1e300, "the answer"), (list[int], [1, -1e20], "[1]"), (int | str, 1e16, "the answer")],
)
def test_a_number_too_large_to_be_read_as_a_whole_one_is_refused(hint: Any, given: Any, path: str) -> None:
    with pytest.raises(AnswerInvalid, match=rf"{re.escape(path)} must be .*whole number: write all digits"):
        accept(schema_of(hint), given, "answer")


@pytest.mark.parametrize(("hint", "given"), [(float, 1e300), (int, 10**17), (int, 1e15), (list[float], [1e20, 1.0])])
def test_numbers_that_can_be_read_are_accepted(hint: Any, given: Any) -> None:
    assert codec_of(hint, "answer").decode(accept(schema_of(hint), given, "answer")) == given


# -- what is wrong with an answer ------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once_with_its_place_and_what_was_found() -> None:
    given = {
        "aproved": True,
        "items": [{"sku": "a"}, {"sku": "", "count": 12}, {"count": "2"}],
        "due": "tomorrow",
        "how": "fly",
        "note": 7,
    }
    problems = check(schema_of(Order), given)
    assert [str(problem) for problem in problems if "items" not in problem.path] == [
        "approved is missing",
        'due must be a date and time, such as 2026-11-20T13:00:00 or 2026-11-20T13:00:00+01:00, found "tomorrow"',
        'how must be "ship", "fetch" or "later", found "fly"',
        "note must be text or null, found 7",
        "aproved is no field of this form (did you mean 'approved'?), found true",
    ]
    assert {str(problem) for problem in problems if "items" in problem.path} == {
        'items[1].sku must not be empty, found ""',
        "items[1].count must be at most 9, found 12",
        "items[2].sku is missing",
        'items[2].count must be a whole number, found "2"',
    }


@pytest.mark.parametrize(
    ("hint", "value", "problem"),
    [
        (bool, "yes", 'the answer must be true or false, found "yes"'),
        (bool, None, "the answer must be true or false, found null"),
        (bool, 1, "the answer must be true or false, found 1"),
        (int, True, "the answer must be a whole number, found true"),
        (int, 1.5, "the answer must be a whole number, found 1.5"),
        (str, 5, "the answer must be text, found 5"),
        (Yes | No, {"type": "yes", "amount": "x"}, 'amount must be a number, such as 12.50, found "x"'),
        (Yes | No, {"type": "no"}, "theReason is missing"),
        (
            Yes | No,
            {"type": "?"},
            'the answer fits none of the forms that are allowed here, found {"type":"?"}',
        ),
        (Yes | None, {"type": "yes"}, "amount is missing"),
        (Item | None, "a", 'the answer must be an object or null, found "a"'),
        (set[int], [1, 1], "the answer must not have the same item twice, found [1,1]"),
        (tuple[int, str], [1], "the answer must have at least 2 items, found [1]"),
        (datetime.timedelta, "P1Y", "days, hours, minutes and seconds"),
        (datetime.date, "2026-02-30", "a date, such as"),
        (uuid.UUID, "1", "a UUID, such as"),
        (bytes, "ä", "base64"),
        (Terms, {"days": 1, "fees": 2}, "fees is no field of this form (did you mean 'fee'?), found 2"),
        ({"type": "string", "format": "email"}, "a@", 'must be an e-mail address, found "a@"'),
        ({"type": "string", "format": "date-time"}, "2026-11-20T13:00:00", "with an offset"),
        ({"const": 5}, 4, "the answer must be 5, found 4"),
        ({"multipleOf": 5}, 4, "the answer must be a multiple of 5, found 4"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "ab has a name that must have at most 1 characters"),
        ({"properties": {"a": False}}, {"a": 1}, "a must not be given, found 1"),
        ({"properties": {"odd name": {"type": "null"}}}, {"odd name": 1}, "['odd name'] must be null, found 1"),
        ({"contains": {"const": 1}}, [2], "the answer does not fit: None of [2] are valid"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 1, "more than one of the forms"),
        ({"pattern": "^a+$"}, "b", 'the answer must match the pattern ^a+$, found "b"'),
        (str, {"a": "b" * 100}, 'the answer must be text, found {"a":"' + "b" * 53 + "…"),
    ],
    ids=str,
)
def test_a_wrong_answer_is_told_what_must_be(hint: Any, value: object, problem: str) -> None:
    found = check(schema_of(hint), value)
    assert len(found) == 1
    assert problem in str(found[0])


def test_a_refusal_names_each_field_and_can_be_matched_by_programs() -> None:
    with pytest.raises(AnswerInvalid) as caught:
        refuse(schema_of(Item), {"sku": 5, "counts": 2}, "answer to request 7k2m")
    error = caught.value
    assert isinstance(error, RequestRefused)
    assert error.code == "answer_invalid"
    assert str(error).startswith("answer to request 7k2m: ")
    assert "sku must be text, found 5" in str(error)
    assert "counts is no field of this form (did you mean 'count'?), found 2" in str(error)
    assert set(error.problems) == {
        Problem("sku", "must be text", "5"),
        Problem("counts", "is no field of this form (did you mean 'count'?)", "2"),
    }
    refuse(schema_of(Item), {"sku": "a"}, "answer")


def test_a_very_wrong_answer_is_named_in_part() -> None:
    with pytest.raises(AnswerInvalid, match="and 80 more") as caught:
        refuse(schema_of(list[int]), ["a"] * 100, "answer")
    assert len(caught.value.problems) == 100


def test_of_a_large_answer_the_first_fault_is_told() -> None:
    assert len(check(schema_of(list[int]), ["a"] * 100_000)) == 1


def test_an_accepted_answer_is_canonical_json_and_whole_numbers_are_written_whole() -> None:
    assert bytes(accept(schema_of(Item), {"sku": "a", "count": 2.0}, "answer")) == b'{"count":2,"sku":"a"}'
    assert bytes(accept(schema_of(float), 2.5, "answer")) == b"2.5"


def test_an_answer_may_be_an_instance_of_the_form_s_type() -> None:
    given = Order(True, [Item("a")], datetime.datetime(2026, 11, 20))
    assert codec_of(Order, "answer").decode(accept(schema_of(Order), given, "answer")) == given
    person = Person(**{"full-name": "Ada"})
    assert codec_of(Person, "answer").decode(accept(schema_of(Person), person, "answer")) == person
    with pytest.raises(AnswerInvalid, match=r"count must be at most 9, found 10"):
        accept(schema_of(Item), Item("a", 10), "answer")


@pytest.mark.parametrize(
    "value",
    [float("nan"), threading.Lock(), "\ud800", {"a": float("inf")}],
    ids=["nan", "a lock", "half a character", "an infinite member"],
)
def test_an_answer_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(Unserialisable, match=r"^answer to request 7: "):
        accept({}, {"deep": [value]}, "answer to request 7")


def test_an_answer_that_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises((AnswerInvalid, Unserialisable)):
        accept({"items": {"$ref": "#"}}, deep, "answer")
    assert [problem.found for problem in check({"items": {"$ref": "#"}}, deep)] == ["list"]


# -- what a schema cannot make us do ---------------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """A server's URL, and what has been asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "integer"}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_fetched_over_the_network(heard: tuple[str, list[str]]) -> None:
    url, asked = heard
    for schema in (
        {"$ref": f"{url}/schema.json"},
        {"$id": f"{url}/", "properties": {"a": {"$ref": "other.json"}}},
        {"$schema": f"{url}/meta", "type": "object"},
        {"$dynamicRef": f"{url}/schema.json#a"},
    ):
        with pytest.raises(DefinitionError, match="the JSON Schema is wrong"):
            check(schema, 1)
    assert asked == []


def test_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "integer"}')
    with pytest.raises(DefinitionError, match=r"nothing is fetched"):
        check({"$ref": (tmp_path / "schema.json").as_uri()}, 1)


@pytest.mark.parametrize("pattern", ["^(a+)+$", r"^(?=a)(a|aa)+b?(?<!x)$", r"^(a+)+\1$"])
def test_a_pattern_that_would_take_for_ever_does_not(pattern: str) -> None:
    (problem,) = check({"pattern": pattern}, "a" * 60 + "!")
    assert "pattern" in problem.message


def test_compiled_schemas_are_kept_in_a_bounded_number() -> None:
    for number in range(300):
        assert check({"maximum": number}, number) == []
    kept = checking._compiled.cache_info()
    assert kept.maxsize is not None
    assert kept.currsize <= kept.maxsize < 300
    assert check({"maximum": 299}, 300)


def test_the_checker_is_loaded_when_an_answer_is_checked_and_not_before() -> None:
    code = (
        "import sys, stepwell.app, stepwell.model.forms as forms\n"
        "schema = forms.schema_of(bool)\n"
        "before = 'jsonschema_rs' in sys.modules or 'pydantic' in sys.modules\n"
        "forms.check(schema, True)\n"
        "import json; print(json.dumps([before, 'jsonschema_rs' in sys.modules, 'pydantic' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(stepwell.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, False]
