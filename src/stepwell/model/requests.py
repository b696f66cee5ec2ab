"""What waits need to say beyond a name and a time: input requests to people, and subscriptions to events."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from stepwell.model.codec import content_hash
from stepwell.model.entries import NULL
from stepwell.model.ids import StepPath

T = TypeVar("T")


class InputSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an input request asks and of whom.

    `schema` is the JSON Schema of an answer. `who` may answer (empty: anybody). `quorum` different people must answer
    (0: one answer ends it); with `agree`, the name of a boolean field of an answer (`"."`: the answer itself), only
    answers in which it is true count, and the request also ends when so many have disagreed that the quorum is out of
    reach. `reminders` are times after asking, in microseconds, ascending.
    """

    prompt: str
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    who: tuple[str, ...] = ()
    quorum: int = 0
    agree: str = ""
    reminders: tuple[int, ...] = ()


class EventSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which events of its topic satisfy a wait.

    `where` is a JSONLogic rule over the event's CloudEvents envelope (`null`: all). Persistent events count from
    `since` on (microseconds; 0: from the creation of the run), transient ones only while the wait is open.
    """

    where: msgspec.Raw = NULL
    since: int = 0

    def subscription(self, topic: str) -> str:
        """The subscription that waits with this topic, filter and `since` share: each event satisfies one of them."""
        if not self.since and bytes(self.where) == b"null":
            return topic
        return f"{topic}~{content_hash(bytes(self.where) + f'@{self.since}'.encode())[:16]}"


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """One person's answer to a request that asked several: `at` in microseconds."""

    value: T
    by: str
    at: int


class InputRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An open question to people, as the inbox shows it. Times in microseconds; `due` is the deadline, if any.

    `path` is the readable path of the step that waits, `step` the same as the journal has it.
    """

    id: str
    run_id: str
    workflow: str
    path: str
    step: StepPath
    prompt: str
    schema: dict[str, Any]  # Any: JSON
    who: tuple[str, ...] = ()
    quorum: int = 0
    agree: str = ""
    answers: tuple[tuple[str, int], ...] = ()
    asked_at: int = 0
    due: int | None = None


_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def request_id(run_id: str, path: StepPath) -> str:
    """The id under which an open wait is found from outside: 10 characters, the same whenever it is asked."""
    number = int(content_hash(f"{run_id}\n{path}".encode())[:14], 16)
    digits = []
    for _ in range(10):
        number, digit = divmod(number, 32)
        digits.append(_DIGITS[digit])
    return "".join(digits)


def read_input_spec(spec: msgspec.Raw) -> InputSpec:
    """The `InputSpec` of a recorded wait."""
    return msgspec.json.decode(spec, type=InputSpec)


def read_event_spec(spec: msgspec.Raw) -> EventSpec:
    """The `EventSpec` of a recorded wait."""
    return msgspec.json.decode(spec, type=EventSpec)


def is_settled(spec: InputSpec, answers: list[tuple[str, bytes]]) -> bool:
    """Whether these answers, `(by, JSON)` in order, end the request."""
    if not spec.quorum:
        return bool(answers)
    if not spec.agree:
        return len(answers) >= spec.quorum
    agreed = sum(agrees(spec.agree, data) for _, data in answers)
    still_to_come = len(set(spec.who) - {by for by, _ in answers})
    return agreed >= spec.quorum or (bool(spec.who) and agreed + still_to_come < spec.quorum)


def agrees(field: str, data: bytes) -> bool:
    """Whether an answer says yes: the named field of it, or with `"."` the answer itself, is true."""
    value = msgspec.json.decode(data)
    if field != ".":
        value = value.get(field) if isinstance(value, dict) else None
    return value is True
