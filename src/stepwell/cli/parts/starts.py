"""Options of a start: when the run begins, where it waits, and how many of its kind there may be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from stepwell.starting import StartOptions

_NAMES = ("queue", "queue_key", "delay", "at", "deadline", "singleton", "on_conflict", "debounce", "debounce_key")

_OPTIONS = (
    click.option("--queue", metavar="NAME", help="The queue that it waits in.  [default: the workflow's]"),
    click.option("--queue-key", metavar="KEY", help="What the queue's limits per key count it under."),
    click.option("--delay", metavar="DURATION", help="Begin that much later, such as 30s or 2h."),
    click.option("--at", metavar="MOMENT", help="Begin then, such as 2026-11-20T06:00:00+01:00."),
    click.option("--deadline", metavar="DURATION", help="Cancel it when it has not ended by then; it has failed."),
    click.option("--singleton", metavar="KEY", help="Only one run of the workflow with this key at a time."),
    click.option(
        "--on-conflict",
        type=click.Choice(["attach", "refuse", "replace"]),
        help="When there is one of --singleton: follow that one (default), refuse, or cancel it.",
    ),
    click.option("--debounce", metavar="DURATION", help="Begin when no further start has come for so long."),
    click.option("--debounce-key", metavar="KEY", help="Which starts --debounce takes together."),
)


def start_options(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of a start, as `start`: those that were given."""

    @functools.wraps(function)
    def wrapped(*args: Any, **given: Any) -> int:  # Any: click's own signature
        start: StartOptions = {}
        for name in _NAMES:
            value = given.pop(name)
            if value is not None:
                start[name] = value  # type: ignore[literal-required]  # one of `_NAMES`
        return function(*args, start=start, **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
