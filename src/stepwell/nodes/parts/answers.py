"""What an HTTP answer says besides its body: its headers for an output, and when to try again."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from stepwell.nodes.parts import bodies
from stepwell.nodes.parts.errors import HttpError
from stepwell.nodes.parts.redaction import Redactor
from stepwell.nodes.parts.sending import Incoming

LONGEST_WAIT: Final = 24 * 3600
"""Seconds of `Retry-After` that are believed at most."""


def failed(answer: Incoming, place: str, redactor: Redactor, is_retryable: bool) -> HttpError:
    """The error of an answer that is none of success, without secrets; `place` names the request."""
    content = redactor.raw(answer.content)
    shown = redactor.text(bodies.excerpt(content))
    reason = f" {redactor.text(answer.reason)}" if answer.reason else ""
    rest = f": {shown}" if shown.strip() else " (a long body)" if answer.is_cut else ""
    return HttpError(
        f"{place}: answered {answer.status}{reason}{rest}",
        status=answer.status,
        body=shown,
        headers={name: redactor.text(value) for name, value in answer.headers},
        retryable=is_retryable,
        retry_after=retry_after(answer),
    )


def shown_headers(answer: Incoming) -> dict[str, str | list[str]]:
    """Headers by name: those that came several times as one list with commas (RFC 9110, 5.3), cookies as a list."""
    found: dict[str, str | list[str]] = {}
    for name, value in answer.headers:
        before = found.get(name)
        if name == "set-cookie":
            found[name] = [*(before if isinstance(before, list) else []), value]
        else:
            found[name] = f"{before}, {value}" if isinstance(before, str) else value
    return found


def retry_after(answer: Incoming) -> float | None:
    """How many seconds the server wants to be left alone; None when it does not say.

    A date is taken as the time after the answer's own `Date`, which makes it right whatever clocks say (RFC 9110,
    10.2.3).
    """
    text = answer.header("retry-after").strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:12]), LONGEST_WAIT))
    until, now = _date(text), _date(answer.header("date"))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found is not None and found.tzinfo is not None else None
