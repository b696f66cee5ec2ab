"""Events as CloudEvents 1.0 envelopes in JSON: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from stepwell.errors import RequestRefused

T = TypeVar("T")

NULL = msgspec.Raw(b"null")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CloudEvent(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True):
    """One event as a workflow body gets it. `type` is its topic, `data` what the publisher said.

    `source` and `id` together name the event; `subject` is what it is about within the source, if that was said.
    `extensions` are the attributes that the publisher has added (text, whole numbers, booleans).
    """

    id: str
    source: str
    type: str
    data: T
    time: datetime | None = None
    subject: str = ""
    extensions: dict[str, Any] = {}  # Any: text, whole numbers, booleans


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """The envelope as it is stored; extension attributes are kept beside it, in the stored bytes."""

    id: str
    source: str
    type: str
    specversion: str = ""
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw = NULL
    data_base64: str | None = None

    @property
    def payload(self) -> msgspec.Raw:
        """The data as JSON; bytes as Base64 text, which is how JSON values hold bytes here."""
        if self.data_base64 is not None:
            return msgspec.Raw(msgspec.json.encode(self.data_base64))
        return self.data


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused(f"not a CloudEvent: {error}; it needs specversion, id, source and type") from None
    if found.specversion != "1.0" or not (found.id and found.source and found.type):
        raise RequestRefused(
            f"not a CloudEvent 1.0: specversion {found.specversion!r}, id {found.id!r}, source {found.source!r}, "
            f"type {found.type!r}; all four are needed"
        )
    if found.time is not None and found.time.tzinfo is None:
        raise RequestRefused(f"not a CloudEvent: time {found.time.isoformat()} has no zone; write it as RFC 3339 does")
    if bytes(found.data) != b"null" and found.data_base64 is not None:
        raise RequestRefused("not a CloudEvent: it has both data and data_base64; one of them is the data")
    if found.data_base64 is not None:
        _check_base64(found.data_base64)
    extensions(body)
    return found


def extensions(body: bytes) -> dict[str, Any]:  # Any: text, whole numbers, booleans
    """The extension attributes of an event.

    Raises:
        RequestRefused: the name or the value of one is not what the specification allows.
    """
    found = {
        name: msgspec.json.decode(value)
        for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()
        if name not in _OWN
    }
    for name, value in found.items():
        if not _NAME.fullmatch(name):
            raise RequestRefused(
                f"not a CloudEvent: an attribute is called {name!r}; use lower-case letters and digits"
            )
        if not isinstance(value, str | int | None):
            raise RequestRefused(
                f"not a CloudEvent: the extension attribute {name} is {value!r:.80}; give text, a whole number or a "
                "boolean, and put anything else into data"
            )
    return {name: value for name, value in found.items() if value is not None}


def _check_base64(text: str) -> None:
    try:
        msgspec.convert(text, bytes)
    except msgspec.ValidationError:
        raise RequestRefused(f"not a CloudEvent: data_base64 is {text!r:.80}, which is not Base64") from None


_OWN = frozenset(Envelope.__struct_fields__)
_NAME = re.compile(r"[a-z0-9]+")
