"""What does a definition say besides its nodes? Names, schemas, variables, what may be read, how runs are started.

Triggers are stored as they are written, checked for form, durations as text: one of `{schedule: cron line, timezone,
start, end, jitter, catch_up, grace, overlap}`, `{event: topic, where: rule}` and `{webhook: /path, secret: env.NAME}`,
each with `name` (text) and `input` (JSON with templates) if they were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from stepwell.graph.definition import Definition
from stepwell.graph.form import Form, Json
from stepwell.graph.options import Check, priority, retry, timeout
from stepwell.graph.places import Places
from stepwell.graph.problems import Place

FORMAT: Final = 1
"""The version of the format: the value of the key `stepwell`."""

KEYS: Final = (
    *("stepwell", "id", "label", "title", "description", "input", "output", "result", "vars", "env", "secrets"),
    *("labels", "on_failure", "deadline", "queue", "concurrency", "priority", "defaults", "triggers", "ui"),
    *("nodes", "edges"),
)
"""What a definition may say, in canonical order."""

OPTIONS: Final = ("deadline", "queue", "concurrency", "priority", "defaults")
"""Those of them that `Definition.options` holds."""

SCHEDULE: Final = ("schedule", "timezone", "start", "end", "jitter", "catch_up", "grace", "overlap", "name", "input")
EVENT: Final = ("event", "where", "name", "input")
WEBHOOK: Final = ("webhook", "secret", "name", "input")
CATCH_UP: Final = ("skip", "one", "all")
OVERLAP: Final = ("skip", "queue", "cancel", "allow")
ON_FAILURE: Final = ("drain", "cancel")

ID: Final = r"^[A-Za-z_][A-Za-z0-9_-]{0,199}$"
NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,199}$"
PATH: Final = r"^/[A-Za-z0-9._~/{}-]*$"
SECRET: Final = r"^(env|secret)\.[A-Za-z_][A-Za-z0-9_]*$"

_LABEL: Final = re.compile(r"[^\x00-\x20\x7f]{1,100}")


def head(form: Form, given: Mapping[str, Json], places: Places) -> Definition:
    """A definition without its body."""
    fields: dict[str, Any] = {"id": _id(form, given, places), "places": _places(given, places)}
    for key, check in _CHECKS.items():
        if given.get(key) is not None:
            value = check(form, given[key], places.of(key))
            if value is not None:
                fields[key] = value
    if "result" in given:
        fields |= {"result": given["result"], "has_result": True}
    return Definition(**fields, options=_options(form, given, places))


def _places(given: Mapping[str, Json], places: Places) -> dict[str, Place]:
    found = {"": places.place}
    for key, value in given.items():
        at = places.of(key)
        found[key] = at.place
        if key in ("vars", "defaults", "labels") and isinstance(value, dict):
            found |= {f"{key}.{name}": at.of(name).place for name in value}
        elif key in ("triggers", "env", "secrets") and isinstance(value, list):
            found |= {f"{key}.{index}": at.of(index).place for index in range(len(value))}
    return found


def _id(form: Form, given: Mapping[str, Json], places: Places) -> str:
    if "id" not in given:
        form.say("missing-key", places, "the definition needs an id, the workflow's name", "write id: my-workflow")
        return ""
    at = places.of("id")
    text = form.text(given["id"], at, "id")
    if text is not None and not re.match(ID, text):
        message = "id must have up to 200 letters, digits, - and _, and begin with a letter or _"
        form.wrong(text, at, message, code="wrong-id")
        return ""
    return text or ""


def _options(form: Form, given: Mapping[str, Json], places: Places) -> dict[str, Json]:
    checks: dict[str, Check] = {
        "deadline": lambda form, value, at: form.duration(value, at, "deadline"),
        "queue": lambda form, value, at: form.text(value, at, "queue"),
        "concurrency": lambda form, value, at: form.whole(value, at, "concurrency"),
        "priority": priority,
        "defaults": _defaults,
    }
    if given.get("queue") is not None and given.get("concurrency") is not None:
        message = "a definition has a queue or a concurrency: its runs wait in one queue"
        form.say("wrong-value", places.of("concurrency"), message, "give the queue that concurrency")
    found = {key: checks[key](form, given[key], places.of(key)) for key in OPTIONS if given.get(key) is not None}
    return {key: value for key, value in found.items() if value is not None}


def _defaults(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    given = form.mapping(value, places, "defaults")
    if given is None:
        return None
    form.known(given, places, "defaults", ("retry", "timeout"))
    found = {}
    for key, check in (("retry", retry), ("timeout", timeout)):
        if key in given and (one := check(form, given[key], places.of(key))) is not None:
            found[key] = one
    return found or None


def _vars(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    given = form.mapping(value, places, "vars")
    for name in given or ():
        if not name.strip():
            form.say("wrong-value", places.of(name), "a variable needs a name")
    return given


def _names(form: Form, value: Json, places: Places, what: str) -> tuple[str, ...]:
    found = form.texts(value, places, what) or []
    for index, name in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(name, str) and name.strip() and not re.match(NAME, name):
            at = places.of(index) if isinstance(value, list) else places
            form.wrong(
                name, at, f"{what}: a name has letters, digits and _, and begins with no digit", code="wrong-name"
            )
    return tuple(found)


def _labels(form: Form, value: Json, places: Places) -> dict[str, str] | None:
    given = form.mapping(value, places, "labels")
    if given is None:
        return None
    texts = {name: form.text(one, places.of(name), "a label", empty=True) for name, one in given.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _label(form: Form, value: Json, places: Places) -> str | None:
    text = form.text(value, places, "label")
    if text is not None and not _LABEL.fullmatch(text):
        form.wrong(text, places, "label must have up to 100 characters, and no spaces")
        return None
    return text


def _triggers(form: Form, value: Json, places: Places) -> tuple[Json, ...]:
    items = form.listed(value, places, "triggers") or ()
    found = (_trigger(form, item, places.of(index)) for index, item in enumerate(items))
    return tuple(one for one in found if one is not None)


def _trigger(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    given = form.mapping(value, places, "a trigger")
    if given is None:
        return None
    kinds = [key for key in _TRIGGERS if key in given]
    if len(kinds) != 1:
        message = f"a trigger has one of schedule, event and webhook; found {' and '.join(kinds) or 'none'}"
        form.say("wrong-trigger", places, message, "write {schedule: 0 6 * * *}, {event: topic} or {webhook: /path}")
        return None
    known = _TRIGGERS[kinds[0]]
    form.known(given, places, f"a trigger of the kind {kinds[0]}", known)
    found = {key: _trigger_key(form, key, given[key], places.of(key)) for key in known if key in given}
    return {key: one for key, one in found.items() if one is not None}


def _trigger_key(form: Form, key: str, value: Json, places: Places) -> Json:
    match key:
        case "input":
            return value
        case "where":
            return value if form.condition(value, places, key) else None
        case "jitter" | "grace":
            return form.duration(value, places, key)
        case "catch_up":
            return form.choice(value, places, key, CATCH_UP)
        case "overlap":
            return form.choice(value, places, key, OVERLAP)
    text = form.text(value, places, key)
    if text is not None and key == "webhook" and not re.match(PATH, text):
        form.wrong(text, places, "webhook must be a path that begins with /", code="wrong-trigger")
        return None
    if text is not None and key == "secret" and not re.match(SECRET, text):
        message = "secret must say where it is found: env.NAME or secret.NAME"  # what stands here may be one: not shown
        form.say("wrong-trigger", places, message, "secrets do not stand in definitions")
        return None
    return text


_TRIGGERS: Final = {"schedule": SCHEDULE, "event": EVENT, "webhook": WEBHOOK}
_CHECKS: Final[dict[str, Check]] = {
    "label": _label,
    "title": lambda form, value, at: form.text(value, at, "title", empty=True),
    "description": lambda form, value, at: form.text(value, at, "description", empty=True),
    "input": lambda form, value, at: form.schema(value, at, "input"),
    "output": lambda form, value, at: form.schema(value, at, "output"),
    "vars": _vars,
    "env": lambda form, value, at: _names(form, value, at, "env"),
    "secrets": lambda form, value, at: _names(form, value, at, "secrets"),
    "triggers": _triggers,
    "labels": _labels,
    "on_failure": lambda form, value, at: form.choice(value, at, "on_failure", ON_FAILURE),
    "ui": lambda form, value, at: value,
}
