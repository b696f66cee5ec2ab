"""Types that msgspec leaves to us: pydantic models and paths go through hooks, everything else is refused.

Neither pydantic nor pathlib is imported: who has such a value or hint has imported it already.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

from stepwell.model.faults import Refusal, type_name, unknown

MASK: Final = b'"**********"'
"""How pydantic writes a secret; the secret itself would be lost."""

_adapters: dict[object, Any] = {}  # Any: pydantic.TypeAdapter, which is not imported here


def dump(value: object) -> object:
    """Return a builtin form of a value that msgspec does not know (its `enc_hook`).

    Raises:
        Refusal: there is none.
    """
    kind = type(value)
    if type_name(kind).startswith("numpy."):
        raise unknown(value)
    if issubclass(kind, str):
        return str.__str__(value)  # the exact text, whatever the subclass overrides
    if issubclass(kind, int):
        return int.__index__(value)  # type: ignore[arg-type]  # an int
    if issubclass(kind, float):
        return float.__float__(value)  # type: ignore[arg-type]  # a float
    if _is_path(kind):
        return value.__fspath__()  # type: ignore[attr-defined]  # a PurePath, by its type
    if is_pydantic(kind):
        return _dump_pydantic(value)
    raise unknown(value)


def load(kind: type, raw: object) -> object:
    """Return an instance of `kind` from its builtin form (msgspec's `dec_hook`); ValueError when it does not fit."""
    if kind is object:
        return raw
    if _is_path(kind):
        if not isinstance(raw, str):
            raise ValueError(f"Expected `str` for a path, got `{type(raw).__name__}`")
        return kind(raw)
    hint = getattr(kind, "__stands_for__", kind)
    return _load_pydantic(hint, raw)


ENCODE: Final = msgspec.json.Encoder(enc_hook=dump, order="deterministic").encode
"""Canonical JSON of a value whose types JSON holds; dict members and sets in a fixed order."""


def knows(kind: type) -> bool:
    """Whether `dump` and `load` are for this type."""
    return kind is object or _is_path(kind) or is_pydantic(kind) or hasattr(kind, "__stands_for__")


def is_declared(kind: type) -> bool:
    """Whether instances can be read back by a hint that names the type, and only so."""
    return (
        issubclass(kind, (msgspec.Struct, enum.Enum))
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or is_pydantic(kind)
        or _is_path(kind)
    )


def _is_path(kind: type) -> bool:
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and issubclass(kind, pathlib.PurePath)


def is_pydantic(kind: object) -> bool:
    """Whether pydantic, when it is loaded, knows how to write and read the type."""
    return "pydantic" in sys.modules and isinstance(kind, type) and hasattr(kind, "__get_pydantic_core_schema__")


def stand_in(hint: object) -> type | None:
    """Return a type that stands for a hint which msgspec cannot take but pydantic can, such as `Cat | Dog`.

    None when the hint names no pydantic type, or pydantic refuses it too.
    """
    if not _mentions_pydantic(hint):
        return None
    try:
        _adapter(hint)
    except Exception:  # pydantic raises many kinds; the caller reports msgspec's reason
        return None
    return _StandIn("StandIn", (), {"__stands_for__": hint})


class _StandIn(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return True  # pydantic has checked it against the hint


def _mentions_pydantic(hint: object) -> bool:
    return is_pydantic(hint) or any(_mentions_pydantic(part) for part in typing.get_args(hint))


def schema_of(kind: type) -> tuple[dict[str, object], dict[str, object]]:
    """Return (JSON Schema, definitions it refers to under `#/$defs/`) of a type of ours."""
    if _is_path(kind):
        return {"type": "string", "format": "path"}, {}
    if kind is object:
        return {}, {}
    schema = _adapter(getattr(kind, "__stands_for__", kind)).json_schema(by_alias=not _by_name())
    definitions = schema.pop("$defs", {})
    return schema, definitions


def _adapter(hint: object) -> Any:  # Any: pydantic.TypeAdapter
    adapter = _adapters.get(hint)
    if adapter is None:
        adapter = _adapters[hint] = sys.modules["pydantic"].TypeAdapter(hint)
    return adapter


def _by_name() -> dict[str, bool]:
    # Before 2.11 pydantic could not read by field name beside an alias; then both ways use the alias.
    version = sys.modules["pydantic"].VERSION.split(".")
    return {"by_alias": False, "by_name": True} if (int(version[0]), int(version[1])) >= (2, 11) else {}


def _dump_pydantic(value: object) -> object:
    by_alias = not _by_name()
    try:
        return _adapter(type(value)).dump_python(
            value, mode="json", round_trip=True, by_alias=by_alias, warnings="error"
        )
    except Exception as error:
        raise Refusal(
            f"of type {type_name(type(value))}, which pydantic cannot write ({_first_line(error)})", "mend the model"
        ) from error


def _load_pydantic(hint: object, raw: object) -> object:
    try:
        # From JSON and not from objects: a strict model takes a string for a date only there.
        return _adapter(hint).validate_json(ENCODE(raw), **_by_name())
    except ValueError as error:
        details: Callable[..., list[dict[str, Any]]] | None = getattr(error, "errors", None)  # Any: pydantic's dicts
        if details is None:
            raise
        problems = details(include_url=False, include_context=False, include_input=False)
        raise ValueError("; ".join(_problem(problem) for problem in problems[:5])) from error


def _problem(problem: dict[str, Any]) -> str:  # Any: pydantic's dicts
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
