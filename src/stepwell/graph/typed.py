"""Of which type is a node, and what are its settings? Whichever of the ways of writing them was used.

```yaml
a: {type: fetch_it, with: {url: x}}       # a task's name in the place of a type's
b: {task: fetch_it, inputs: {url: x}}     # the type's name as a key, its settings beside it
c: {http: {url: x}}                       # … or below it
d: {http: x, method: POST}                # … or the main one below it, others beside it
```

Beside the type, a name that every node may have means that, except for a container or a wait whose type has a setting
of that name (`map: …, concurrency: 3`; `wait_event: …, timeout: 1h`). `inputs` is the same as `with` for types without
a setting `inputs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, get_args, get_origin

import msgspec

from stepwell.errors import DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.graph.form import Form, Json, did_you_mean, either, shown
from stepwell.graph.places import Places
from stepwell.graph.walking import scalars
from stepwell.nodes.parts import settings as parts
from stepwell.nodes.protocol import NodeType
from stepwell.nodes.registry import NODE_KEYS

_OWN: Final = ("container", "wait")
"""Kinds of types whose settings go before what every node may have, where both have a name."""

_NEVER_OWN: Final = frozenset({"id", "type", "with"})


class Facts(NamedTuple):
    """What is asked of a node type again and again. `settings` has the names of bodies too, in canonical order.

    `hints` are the types of settings whose constants can be checked, `own` the settings that go before what every node
    may have.
    """

    type: NodeType
    settings: tuple[str, ...]
    required: tuple[str, ...]
    bodies: tuple[str, ...]
    hints: Mapping[str, object]
    takes_mapping: bool

    own: frozenset[str]

    def owns(self, key: str, value: Json) -> bool:
        """Whether a key beside the type is its setting, although every node may have a key of that name."""
        return key in self.own and (key != "compensate" or isinstance(value, str))


class Typed(NamedTuple):
    """The type of a node (None: unknown, or none was found) and its settings, each with its places."""

    name: str
    facts: Facts | None
    settings: dict[str, tuple[Json, Places]]
    places: Places


def facts_of(type: NodeType) -> Facts:
    """Look a node type over."""
    names = parts.names(type)
    fields = {field.encode_name: field for field in msgspec.structs.fields(type.Settings)}
    main = parts.schema(type)["properties"].get(type.main, {})
    return Facts(
        type=type,
        settings=(*names, *(name for name in type.bodies if name not in names)),
        required=parts.required(type),
        bodies=type.bodies,
        hints={name: field.type for name, field in fields.items()},
        takes_mapping=type.main in type.bodies or _takes_mapping(main),
        own=NODE_KEYS.intersection(names) - _NEVER_OWN if type.kind in _OWN else frozenset(),
    )


def _takes_mapping(shape: Mapping[str, Json]) -> bool:
    """Whether a mapping can fit a JSON Schema that msgspec made."""
    if "anyOf" in shape:
        return any(_takes_mapping(one) for one in shape["anyOf"])
    kind = shape.get("type", "object" if "enum" not in shape else "")
    return "object" in ([kind] if isinstance(kind, str) else kind)


class Typing:
    """Finds types and settings, and looks each node type over once."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.names = frozenset(form.types.names()) - NODE_KEYS
        self._facts: dict[str, Facts | None] = {}

    def facts(self, name: str) -> Facts | None:
        """What is known of a node type; None when there is none of this name.

        Raises:
            DefinitionError: it cannot be loaded.
        """
        if name not in self._facts:
            type = self.form.types.get(name)
            self._facts[name] = None if type is None else facts_of(type)
        return self._facts[name]

    def typed(self, given: Mapping[str, Json], places: Places) -> Typed:
        """The type and the settings of a node as it is written."""
        name = self._name(given, places)
        try:
            facts = self.facts(name) if name else None
            task = "" if facts is not None or name not in self.form.tasks else name
            if task:
                facts = self.facts("task")
        except DefinitionError as error:
            self.form.say("unknown-node-type", places, str(error))
            return Typed(name, None, {}, places)
        if facts is None:
            if name:
                known = sorted({*self.names, *self.form.tasks})
                hint = self.form.near(name, known) or f"the node types are: {', '.join(sorted(self.names))}"
                at = places.of("type") if "type" in given else places
                self.form.say("unknown-node-type", at, f"there is no node type or task {name!r}", hint)
            return Typed(name, None, {}, places)
        settings: dict[str, tuple[Json, Places]] = {}
        if task:
            settings["task"] = task, places.of("type")
        elif "type" not in given:
            settings.update(self._below(facts, given[name], places.of(name)))
        for key, value, at in self._beside(facts, given, places, is_task=bool(task)):
            if key in settings:
                self.form.say("given-twice", at, f"the setting {key!r} is given twice", "take one away")
            settings.setdefault(key, (value, at))
        self._check(facts, settings, places)
        order = [key for key in facts.settings if key in settings]
        return Typed(facts.type.name, facts, {key: settings[key] for key in order}, places)

    def _name(self, given: Mapping[str, Json], places: Places) -> str:
        """The name of the type; "" when there is none, which is noted."""
        if "type" in given:
            return self.form.text(given["type"], places.of("type"), "type") or ""
        found = [key for key in given if key in self.names]
        if len(found) > 1:  # `workflow: x, wait: false`: what is a setting of another is not the type
            found = [key for key in found if self._has_settings(key, found)] or found
        if len(found) == 1:
            return found[0]
        if found:
            message = f"a node has one type; found {' and '.join(found)}"
            self.form.say("several-types", places.of(found[1]), message, "make two nodes, or write type: …")
            return ""
        odd = [key for key in given if key not in NODE_KEYS]
        meant = [(key, hint) for key in odd[:10] if (hint := self.form.near(key, {*self.names, "type"}))]
        if meant:
            key, hint = meant[0]
            self.form.say("no-type", places.of(key), "this node has no type", hint)
        elif len(odd) == 1:
            hint = f"the node types are: {', '.join(sorted(self.names))}"
            message = f"this node has no type: {odd[0]!r} is neither one nor a key of nodes"
            self.form.say("no-type", places.of(odd[0]), message, hint)
        else:
            hint = "write type: …, or the type's name as a key, such as task: fetch"
            self.form.say("no-type", places, "this node has no type", hint)
        return ""

    def _has_settings(self, name: str, others: list[str]) -> bool:
        try:
            facts = self.facts(name)
        except DefinitionError:
            return False
        return facts is not None and all(other == name or other in facts.settings for other in others)

    def _below(self, facts: Facts, value: Json, places: Places) -> Iterator[tuple[str, tuple[Json, Places]]]:
        """What the value of the key that names the type says."""
        main = facts.type.main
        if isinstance(value, dict) and self._is_settings(facts, value):
            for key, one in value.items():
                if key in facts.settings:
                    yield key, (one, places.of(key))
            self._unknown(facts, [key for key in value if key not in facts.settings], places)
        elif value is None and not (main and main in facts.required):
            return
        elif main:
            yield main, (value, places)
        else:
            message = f"{facts.type.name} takes settings in a mapping, or none; found {shown(value)}"
            self.form.say("wrong-setting", places, message)

    def _is_settings(self, facts: Facts, value: dict[str, Json]) -> bool:
        odd = [key for key in value if key not in facts.settings]
        if not odd or not facts.type.main or not facts.takes_mapping:
            return True
        if len(odd) == len(value):
            return False
        missing = [name for name in facts.settings if name not in value]
        return facts.type.kind == "container" or any(did_you_mean(key, missing) for key in odd)

    def _beside(
        self, facts: Facts, given: Mapping[str, Json], places: Places, *, is_task: bool
    ) -> Iterator[tuple[str, Json, Places]]:
        """The settings under `with` and `inputs`, and those beside the type."""
        name = facts.type.name
        for key, value in given.items():
            at = places.of(key)
            if key == "with" or (key == "inputs" and "inputs" not in facts.settings):
                inner = self.form.mapping(value, at, key) or {}
                if is_task and key == "with" and not inner.keys() <= {"inputs"}:
                    yield "inputs", inner, at  # of a task's own name: its arguments
                    continue
                for one in inner:
                    if one in facts.settings:
                        yield one, inner[one], at.of(one)
                self._unknown(facts, [one for one in inner if one not in facts.settings], at)
            elif facts.owns(key, value) or (key in facts.settings and key not in NODE_KEYS):
                if key != name or "type" in given:
                    yield key, value, at
            elif key not in NODE_KEYS and (key != name or "type" in given):
                near = [*facts.settings, *sorted(NODE_KEYS)]
                hint = self.form.near(key, near)
                self.form.say("unknown-key", at, f"a node of type {name} has no key {key!r}", hint)

    def _unknown(self, facts: Facts, keys: list[str], places: Places) -> None:
        for key in keys:
            hint = self.form.near(key, facts.settings)
            hint = hint or f"it has: {', '.join(facts.settings) or 'none'}"
            self.form.say("unknown-setting", places.of(key), f"{facts.type.name} has no setting {key!r}", hint)

    def _check(self, facts: Facts, settings: Mapping[str, tuple[Json, Places]], places: Places) -> None:
        """Note what is missing, and constants of another type than the setting's."""
        for name in facts.required:
            if name not in settings:
                message = f"{facts.type.name} needs the setting {name!r}"
                self.form.say("missing-setting", places, message)
        for name, (value, at) in settings.items():
            hint = facts.hints.get(name)
            if hint is None or name in facts.bodies or has_template(value):
                continue
            try:
                msgspec.convert(value, hint)
            except msgspec.ValidationError as error:
                text, _, inner = str(error).partition(" - at `$")
                message = f"{facts.type.name}: the setting {name!r}{inner.rstrip('`')} {_in_words(text)}"
                self.form.say("wrong-setting", at, message, _choices(hint, value))


def has_template(value: Json) -> bool:
    """Whether a template stands anywhere in some JSON."""
    return any(map(is_template, scalars(value)))


def _choices(hint: object, value: Json) -> str:
    """The words that a setting of fixed words takes."""
    kinds = (hint, *get_args(hint))
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return did_you_mean(value, words) or (f"it is {either(words)}" if words else "")


_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_EXPECTED: Final = "Expected `"


def _in_words(text: str) -> str:
    """msgspec's refusal in the words of this format."""
    if not text.startswith(_EXPECTED):
        return f"does not fit: {text[:1].lower()}{text[1:]}"
    wanted, _, found = text.removeprefix(_EXPECTED).partition("`")
    names = [kind.strip() for kind in wanted.split("|")]
    kinds = " or ".join(_WORDS.get(kind, kind) for kind in names if kind != "int" or "float" not in names)
    got = found.removeprefix(", got `").rstrip("`")
    return f"must be {kinds}" + (f", found {_WORDS.get(got, got)}" if got else "")
