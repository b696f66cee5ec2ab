"""What may every node say besides its type's settings, and in which one form is it handed on?

`NodeDef.options` holds what was written, checked for form and brought into these shapes. A key that was not written, or
says no more than the default, is not there. A *duration* is text that `model.durations.micros` reads; a *template*
is text that is not compiled yet; an *id* names a node of the same body (whether it exists is for the compiler to say).

| option | shape |
|---|---|
| retry | `{attempts, first, backoff, max, jitter, only, never}`, those that were written: a whole number from 1, duration, number from 1 to 1,000, duration, boolean, list of error types, list of error types. `retry: 3` is `{"attempts": 3}` |
| timeout | `{attempt, total, heartbeat}`, those that were written, durations. `timeout: 30s` is `{"attempt": "30s"}` |
| on_error | `"continue"` or `"port"`; never `"fail"`, the default |
| cache | `{key, ttl}`, those that were written: any JSON with templates, duration. `cache: true` is `{}`; `false` is left out |
| concurrency | `{limit, key}`: a whole number from 1, and a template if one was written. `concurrency: 3` is `{"limit": 3}` |
| rate | text that `model.rates.rate` reads, such as `"10/s"` |
| priority | a whole number, not 0 |
| idempotency_key | template or text |
| mock | `{"error": text}`, or `{"output": any JSON with templates}` with `"port"` if it is not `out` |
| cancels | list of ids, at least one |
| completes | list of ids, at least one |
| milestone | `{after, before}`, those that were written, ids |
| critical | text: the name of a lock |
| split | a whole number from 2 |
| output | `{schema, retain}`, those that were written: a JSON Schema; `"used"`, `"run"` or `"none"` |
| delay | duration, or a template |

`compensate` is a body: it is `NodeDef.bodies["compensate"]`. `Definition.options` holds `deadline` (duration), `queue`
(text), `concurrency` (a whole number from 1), `priority` (not 0) and `defaults` (`{retry, timeout}` as above).
"""  # noqa: E501  # a table's row is a line

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from stepwell.errors import ArgumentError
from stepwell.graph.definition import JoinDef
from stepwell.graph.form import Form, Json, did_you_mean
from stepwell.graph.places import Places
from stepwell.model.rates import rate as read_rate

RETAIN: Final = ("used", "run", "none")
ON_ERROR: Final = ("fail", "continue", "port")
JOINS: Final = ("all", "all_strict", "any", "each", "general", "first")
REST: Final = ("ignore", "block", "cancel")
LOWEST: Final = -1_000_000
"""The least priority; the greatest is as far from 0."""

Check = Callable[[Form, Json, Places], Json]


def node_options(form: Form, given: Mapping[str, Json], places: Places) -> dict[str, Json]:
    """The options among a node's keys, in their canonical shapes and in the order of `OPTIONS`."""
    found = {}
    for name, check in OPTIONS.items():
        if name in given:
            value = check(form, given[name], places.of(name))
            if value is not None:
                found[name] = value
    return found


def retry(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    """`retry`, of a node or of the defaults."""
    if isinstance(value, int) and not isinstance(value, bool):
        attempts = form.whole(value, places, "retry", 1)
        return None if attempts is None else {"attempts": attempts}
    if not isinstance(value, dict):
        message = "retry must be a number of attempts, or a mapping with attempts, first, backoff and others"
        form.wrong(value, places, message)
        return None
    form.known(value, places, "retry", _RETRY)
    checked = {name: check(form, value[name], places.of(name)) for name, check in _RETRY.items() if name in value}
    return {name: one for name, one in checked.items() if one is not None and one != []}


def timeout(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    """`timeout`, of a node or of the defaults."""
    if not isinstance(value, dict):
        text = form.duration(value, places, "timeout")
        return None if text is None else {"attempt": text}
    return _durations(form, value, places, "timeout", ("attempt", "total", "heartbeat"))


def join(form: Form, value: Json, places: Places) -> JoinDef:
    """`join`, when a node with several in-edges runs."""
    match value:
        case "first":
            return JoinDef(kind="first", count=1)
        case "threads" | "when":
            form.wrong(value, places, f"join: {value} needs {'a number' if value == 'threads' else 'a condition'}")
        case str() if value in JOINS:
            return JoinDef(kind=value)  # type: ignore[arg-type]  # one of the kinds
        case {"first": count}:
            form.known(value, places, "join", ("first", "rest"))
            rest = form.choice(value.get("rest", "ignore"), places.of("rest"), "rest", REST)
            number = form.whole(count, places.of("first"), "first")
            return JoinDef(kind="first", count=number or 1, rest=rest or "ignore")  # type: ignore[arg-type]  # as above
        case {"when": condition}:
            form.known(value, places, "join", ("when",))
            form.condition(condition, places.of("when"), "when")
            return JoinDef(kind="when", when=condition)
        case {"threads": count}:
            form.known(value, places, "join", ("threads",))
            return JoinDef(kind="threads", count=form.whole(count, places.of("threads"), "threads") or 1)
        case _:
            message = f"join must be one of {', '.join(JOINS)}, or a mapping with first, when or threads"
            form.wrong(value, places, message, did_you_mean(value, JOINS))
    return JoinDef()


def priority(form: Form, value: Json, places: Places) -> int | None:
    """`priority`, of a node or of runs; None for the default."""
    return form.whole(value, places, "priority", LOWEST, -LOWEST) or None


def _factor(form: Form, value: Json, places: Places) -> int | float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    form.wrong(value, places, "backoff must be a number from 1 to 1,000")
    return None


def _on_error(form: Form, value: Json, places: Places) -> str | None:
    found = form.choice(value, places, "on_error", ON_ERROR)
    return None if found == "fail" else found


def _cache(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict):
        form.wrong(value, places, "cache must be true, false, or a mapping with key and ttl")
        return None
    form.known(value, places, "cache", ("key", "ttl"))
    found = {"key": value["key"]} if value.get("key") is not None else {}
    if "ttl" in value:
        ttl = form.duration(value["ttl"], places.of("ttl"), "ttl")
        found |= {"ttl": ttl} if ttl is not None else {}
    return found


def _concurrency(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    if not isinstance(value, dict):
        limit = form.whole(value, places, "concurrency")
        return None if limit is None else {"limit": limit}
    form.known(value, places, "concurrency", ("limit", "key"))
    if "limit" not in value:
        form.say("missing-key", places, "concurrency needs a limit", "write {limit: 1, key: …}")
        return None
    found: dict[str, Json] = {"limit": form.whole(value["limit"], places.of("limit"), "limit")}
    if "key" in value:
        found["key"] = form.text(value["key"], places.of("key"), "key")
    return found


def _rate(form: Form, value: Json, places: Places) -> str | None:
    try:
        read_rate(value, "rate")
    except ArgumentError:
        form.wrong(value, places, "rate must say how many per how long, such as 10/s or 50/1m")
        return None
    return str(value).strip()


def _mock(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    given = form.mapping(value, places, "mock")
    if given is None:
        return None
    form.known(given, places, "mock", ("output", "error", "port"))
    if "error" in given:
        if len(given) > 1 and given.keys() <= {"output", "error", "port"}:
            form.say("wrong-value", places, "mock gives an error, or an output: not both", "take one away")
        text = form.text(given["error"], places.of("error"), "error")
        return None if text is None else {"error": text}
    if not given:
        form.say("missing-key", places, "mock needs an output, an error, or a port", "write {output: …}")
        return None
    port = form.text(given.get("port", "out"), places.of("port"), "port") or "out"
    return {"output": given.get("output"), **({"port": port} if port != "out" else {})}


def _ids(name: str) -> Check:
    def check(form: Form, value: Json, places: Places) -> list[str] | None:
        return form.texts(value, places, name) or None

    return check


def _milestone(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    given = form.mapping(value, places, "milestone")
    if given is None:
        return None
    form.known(given, places, "milestone", ("after", "before"))
    if not given:
        form.say("missing-key", places, "milestone needs after or before", "write {after: node}")
        return None
    return {key: form.text(given[key], places.of(key), key) for key in ("after", "before") if key in given}


def _split(form: Form, value: Json, places: Places) -> int | None:
    number = form.whole(value, places, "split")
    return None if number == 1 else number


def _output(form: Form, value: Json, places: Places) -> dict[str, Json] | None:
    given = form.mapping(value, places, "output")
    if given is None:
        return None
    form.known(given, places, "output", ("schema", "retain"))
    found = {}
    if "schema" in given:
        found["schema"] = form.schema(given["schema"], places.of("schema"), "schema")
    if "retain" in given:
        found["retain"] = form.choice(given["retain"], places.of("retain"), "retain", RETAIN)
    return {key: one for key, one in found.items() if one is not None} or None


def _text(name: str) -> Check:
    return lambda form, value, places: form.text(value, places, name)


def _duration(name: str, *, template: bool = False) -> Check:
    return lambda form, value, places: form.duration(value, places, name, template=template)


def _durations(
    form: Form, given: dict[str, Json], places: Places, what: str, names: tuple[str, ...]
) -> dict[str, Json] | None:
    form.known(given, places, what, names)
    found = {name: form.duration(given[name], places.of(name), name) for name in names if name in given}
    return {name: one for name, one in found.items() if one is not None} or None


_RETRY: Final[dict[str, Check]] = {
    "attempts": lambda form, value, places: form.whole(value, places, "attempts"),
    "first": _duration("first"),
    "backoff": _factor,
    "max": _duration("max"),
    "jitter": lambda form, value, places: form.flag(value, places, "jitter"),
    "only": lambda form, value, places: form.texts(value, places, "only"),
    "never": lambda form, value, places: form.texts(value, places, "never"),
}

OPTIONS: Final[dict[str, Check]] = {
    "retry": retry,
    "timeout": timeout,
    "on_error": _on_error,
    "cache": _cache,
    "concurrency": _concurrency,
    "rate": _rate,
    "priority": priority,
    "idempotency_key": _text("idempotency_key"),
    "mock": _mock,
    "cancels": _ids("cancels"),
    "completes": _ids("completes"),
    "milestone": _milestone,
    "critical": _text("critical"),
    "split": _split,
    "output": _output,
    "delay": _duration("delay", template=True),
}
"""The options of a node by name, in canonical order, each with its check."""
