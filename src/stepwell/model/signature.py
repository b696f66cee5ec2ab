"""A call crosses the journal as one JSON object, its parameters by name: `{"size": 3, "url": "…"}`.

Names and not positions, so that `fetch("a", 3)` and `fetch(size=3, url="a")` are the same bytes; what was not given
is not written, so a parameter added with a default leaves old bytes as they are.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import msgspec

from stepwell.errors import ArgumentError, Unserialisable
from stepwell.model import foreign, tagging
from stepwell.model.faults import members_of
from stepwell.model.foreign import ENCODE
from stepwell.model.parameters import EMPTY, Parameters, resolved_hints
from stepwell.model.refusals import DECODE, hint_text, refused_read, refused_write
from stepwell.model.values import Form, ValueCodec, form_of, usable


class CallCodec:
    """Writes and reads the arguments of calls of one function, and its result.

    `name` stands in errors. Type hints are resolved at first use, so they may name what is defined later.

    Any method raises `DefinitionError` when an annotation cannot be resolved, and `Unserialisable` when a hint has
    no JSON form.
    """

    __slots__ = ("_call", "_function", "_name", "_returns")

    def __init__(self, function: Callable[..., object], name: str) -> None:
        self._function = function
        self._name = name
        self._call: _Call | None = None
        self._returns: ValueCodec | None = None

    @property
    def returns(self) -> ValueCodec:
        """The codec of the result, by the return annotation (for `async def` that is the awaited value)."""
        if self._returns is None:
            hint = resolved_hints(self._function, self._name).get("return", EMPTY)
            self._returns = ValueCodec(hint, f"result of {self._name}")
        return self._returns

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> msgspec.Raw:
        """Return the canonical JSON object of a call; `*args` are a list under their own name, `**kwargs` members.

        Raises:
            ArgumentError: the arguments do not fit the parameters.
            Unserialisable: a value does not fit its hint, or JSON cannot hold it.
        """
        call = self._call or self._prepare()
        if not kwargs and len(args) in call.plain_counts:
            return call.write(dict(zip(call.positional, args, strict=False)))
        bound, extras = call.parameters.bind(args, kwargs)
        return call.with_extras(call.write(bound), extras)

    def decode(self, data: bytes | msgspec.Raw) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return (args, kwargs) to call the function with.

        Raises:
            ArgumentError: the object does not fit the parameters any more; the text names the parameter.
        """
        call = self._call or self._prepare()
        return call.read(bytes(data))

    def parse(self, data: bytes) -> msgspec.Raw:
        """Return the canonical JSON object of a call from JSON that a person typed.

        A value that is no object is taken as the parameter when there is one only, or one only without default.
        Where there is no hint an object with a `$t` member is read as a tagged value, so what a journal shows can
        be typed in again.

        Raises:
            ArgumentError: no JSON, or a parameter is missing, unknown, or of another type; the text names it.
        """
        call = self._call or self._prepare()
        try:
            given = DECODE(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArgumentError(f"input of {self._name} is not JSON: {error}") from error
        if not isinstance(given, dict):
            data = ENCODE({call.only_parameter(given): msgspec.Raw(data)})
        args, kwargs = call.read(data)
        try:
            fill_in((args, kwargs))
            return self.encode(args, kwargs)
        except RecursionError as error:
            raise ArgumentError(f"input of {self._name} is nested too deeply") from error
        except Unserialisable as error:
            raise ArgumentError(str(error)) from error

    def schema(self) -> dict[str, object]:
        """Return the JSON Schema of the input object; a permissive one where a hint has no schema."""
        return (self._call or self._prepare()).schema()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in order, without `**kwargs`."""
        return tuple((self._call or self._prepare()).parameters.named)

    @property
    def hints(self) -> Mapping[str, Any]:  # Any: type forms
        """The types that they are read as, by name, in order."""
        return (self._call or self._prepare())._hints

    def only_parameter(self) -> str:
        """The only parameter, or the only one without default: the one that a lone value is for.

        Raises:
            ArgumentError: there is no such one.
        """
        return (self._call or self._prepare()).only_parameter(None)

    def _prepare(self) -> _Call:
        self._call = _Call(self._function, self._name)
        return self._call


class _Call:
    """What `CallCodec` needs to know of a function, made once."""

    def __init__(self, function: Callable[..., object], name: str) -> None:
        self._name = name
        self.parameters = parameters = Parameters(function, name)
        self.positional = parameters.positional
        self.plain_counts = parameters.plain_counts()
        hints = resolved_hints(function, name)
        self._extras_hint = hints.get(parameters.extras.name, Any) if parameters.extras else Any
        self._extras = form_of(self._extras_hint, f"arguments of {name}") if parameters.extras else None
        self._hints = {parameter: self._hint(parameter, hints) for parameter in parameters.named}
        self._forms = {parameter: form_of(hint, parameter) for parameter, hint in self._hints.items()}
        self._whole = Form(self._input_struct())
        self._values = attrgetter(*(f"p{index}" for index in range(len(self._hints)))) if self._hints else None

    def _hint(self, name: str, hints: Mapping[str, Any]) -> Any:  # Any: type forms
        parameter = self.parameters.named[name]
        hint = usable(hints.get(name, Any), f"argument {name!r} of {self._name}")
        if parameter is self.parameters.rest:
            return list[hint]  # type: ignore[valid-type]  # built at run time
        if parameter.default is None and hint is not Any:
            return typing.Optional[hint]  # noqa: UP045 - `size: int = None` means it, and not every hint has `|`
        return hint

    def _input_struct(self) -> type[msgspec.Struct]:
        """A struct of the parameters, in canonical order, to read a call with in one go.

        Its fields are called `p0`, `p1`, … since a parameter's name may be one that structs use themselves.
        """
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []  # Any: type forms and defaults
        rename = {f"p{index}": name for index, name in enumerate(self._hints)}
        for field, name in sorted(rename.items(), key=lambda pair: pair[1]):
            hint = self._hints[name]
            fields.append((field, hint) if name in self.parameters.required else (field, hint, msgspec.UNSET))
        return msgspec.defstruct("Input", fields, rename=rename, forbid_unknown_fields=True, kw_only=True)

    def write(self, members: dict[str, object]) -> msgspec.Raw:
        """Return the JSON object of arguments by parameter. Raises Unserialisable."""
        fits = True
        for name, value in members.items():
            form = self._forms[name]
            if type(value) not in form.exact and not (form.untyped and tagging.is_plain(value)):
                fits = False
        try:
            if fits:  # nothing has to be read back to know that
                data = ENCODE(members)
                if b'"$' not in data:
                    return msgspec.Raw(data)
            for name, value in members.items():
                self._forms[name].check_text(value)
            return msgspec.Raw(self._whole.write(members))
        except Exception as error:
            raise self._unwritable(members, error) from error

    def with_extras(self, data: msgspec.Raw, extras: Mapping[str, object]) -> msgspec.Raw:
        """Return the object with the members of `**kwargs` added. Raises Unserialisable."""
        if not extras or self._extras is None:
            return data
        members: dict[str, msgspec.Raw] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        for key, value in extras.items():
            try:
                members[key] = msgspec.Raw(self._extras.write(value))
            except Exception as error:
                place = f"argument {key!r} of {self._name}"
                raise Unserialisable(refused_write(self._extras, value, error, place, self._extras_hint)) from error
        return msgspec.Raw(ENCODE(members))

    def _unwritable(self, members: Mapping[str, object], error: Exception) -> Unserialisable:
        for name, value in members.items():
            form = self._forms[name]
            try:
                form.write(value)
            except Exception as reason:
                place = f"argument {name!r} of {self._name}"
                return Unserialisable(refused_write(form, value, reason, place, self._hints[name]))
        return Unserialisable(f"arguments of {self._name} cannot be written: {error}")

    def read(self, data: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return (args, kwargs). Raises ArgumentError."""
        extras: dict[str, object] = {}
        if self._extras is not None:
            data, extras = self._split(data)
        try:
            held = self._whole.read(data)
        except Exception as error:
            raise self._unreadable(data, error) from error
        if self._values is None:
            return (), extras
        values = self._values(held) if len(self._hints) > 1 else (self._values(held),)
        count = 0
        for value in values:
            if value is msgspec.UNSET:
                break
            count += 1
        if count <= len(self.positional) and not any(value is not msgspec.UNSET for value in values[count:]):
            return values[:count], extras  # all by position, the rest left to defaults
        given = {name: value for name, value in zip(self._hints, values, strict=True) if value is not msgspec.UNSET}
        args, kwargs = self.parameters.unbind(given)
        return args, kwargs | extras

    def _split(self, data: bytes) -> tuple[bytes, dict[str, object]]:
        """Take the members of `**kwargs` out of the object."""
        assert self._extras is not None
        try:
            members: dict[str, msgspec.Raw] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(data, error) from error
        extras = {}
        for key in [key for key in members if key not in self._hints]:
            raw = bytes(members.pop(key))
            try:
                extras[key] = self._extras.read(raw)
            except Exception as error:
                raise self._wrong(key, self._extras, raw, error, self._extras_hint) from error
        return ENCODE(members), extras

    def _unreadable(self, data: bytes, error: Exception) -> ArgumentError:
        try:
            given: dict[str, msgspec.Raw] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ArgumentError(f"input of {self._name} is no JSON object of its parameters: {error}")
        parameters = self.parameters
        problems = [
            f"has no parameter {name!r}{parameters.near(name, given)}" for name in given if name not in self._hints
        ]
        problems += [
            f"misses {name!r} ({hint_text(self._hints[name])})" for name in parameters.required if name not in given
        ]
        if problems:
            return ArgumentError(f"{self._name}() {', and '.join(problems)}; it takes {parameters.listing()}")
        for name, raw in given.items():
            form, held = self._forms[name], bytes(raw)
            try:
                form.read(held)
            except Exception as reason:
                return self._wrong(name, form, held, reason, self._hints[name])
        return ArgumentError(f"input of {self._name} does not fit: {error}")

    def _wrong(self, name: str, form: Form, data: bytes, error: Exception, hint: object) -> ArgumentError:
        what, path = refused_read(form, data, error)
        where = "" if path == "$" else f" at {path}"
        return ArgumentError(f"argument {name!r} of {self._name}{where}: {what}; it is declared `{hint_text(hint)}`")

    def only_parameter(self, given: object) -> str:
        """The parameter that a lone JSON value is for. Raises ArgumentError when there is no such one."""
        for names in (self.parameters.required, list(self._hints)):
            if len(names) == 1:
                return names[0]
        raise ArgumentError(
            f"input of {self._name} must be a JSON object of its parameters ({self.parameters.listing()}), "
            f"not {'null' if given is None else type(given).__name__}"
        )

    def schema(self) -> dict[str, object]:
        definitions: dict[str, object] = {}
        properties: dict[str, object] = {}
        for name, form in self._forms.items():
            properties[name] = schema_of(self._hints[name], definitions)
            default = self.parameters.named[name].default
            if default is not EMPTY:
                properties[name] = _with_default(properties[name], form, default)
        extras = schema_of(self._extras_hint, definitions) or True if self._extras else False
        schema: dict[str, object] = {"type": "object", "title": self._name, "properties": properties}
        schema |= {"required": self.parameters.required, "additionalProperties": extras}
        return schema | ({"$defs": definitions} if definitions else {})


def fill_in(value: object) -> None:
    """Set what msgspec leaves to the class when it reads a dataclass: fields with a plain default.

    They would not be written, and typed input would have other bytes than the call that it describes. Recorded
    arguments are left as they were read, so that a field added with a default does not change their bytes.
    """
    for _, _, found in members_of(value) or ():
        fill_in(found)
        kind = type(found)
        if dataclasses.is_dataclass(kind) and hasattr(found, "__dict__"):
            for field in dataclasses.fields(kind):
                if field.default is not dataclasses.MISSING and field.name not in found.__dict__:
                    object.__setattr__(found, field.name, field.default)


def schema_of(hint: Any, definitions: dict[str, object]) -> dict[str, object]:  # Any: a type form
    """Return the JSON Schema of a hint, adding to `definitions` what it refers to; `{}` where there is none."""

    def ours(kind: type) -> dict[str, object]:
        schema, needed = foreign.schema_of(kind)
        definitions.update(needed)
        return schema

    try:
        (schema,), needed = msgspec.json.schema_components([hint], ref_template="#/$defs/{name}", schema_hook=ours)
    except Exception:  # a hint without a schema still has a form: decode refuses what does not fit
        return {}
    definitions.update(needed)
    return schema


def _with_default(schema: object, form: Form, default: object) -> object:
    assert isinstance(schema, dict)
    try:
        return {**schema, "default": DECODE(form.write(default))}
    except Exception:  # a default that JSON cannot hold, such as a sentinel, is not shown
        return schema
