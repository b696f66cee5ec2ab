"""Does a node type keep to what definitions, docs and the engine expect of all of them? Yours too: check it in a test.

```python
from stepwell.testing.node_conformance import check_node_type

def test_my_node_type_conforms() -> None:
    check_node_type(TYPE)
```
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import msgspec

from stepwell.errors import DefinitionError, StepwellError
from stepwell.expressions.names import MappingNames, Reference
from stepwell.nodes.parts import settings as reading
from stepwell.nodes.protocol import ERROR, Kind, NodeType, Routed
from stepwell.nodes.registry import NODE_KEYS
from stepwell.testing.node_samples import NAMES, samples, structs

SECTIONS = ("Ports:", "Output:", "Example:")
"""What the docstring of a type says, each at the beginning of a line."""

LONGEST_SUMMARY = 80

OPEN_KINDS = ("pure", "action")
"""The kinds that types of other packages can have; the others are the engine's own."""


class NotConforming(AssertionError):
    """A node type does not keep to the rules; `faults` has all that was found."""

    def __init__(self, name: str, faults: list[str]) -> None:
        super().__init__(f"node type {name!r}:" + "".join(f"\n  {fault}" for fault in faults))
        self.faults = tuple(faults)


def check_node_type(type: NodeType, module: str = "") -> None:
    """Look at everything that can be looked at without knowing what the type is for.

    `module` is the last part of the name of the module that it is alone in, if there is one.

    Raises:
        NotConforming: with all faults at once.
    """
    faults = faults_of(type, module)
    if faults:
        raise NotConforming(getattr(type, "name", "?"), faults)


def faults_of(type: NodeType, module: str = "") -> list[str]:
    """What `check_node_type` finds, as texts."""
    found: object = type
    if not isinstance(found, NodeType):
        return [f"it is an instance of NodeType; found {found!r}"]
    faults = list(_naming(type, module))
    settings: object = getattr(type, "Settings", None)
    if not inspect.isclass(settings) or not issubclass(settings, msgspec.Struct):
        return [*faults, "Settings: it is a subclass of msgspec.Struct"]
    for look in (_settings, _schema, _places, _checking, _doing):
        try:
            faults += look(type)
        except Exception as error:  # code under test, which may fail in any way
            faults.append(f"{look.__name__.strip('_')}: {error.__class__.__name__}: {error}")
    return faults


def _naming(type: NodeType, module: str) -> Iterator[str]:
    name: object = getattr(type, "name", "")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        yield f"name: lower case letters, digits and '_'; found {name!r}"
    elif name in NODE_KEYS:
        yield f"name: {name!r} is a key that every node may have"
    if module and module.removesuffix("_") != name:
        yield f"name: the file's name is the type's; found {name!r} in {module}.py"
    if not type.summary.endswith(".") or "\n" in type.summary or len(type.summary) > LONGEST_SUMMARY:
        yield f"summary: one sentence of at most {LONGEST_SUMMARY} characters, with a full stop; found {type.summary!r}"
    if type.kind not in get_args(Kind):
        yield f"kind: one of {', '.join(get_args(Kind))}; found {type.kind!r}"
    elif type.kind not in OPEN_KINDS and not type.__class__.__module__.startswith("stepwell.nodes."):
        yield f"kind: types of other packages are {' or '.join(OPEN_KINDS)}; found {type.kind!r}"
    text = inspect.getdoc(type.__class__) or ""
    for section in SECTIONS:
        if not re.search(rf"^{section}", text, re.MULTILINE):
            yield f"docstring: it has no line that begins with {section!r}"
    yield from _example(type, text)


def _example(type: NodeType, text: str) -> Iterator[str]:
    """The example is YAML, and has a node of the type."""
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    if block is None:
        yield "docstring: the example is a block of ```yaml"
        return
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]  # its types may be installed or not
    except ImportError:
        return
    try:
        nodes = yaml.safe_load(inspect.cleandoc(block[1]))
    except yaml.YAMLError as error:
        yield f"docstring: the example is no YAML: {error}"
        return
    if type.name not in set(_keys(nodes)):
        yield f"docstring: the example has no node of the type {type.name!r}"


def _keys(found: Any) -> Iterator[object]:  # Any: JSON
    if isinstance(found, Mapping):
        yield from found
        for one in found.values():
            yield from _keys(one)
        yield found.get("type")
    elif isinstance(found, list):
        for one in found:
            yield from _keys(one)


def _settings(type: NodeType) -> Iterator[str]:
    for struct in structs(type.Settings):
        place = "Settings" if struct is type.Settings else f"Settings ({struct.__name__})"
        if not struct.__struct_config__.forbid_unknown_fields:
            yield f"{place}: forbid_unknown_fields=True, or a misspelt setting is silently nothing"
        if not struct.__struct_config__.frozen:
            yield f"{place}: frozen=True, because plans share it"
        told = set(reading.explained_of(struct))
        fields = set(struct.__struct_encode_fields__)
        for name in sorted(fields - told):
            yield f"{place}: {name!r} is not explained under `Attributes:` in the docstring"
        for name in sorted(told - fields):
            yield f"{place}: {name!r} is explained, but there is no such setting"
    if not type.Settings.__struct_fields__ and not type.bodies and type.main:
        yield f"main: there are no settings; found {type.main!r}"


def _schema(type: NodeType) -> Iterator[str]:
    made = reading.schema(type)
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(made)
    for sample in samples(type.Settings):
        error = next(iter(validator.iter_errors(sample)), None)
        if error is not None:
            yield f"schema: it refuses {sample}: {error.message}"
    everything = {name: "{{ input.x }}" for name in reading.names(type) if name not in type.raw}
    for error in validator.iter_errors(everything):
        if list(error.instance_path):
            yield f"schema: it refuses a template: {error.message}"
    if validator.is_valid({"no_such_setting": 1}):
        yield "schema: it takes a setting that there is not"


def _places(type: NodeType) -> Iterator[str]:
    names = reading.names(type)
    known = {*names, *type.bodies}
    if type.main and type.main not in known:
        yield f"main: one of {', '.join(sorted(known)) or 'none'}; found {type.main!r}"
    if not type.main and known:
        yield f"main: which of {', '.join(sorted(known))} does a value after the type's name stand for?"
    for name in type.raw:
        if name not in names:
            yield f"raw: {name!r} is no setting"
    for name in reading.required(type):
        if name not in names:
            yield f"{name!r} is required, and no setting"
    for sample in ({}, *samples(type.Settings)):
        yield from _ports(type, type.ports_of(sample))
    yield from _ports(type, type.ports)


def _ports(type: NodeType, ports: Any) -> Iterator[str]:  # Any: whatever it gives
    if not isinstance(ports, tuple) or not all(isinstance(one, str) for one in ports):
        yield f"ports: a tuple of names; found {ports!r}"
        return
    if len(set(ports)) != len(ports):
        yield f"ports: each once; found {ports}"
    for port in ports:
        if not port or ":" in port or not port.isprintable():
            yield f"ports: a name has no ':' and no control characters; found {port!r}"
    if ERROR in ports:
        yield f"ports: every node has {ERROR!r}; it is not named"


def _checking(type: NodeType) -> Iterator[str]:
    """Whatever is written in a definition is looked at without falling over, and what is said has a place."""
    templates = dict.fromkeys(reading.names(type), "{{ input.x }}")
    odd = [dict.fromkeys(reading.names(type), one) for one in (None, True, -1, "", [], {}, [None], {"": None})]
    for given in ({}, templates, *odd, *samples(type.Settings)):
        before = copy.deepcopy(given)
        said: list[tuple[Any, Any]] = []  # Any: whatever it says
        try:
            type.check(given, lambda setting, message: said.append((setting, message)))  # noqa: B023  # called at once
            found = type.references(given)
        except Exception as error:
            yield f"check or references fail on {given}: {error.__class__.__name__}: {error}"
            continue
        if given != before:
            yield f"check or references change the settings {before}"
        if not all(isinstance(one, Reference) for one in found):
            yield f"references: a list of expressions.names.Reference; found {found}"
        for setting, message in said:
            root = re.split(r"[.\[]", str(setting))[0]
            if root not in {*reading.names(type), *type.bodies} or not isinstance(message, str) or not message:
                yield f"check: it says {message!r} of {setting!r}, which is no setting"
    try:
        reading.read(type, {"no_such_setting": 1})
    except DefinitionError as error:
        if "no_such_setting" not in str(error) and not reading.required(type):
            yield f"Settings: an unknown setting is not named: {error}"
    else:
        yield "Settings: an unknown setting is taken"


def _doing(type: NodeType) -> Iterator[str]:
    kind = type.__class__
    if type.kind == "action":
        if kind.run is NodeType.run:
            yield "run: an action has one"
        elif not asyncio.iscoroutinefunction(kind.run):
            yield "run: it is an async function"
    if type.kind != "pure":
        return
    if kind.evaluate is NodeType.evaluate:
        yield "evaluate: a pure type has one"
        return
    for sample in samples(type.Settings):
        yield from _evaluating(type, sample)


def _evaluating(type: NodeType, sample: dict[str, Any]) -> Iterator[str]:  # Any: JSON
    """The same twice: an outcome, or an error of ours."""
    made = reading.read(type, sample)
    before = msgspec.to_builtins(made)
    first, second = (_outcome(lambda: type.evaluate(made, MappingNames(copy.deepcopy(NAMES)))) for _ in range(2))
    if first != second:
        yield f"evaluate: not the same twice for {sample}: {first} and {second}"
    if msgspec.to_builtins(made) != before:
        yield f"evaluate: it changes its settings {sample}"
    if isinstance(first, str):
        if not first.startswith("StepwellError"):
            yield f"evaluate: on {sample} it raises what is no StepwellError: {first}"
        return
    if not hasattr(first, "ports"):
        yield f"evaluate: it gives a Routed; found {first!r}"
        return
    ports = type.ports_of(sample)
    if not set(first.ports) <= set(ports):
        yield f"evaluate: it leaves by {first.ports}, and ports_of says {ports}"
    if _round_trip(first.output) != first.output:
        yield f"evaluate: its output is no plain JSON: {first.output!r}"


def _outcome(call: Callable[[], Routed]) -> Routed | str:
    try:
        return call()
    except StepwellError as error:
        return f"StepwellError {error.__class__.__name__}: {error}"
    except Exception as error:
        return f"{error.__class__.__name__}: {error}"


def _round_trip(output: object) -> object:
    found: object = msgspec.json.decode(msgspec.json.encode(output))
    return found
