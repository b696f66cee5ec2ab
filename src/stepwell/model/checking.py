"""Does an answer fit its JSON Schema? All that is wrong with it at once, each with its place and what was found.

jsonschema-rs does it, and is loaded (12 ms, 8 MB) when the first schema or answer is checked. It is kept from what a
schema could make it do: a `$ref` that leads out of the schema is refused and nothing is fetched, a pattern may take
`BACKTRACKS` steps back and no more, and an answer over `LARGE` bytes is left at its first fault.
"""

from __future__ import annotations

import datetime
import decimal
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepwell.errors import AnswerInvalid, DefinitionError, Unserialisable
from stepwell.model import tagging
from stepwell.model.faults import MAX_DEPTH, Refusal, find_fault, member
from stepwell.model.foreign import ENCODE
from stepwell.model.refusals import DECODE, at

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

BACKTRACKS: Final = 20_000
"""Steps back that a pattern with look-around may take on one text; all other patterns take linear time."""

LARGE: Final = 100_000
"""Bytes of an answer's JSON from which only its first fault is looked for: 300,000 of them would take seconds."""

_SHOWN: Final = 60
_FIELD: Final = re.compile(r"\[[^\]]*\]|[^.\[]+")  # the first segment of a path
_WHOLE: Final = 2**53


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: `path` such as `items[2].sku` (empty: all of it), what must be, what was found.

    `found` is the JSON of what stands there, cut to 60 characters; empty when nothing does.
    """

    path: str
    message: str
    found: str

    def __str__(self) -> str:
        return f"{self.path or 'the answer'} {self.message}" + (f", found {self.found}" if self.found else "")


def check(schema: Mapping[str, Any] | bool, value: object) -> list[Problem]:  # Any: JSON
    """Return what is wrong with `value`, plain JSON as `msgspec.json.decode` gives it; empty when it fits.

    Formats count. Problems stand in the order of the form's fields, those of no field at the end; of a value over
    `LARGE` bytes only the first fault is told.

    Raises:
        DefinitionError: the schema itself is wrong.
    """
    validator = _validator_of(schema, "the form")
    if not tagging.is_plain(value):  # jsonschema-rs overflows the stack on very deep ones
        return [Problem("", f"must be plain JSON of at most {MAX_DEPTH} levels", type(value).__name__)]
    if validator.is_valid(value):
        return []
    errors = _first(validator, value) if len(ENCODE(value)) > LARGE else validator.iter_errors(value)
    problems = [problem for error in errors for problem in _problems(error, schema)]
    order = [_path([name]) for name in schema.get("properties", ())] if isinstance(schema, Mapping) else []
    return sorted(problems, key=lambda problem: _rank(problem, order))


def accept(schema: Mapping[str, Any] | bool, value: object, place: str) -> msgspec.Raw:  # Any: JSON
    """Return the canonical JSON of an answer that fits; dataclasses, structs and models may be given as they are.

    To JSON Schema 1.0 is a whole number, to Python's types it is none: it is written as 1.

    Args:
        place: what errors begin with, such as `answer to request 7k2m`.

    Raises:
        AnswerInvalid: it does not fit; the text names each field.
        Unserialisable: JSON cannot hold it.
        DefinitionError: the schema itself is wrong.
    """
    try:
        data = ENCODE(value)
        fault = find_fault(value, ENCODE) if b"null" in data and not tagging.is_plain(value) else None
    except Exception as error:  # an enc_hook runs code of the value's type
        fault = find_fault(value, ENCODE) or Refusal(f"not to be written as JSON ({error})", "answer with plain JSON")
    if fault is not None:
        raise Unserialisable(f"{at(place, fault.path)} is {fault.found}: {fault.remedy}")
    try:
        plain = DECODE(data)
    except RecursionError:
        raise AnswerInvalid(place, [Problem("", "is nested too deeply", f"{len(data):,} bytes")]) from None
    has_floats = b"." in data or b"e" in data
    problems = check(schema, plain) or (_too_large_to_be_whole(schema, plain) if has_floats else [])
    if problems:
        raise AnswerInvalid(place, problems)
    return msgspec.Raw(ENCODE(_with_whole_numbers(plain)) if has_floats else data)


def refuse(schema: Mapping[str, Any] | bool, value: object, place: str) -> None:  # Any: JSON
    """Do nothing when `value` fits, else raise as `accept` does."""
    accept(schema, value, place)


def check_schema(schema: Mapping[str, Any] | bool, place: str) -> None:  # Any: JSON
    """Refuse what is no JSON Schema, or one that leads out of itself.

    Raises:
        DefinitionError: the text names the place in the schema.
    """
    if not tagging.is_plain(schema):
        raise DefinitionError(f"{place}: the JSON Schema is not plain JSON: use dicts, lists, text and numbers only")
    _validator_of(schema, place)


def _validator_of(schema: Mapping[str, Any] | bool, place: str) -> Validator:  # Any: JSON
    import jsonschema_rs

    try:
        return _compiled(ENCODE(schema))
    except jsonschema_rs.ValidationError as error:
        where = _path(error.instance_path)
        reason = error.message.partition(", and retrieving it")[0].partition(" and retrieving it failed")[0]
        if "is not present in a registry" in reason:
            reason += "; a form's $ref may lead to its own $defs only, nothing is fetched"
        raise DefinitionError(
            f"{place}: the JSON Schema is wrong{f' at {where}' if where else ''}: {reason}"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DefinitionError(f"{place}: the JSON Schema cannot be used: {error}") from error


@functools.lru_cache(maxsize=256)  # by the schema's canonical bytes: compiling takes 30-1,000 µs, a check 1 µs
def _compiled(schema: bytes) -> Validator:
    import jsonschema_rs

    return jsonschema_rs.validator_for(
        DECODE(schema),
        formats=_CHECKS,
        validate_formats=True,
        retriever=_fetch_nothing,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKS),
    )


def _fetch_nothing(uri: str) -> Any:  # Any: never returns
    raise LookupError(f"{uri} is not fetched")


def _reads_as(kind: type) -> Callable[[str], bool]:
    def reads(text: str) -> bool:
        try:
            msgspec.convert(text, kind)
        except Exception:  # decimal raises its own kinds; what raises does not read
            return False
        return True

    return reads


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "moment": _reads_as(datetime.datetime),
    "time-of-day": _reads_as(datetime.time),
    "timedelta": _reads_as(datetime.timedelta),
    "decimal": _reads_as(decimal.Decimal),
    "base64": _reads_as(bytes),
}
"""Formats beside the standard's, for Python's types: theirs refuse a time without an offset and a negative duration."""

FORMATS: Final = {
    "moment": "a date and time, such as 2026-11-20T13:00:00 or 2026-11-20T13:00:00+01:00",
    "date-time": "a date and time with an offset, such as 2026-11-20T13:00:00+01:00",
    "date": "a date, such as 2026-11-20",
    "time": "a time with an offset, such as 13:00:00+01:00",
    "time-of-day": "a time, such as 13:00:00",
    "duration": "a duration, such as P1DT2H",
    "timedelta": "a duration in days, hours, minutes and seconds, such as P1DT2H",
    "decimal": "a number, such as 12.50",
    "base64": "base64",
    "uuid": "a UUID, such as 123e4567-e89b-12d3-a456-426614174000",
    "email": "an e-mail address",
    "uri": "a URL, such as https://example.org/",
    "hostname": "a host's name",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "regex": "a regular expression",
}
"""What a format wants, in words."""

TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
"""JSON's types, in words."""

_LIMITS: Final = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} members",
    "maxProperties": "must have at most {} members",
}


def _rank(problem: Problem, order: Sequence[str]) -> int:
    field = _FIELD.match(problem.path)
    return order.index(field[0]) if field is not None and field[0] in order else len(order)


def _first(validator: Validator, value: object) -> Iterator[ValidationError]:
    import jsonschema_rs

    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield error


def _problems(error: ValidationError, schema: Any) -> Iterator[Problem]:  # Any: JSON
    path, found = _path(error.instance_path), _short(error.instance)
    match error.kind.name:
        case "required":
            yield Problem(_path([*error.instance_path, error.kind.value]), "is missing", "")
        case "additionalProperties" | "unevaluatedProperties":
            known = _known_fields(error.schema_path, schema)
            for name in error.kind.value:
                near = difflib.get_close_matches(name, known, n=1)
                message = "is no field of this form" + (f" (did you mean {near[0]!r}?)" if near else "")
                yield Problem(_path([*error.instance_path, name]), message, _short(error.instance[name]))  # type: ignore[index]  # an object, by the keyword
        case "anyOf" | "oneOf" if any(error.kind.value):
            yield from _closest(error, schema, Problem(path, "fits none of the forms that are allowed here", found))
        case "oneOf":
            yield Problem(path, "fits more than one of the forms of which one is allowed here", found)
        case "propertyNames":
            inner = error.kind.value
            says = "; ".join(problem.message for problem in _problems(inner, {}))
            yield Problem(
                _path([*error.instance_path, inner.instance]), f"has a name that {says}", _short(inner.instance)
            )
        case keyword:
            yield Problem(path, _message(keyword, error), found)


def _message(name: str, error: ValidationError) -> str:
    wanted = getattr(error.kind, "value", None)
    if name in _LIMITS:
        if wanted == 1 and name in ("minLength", "minItems", "minProperties"):
            return "must not be empty"
        return _LIMITS[name].format(_short(wanted))
    match name:
        case "type":
            kinds = [kind for kind in TYPES if kind in wanted] if isinstance(wanted, Sequence) else []
            return f"must be {_either([TYPES[kind] for kind in kinds])}"
        case "enum":
            return f"must be {_either([_short(one) for one in wanted])}" if wanted else "cannot be given"
        case "const":
            return f"must be {_short(wanted)}"
        case "format":
            return f"must be {FORMATS.get(str(wanted), f'in the format {wanted!r}')}"
        case "pattern" if error.message.startswith("Error executing regex"):
            return f"could not be matched with the pattern {wanted} within {BACKTRACKS:,} steps"
        case "pattern":
            return f"must match the pattern {wanted}"
        case "uniqueItems":
            return "must not have the same item twice"
        case "falseSchema":
            return "must not be given"
        case _:
            return f"does not fit: {error.message}"


def _closest(error: ValidationError, schema: Any, otherwise: Problem) -> Iterator[Problem]:  # Any: JSON
    """What is wrong with the one alternative that was meant, when that can be told."""
    meant = []
    for branch in error.kind.value:
        here = [one.kind.name for one in branch if one.instance_path == error.instance_path]
        tagged = [
            one
            for one in branch
            if one.kind.name in ("const", "enum") and one.instance_path[:-1] == error.instance_path
        ]
        if branch and "type" not in here and not (tagged and len(error.kind.value) > 1):
            meant.append(branch)
    if len(meant) == 1:
        for one in meant[0]:
            yield from _problems(one, schema)
        return
    kinds = [one for branch in error.kind.value for one in branch if one.instance_path == error.instance_path]
    if all(one.kind.name == "type" for one in kinds) and len(kinds) == len(error.kind.value):
        wanted = {kind for one in kinds for kind in one.kind.value}
        words = _either([text for kind, text in TYPES.items() if kind in wanted])
        yield Problem(otherwise.path, f"must be {words}", otherwise.found)
    else:
        yield otherwise


def _known_fields(schema_path: Iterable[str | int], schema: Any) -> list[str]:  # Any: JSON
    """The fields of the object whose keyword stands at this path of the schema; empty when that is not found."""
    spot = schema
    try:
        for step in [*schema_path][:-1]:
            spot = spot[step]
        return list(spot.get("properties", ()))
    except (LookupError, TypeError, AttributeError):
        return []


def _either(words: Sequence[str]) -> str:
    if len(words) > 12:
        words = [*words[:12], "…"]
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _path(segments: Iterable[str | int]) -> str:
    return "".join(
        member(segment) if isinstance(segment, str) else f"[{segment}]" for segment in segments
    ).removeprefix(".")


def _short(value: object) -> str:
    try:
        text = ENCODE(value).decode("utf-8", "replace")
    except Exception:  # a number of very many digits
        return type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _too_large_to_be_whole(schema: Mapping[str, Any] | bool, value: object) -> list[Problem]:  # Any: JSON
    """Where a float of 2^53 and more, such as 1e300, stands for a whole number: Python's types take none there."""
    broken = _with_large_floats_broken(value)
    if ENCODE(broken) == ENCODE(value):
        return []
    problems = (problem for problem in check(schema, broken) if TYPES["integer"] in problem.message)
    return [Problem(one.path, f"{one.message}: write all digits of so large a one", "") for one in problems]


def _with_large_floats_broken(value: object) -> object:
    """Plain JSON with a fraction in place of each float so large that it has none."""
    if isinstance(value, float):
        return value if abs(value) < _WHOLE else 0.5
    if isinstance(value, list):
        return [_with_large_floats_broken(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_large_floats_broken(item) for key, item in value.items()}
    return value


def _with_whole_numbers(value: object) -> object:
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < _WHOLE else value  # type: ignore[attr-defined,call-overload,arg-type]  # a float
    if kind is list:
        return [_with_whole_numbers(item) for item in value]  # type: ignore[attr-defined]  # a list, by its type
    if kind is dict:
        return {key: _with_whole_numbers(item) for key, item in value.items()}  # type: ignore[attr-defined]  # a dict
    return value
