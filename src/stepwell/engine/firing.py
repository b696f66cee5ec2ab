"""What does a trigger start? The run of one occasion, made of what the trigger's row says."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from stepwell.authoring.workflow import Workflow
from stepwell.engine.creation import Terms, new_run
from stepwell.errors import ArgumentError, StepwellError
from stepwell.expressions import logic
from stepwell.model import cloudevents
from stepwell.model.entries import INLINE_LIMIT, NO_PAYLOAD, NULL
from stepwell.stores.protocol import NewRun
from stepwell.stores.tables import Event, Firing, TriggerRow
from stepwell.triggers.schedule import Schedule

SCHEDULE: Final = "schedule"
EVENT: Final = "event"
WEBHOOK: Final = "webhook"
BACKFILL: Final = "backfill"
"""What a firing's note begins with when it was filled in for the past; it does not count as the one before."""


class RunTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the runs of a trigger are started; its row's `options` as JSON.

    `version` is the workflow's when the trigger was made, for engines that do not know the workflow; `deadline` in
    microseconds from the firing. `deployed` says that the trigger stands in the workflow's definition.
    """

    version: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    queue: str = ""
    queue_key: str = ""
    deadline: int | None = None
    deployed: bool = False


class WebhookRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """At which path a server listens for a trigger of that kind; the row's `spec` as JSON.

    `secret` says where the secret is found that callers must know: `env.NAME` or `secret.NAME`. `template` is the input
    as JSON with templates; null: the request's body.
    """

    path: str
    secret: str = ""
    template: msgspec.Raw = NULL


class EventRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which events start runs, and with what input; the row's `spec` as JSON.

    An event of `topic` for which `where` (JSONLogic, over its CloudEvents envelope) holds starts one. Its input is the
    envelope, or only its data (`data`), as the argument `parameter`; or what the rules of `map` give, by parameter. For
    graphs, whose input is one object, its data is the input (`whole`), or what `template` gives, in which `event` is
    the envelope.
    """

    topic: str
    where: msgspec.Raw = NULL
    parameter: str = ""
    data: bool = False
    map: dict[str, msgspec.Raw] = {}
    whole: bool = False
    template: msgspec.Raw = NULL

    def fits(self, event: Event) -> bool:
        """Whether this event of the topic starts a run.

        Raises:
            DefinitionError: the rule fails on it.
        """
        return bytes(self.where) == logic.NO_RULE or logic.rule(bytes(self.where)).holds(event.body)

    def input(self, event: Event) -> msgspec.Raw:
        """The input that the event gives.

        Raises:
            DefinitionError: a rule of the map fails on it.
        """
        if self.whole:
            return self._whole(event)
        if self.map:
            given = {name: msgspec.Raw(logic.rule(bytes(rule)).value(event.body)) for name, rule in self.map.items()}
        elif self.parameter:
            value = cloudevents.read(event.body).payload if self.data else msgspec.Raw(event.body)
            given = {self.parameter: value}
        else:
            given = {}
        return msgspec.Raw(msgspec.json.encode(given))

    def _whole(self, event: Event) -> msgspec.Raw:
        payload = cloudevents.read(event.body).payload
        if bytes(self.template) == bytes(NULL):
            return msgspec.Raw(b"{}") if bytes(payload) == bytes(NULL) else payload
        from stepwell.expressions.names import MappingNames  # loaded when there is such a rule
        from stepwell.expressions.templates import compile_value

        names = MappingNames({"event": msgspec.json.decode(event.body)})
        return msgspec.Raw(msgspec.json.encode(compile_value(msgspec.json.decode(self.template)).render(names)))

    def told(self, event: Event) -> msgspec.Raw:
        """What the run is told of the event besides its input; its data only where that is not the input."""
        if not self.whole:
            return NO_PAYLOAD
        envelope = msgspec.json.decode(event.body)
        told = {key: envelope[key] for key in _TOLD if key in envelope}
        if bytes(self.template) != bytes(NULL):
            told["data"] = envelope.get("data") if len(event.body) <= INLINE_LIMIT else None
        return msgspec.Raw(msgspec.json.encode(told))


_TOLD: Final = ("id", "source", "type", "time", "subject")


def schedule_of(trigger: TriggerRow) -> Schedule:
    """The schedule that a trigger of that kind has."""
    return msgspec.json.decode(trigger.spec, type=Schedule)


def rule_of(trigger: TriggerRow) -> EventRule:
    """The rule that a trigger for events has."""
    return msgspec.json.decode(trigger.spec, type=EventRule)


def fired(
    trigger: TriggerRow,
    key: str,
    occasion: int,
    *,
    now: int,
    chance: Random,
    workflow: Workflow[..., Any] | None,  # Any: whatever it returns
    data: msgspec.Raw | None = None,
    event: msgspec.Raw = NO_PAYLOAD,
    note: str = "",
    by: str = "",
) -> tuple[Firing, NewRun]:
    """A firing and the run that it starts; `key` is the run's id too.

    `workflow` is None in a process that does not know it: the run then waits, pending, for one that does. `data` is
    the input when it is not the trigger's own, `event` what the run is told of the event that gave it.

    Raises:
        ArgumentError: the input does not fit the workflow, or the key is no run id.
    """
    terms = msgspec.json.decode(trigger.options, type=RunTerms)
    if data is None:
        data = msgspec.Raw(trigger.input)
    elif workflow is not None:
        data = workflow.codec.parse(bytes(data))
    run = new_run(
        Terms(
            id=key,
            workflow=trigger.workflow,
            version=terms.version if workflow is None else workflow.version,
            priority=terms.priority,
            labels=terms.labels,
            by=by or f"trigger {trigger.name}",
            queue=terms.queue,
            queue_key=terms.queue_key,
            deadline=None if terms.deadline is None else now + terms.deadline,
            trigger=trigger.name,
            event=event,
        ),
        data,
        now=now,
        chance=chance,
    )
    return Firing(trigger=trigger.name, key=key, occasion=occasion, at=now, run_id=key, note=note), run


def fired_by_event(
    trigger: TriggerRow, event: Event, *, now: int, chance: Random, workflow: Workflow[..., Any] | None, note: str
) -> tuple[Firing, NewRun] | Firing | None:  # Any: whatever it returns
    """What an event of the trigger's topic causes: a run, nothing, or a firing that says why it starts none."""
    rule, key = rule_of(trigger), f"{trigger.name}@{event.position}"
    try:
        if not rule.fits(event):
            return None
        data, told = rule.input(event), rule.told(event)
        return fired(
            trigger, key, event.at, now=now, chance=chance, workflow=workflow, data=data, event=told, note=note
        )
    except ArgumentError as error:
        said = f"event {event.id!r} does not fit the workflow: {error}"
    except StepwellError as error:
        said = f"event {event.id!r}: {error}"
    return Firing(trigger=trigger.name, key=key, occasion=event.at, at=now, note=said)
