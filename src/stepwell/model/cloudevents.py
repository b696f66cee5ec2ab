"""Events as CloudEvents 1.0 envelopes in JSON: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from stepwell.errors import RequestRefused

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CloudEvent(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True):
    """One event as a workflow body gets it. `type` is its topic, `data` what the publisher said.

    `source` and `id` together name the event; `subject` is what it is about within the source, if that was said.
    """

    id: str
    source: str
    type: str
    data: T
    time: datetime | None = None
    subject: str = ""


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """The envelope as it is stored; extension attributes are kept beside it, in the stored bytes."""

    id: str
    source: str
    type: str
    specversion: str = "1.0"
    time: datetime | None = None
    subject: str = ""
    datacontenttype: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


def envelope(topic: str, data: msgspec.Raw, *, id: str, source: str, at: int, subject: str = "") -> bytes:
    """The JSON of a new event; `at` in microseconds since 1970."""
    time = _EPOCH + timedelta(microseconds=at)
    fields: dict[str, Any] = {"specversion": "1.0", "id": id, "source": source, "type": topic, "time": time}
    if subject:
        fields["subject"] = subject
    return msgspec.json.encode({**fields, "datacontenttype": "application/json", "data": data})


def read(body: bytes) -> Envelope:
    """The envelope that these bytes are.

    Raises:
        RequestRefused: they are not a CloudEvent in structured JSON mode; the text names the attribute.
    """
    try:
        found = msgspec.json.decode(body, type=Envelope)
    except msgspec.DecodeError as error:
        raise RequestRefused(f"not a CloudEvent: {error}; it needs specversion, id, source and type") from None
    if found.specversion != "1.0" or not (found.id and found.source and found.type):
        raise RequestRefused(
            f"not a CloudEvent 1.0: specversion {found.specversion!r}, id {found.id!r}, source {found.source!r}, "
            f"type {found.type!r}; all four are needed"
        )
    return found
