"""Which triggers does a definition stand for? Those that it lists, as rows of the store, named `<workflow>/<n>`.

They are put when a version begins to serve new runs, in place of those of the version before, and are removed with the
workflow. A trigger with a `name` is called `<workflow>/<name>`. Webhooks are only kept here: a server answers them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepwell.engine.firing import EVENT, SCHEDULE, WEBHOOK, EventRule, RunTerms, WebhookRule
from stepwell.errors import ArgumentError, DefinitionError
from stepwell.expressions import logic
from stepwell.expressions.templates import compile_value
from stepwell.graph.problems import Findings, Place
from stepwell.model.checking import check
from stepwell.model.entries import NULL
from stepwell.stores.tables import TriggerRow
from stepwell.triggers.schedule import Schedule, schedule

if TYPE_CHECKING:
    from stepwell.graph.definition import Definition, Json

_LONGEST: Final = 160
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:#/~+=@-]*")
_EVERY: Final = re.compile(r"every\s+(.+)")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d")
_OF_SCHEDULES: Final = ("timezone", "start", "end", "jitter", "catch_up", "grace", "overlap")


class Standing(msgspec.Struct, frozen=True):
    """One trigger of a definition: its row but for the terms of its runs. `plan` is a schedule's."""

    row: TriggerRow
    plan: Schedule | None = None


def standing(definition: Definition, findings: Findings, by: str = "") -> list[Standing]:
    """The triggers of a definition; what is wrong with one is added to the findings, and it is left out."""
    found: dict[str, Standing] = {}
    for index, given in enumerate(definition.triggers):
        place = definition.places.get(f"triggers.{index}", Place(f"$.triggers[{index}]"))
        name = f"{definition.id}/{given.get('name') or index + 1}"
        if name in found:
            findings.add("wrong-trigger", place, f"two triggers are called {name!r}", "give one of them another name")
            continue
        try:
            found[name] = _made(name, definition, given, by)
        except (ArgumentError, DefinitionError) as error:
            findings.add("wrong-trigger", place, f"trigger {index + 1}: {error}")
            continue
        _look_at_input(definition, given, place, findings)
    return list(found.values())


def _made(name: str, definition: Definition, given: Mapping[str, Json], by: str) -> Standing:
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ArgumentError(f"its name {name[:200]!r} is not usable: up to {_LONGEST} letters, digits or _ . : # / ~ -")
    data = given.get("input")
    plan, body = None, b"{}"
    if "schedule" in given:
        plan = _schedule(name, definition, given)
        kind, spec = SCHEDULE, msgspec.json.encode(plan)
        if isinstance(data, dict):
            body = msgspec.json.encode(data, order="sorted")
        elif data is not None:
            raise ArgumentError("the input of a run is a mapping")
    elif "event" in given:
        template = NULL if data is None else _template(data)
        rule = EventRule(topic=given["event"], where=_where(given.get("where")), whole=True, template=template)
        kind, spec = EVENT, msgspec.json.encode(rule)
    else:
        rule_of_hook = WebhookRule(given["webhook"], given.get("secret") or "", NULL if data is None else _json(data))
        kind, spec = WEBHOOK, msgspec.json.encode(rule_of_hook)
    return Standing(TriggerRow(name=name, kind=kind, workflow=definition.id, spec=spec, input=body, by=by), plan)


def _schedule(name: str, definition: Definition, given: Mapping[str, Json]) -> Schedule:
    """A cron line, `every 15m`, or one moment."""
    text = str(given["schedule"]).strip()
    every = _EVERY.fullmatch(text)
    when: dict[str, Any] = {"cron": text}  # Any: options of `schedule`
    if every is not None:
        when = {"every": every[1]}
    elif _MOMENT.match(text):
        when = {"at": text}
    plan = schedule(name, **when, **{key: given[key] for key in _OF_SCHEDULES if key in given})
    options = definition.options
    if plan.overlap == "queue" and (options.get("queue") or options.get("concurrency")):
        raise ArgumentError("overlap: queue makes a queue of its own, and the workflow's runs have one; use allow")
    return plan


def _where(given: Json) -> msgspec.Raw:
    if given is None or given is True:
        return logic.written(None)
    if not isinstance(given, dict):
        raise ArgumentError(
            "where is JSONLogic over the event's envelope, such as {'==': [{var: data.kind}, new]}; "
            f"found {given!r:.100}"
        )
    return logic.written(given)


def _template(data: Json) -> msgspec.Raw:
    value = compile_value(data, "input")
    strangers = sorted({one.text for one in value.references if one.root != "event"})
    if strangers:
        raise ArgumentError(f"input: only `event` can be referred to in a trigger; found {', '.join(strangers)}")
    return _json(data)


def _json(data: Json) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data, order="sorted"))


def _look_at_input(definition: Definition, given: Mapping[str, Json], place: Place, findings: Findings) -> None:
    """Warn of a schedule whose runs could not use what they are given."""
    if "schedule" not in given:
        return
    data = given.get("input") or {}
    problems = [] if definition.input is None else check(definition.input, data)
    if problems:
        said = "; ".join(map(str, problems))
        message = f"the input of the runs that it starts does not fit the workflow's schema: {said}"
        findings.add("trigger-input", place, message, "give the trigger an input: {…}", warning=True)
    if "{{" in msgspec.json.encode(data).decode():
        message = "the input of a schedule is given as it is: templates in it are not filled in"
        findings.add("trigger-input", place, message, warning=True)


def is_standing(row: TriggerRow, workflow: str) -> bool:
    """Whether a trigger is one of those that this workflow's definition stands for."""
    return row.workflow == workflow and msgspec.json.decode(row.options, type=RunTerms).deployed


def strangers(rows: Sequence[TriggerRow], wanted: Sequence[Standing], workflow: str) -> list[str]:
    """The names among those wanted that are taken by triggers which somebody has made by hand."""
    names = {one.row.name for one in wanted}
    return [row.name for row in rows if row.name in names and not is_standing(row, workflow)]
