"""The node type `human`: a question to people, and a wait for their answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.expressions.texts import is_template
from stepwell.nodes.parts.times import check_duration
from stepwell.nodes.protocol import TIMEOUT, NodeType


class HumanSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked, whom, and how long.

    Attributes:
        prompt: the question.
        form: the JSON Schema of an answer; without one, any JSON is an answer.
        who: who may answer, a name or a list of names; nobody named: anybody.
        quorum: how many different people must answer; the output is then the list of their answers.
        agree: with a quorum, only answers in which this boolean field is true count (`.`: the answer itself); the
            question also ends when so many have disagreed that the quorum is out of reach.
        timeout: a duration after which the node is left by `timeout`, or fails when that is not wired.
        reminders: durations after which an event reminds of the question.
    """

    prompt: str
    form: Any = None  # Any: JSON Schema
    who: str | list[str] = []
    quorum: int | None = None
    agree: str = ""
    timeout: str | int | float | None = None
    reminders: list[str | int | float] = []


class HumanNode(NodeType):
    """Asks people, and waits for their answer however long it takes; until then the question is in the inbox.

    An answer that does not fit the form is refused and the question stays open.

    Ports: `out`, `timeout`; `error` when the question was withdrawn.
    Output: the answer; with `quorum` a list of `{value, by, at}`.

    Example:
        ```yaml
        review:
          human:
            prompt: "Publish {{ each.succeeded }} pictures?"
            form: {type: object, required: [publish], properties: {publish: {type: boolean}}}
            who: [ann, bob]
            timeout: 2d
        export: {task: export, inputs: {decision: "{{ review }}"}, needs: review}
        ```
    """

    name = "human"
    summary = "Ask people, and wait for their answer."
    kind = "wait"
    Settings = HumanSettings
    main = "prompt"
    ports = (TIMEOUT,)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """Times are durations, the form is a mapping, and the quorum can be reached."""
        check_duration(settings.get("timeout"), "timeout", say)
        reminders = settings.get("reminders")
        for index, one in enumerate(reminders if isinstance(reminders, list) else []):
            check_duration(one, f"reminders[{index}]", say)
        form, quorum, who = (settings.get(name) for name in ("form", "quorum", "who"))
        if form is not None and not isinstance(form, dict | bool) and not is_template(form):
            say("form", "a form is a JSON Schema, such as {type: object, properties: {publish: {type: boolean}}}")
        if isinstance(quorum, int) and quorum < 1:
            say("quorum", f"found {quorum}; give the number of people who must answer, at least 1")
        elif isinstance(quorum, int) and isinstance(who, list) and 0 < len(who) < quorum:
            say("quorum", f"found {quorum}, but only {len(who)} people are asked")
        if settings.get("agree") and quorum is None:
            say("agree", "agreement is counted where there is a `quorum`: say how many must agree")


TYPE = HumanNode()
