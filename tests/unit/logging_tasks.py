"""Tasks for test_logs and test_tracing that run in child processes, where they are imported."""

from __future__ import annotations

import logging
import os

from stepwell import task, workflow

log = logging.getLogger("logging_tasks.child")
quiet = logging.getLogger("logging_tasks.quiet")


@task(executor="process")
def speaks(page: int) -> int:
    log.info("page %d", page, extra={"shop": "berlin", "odd": object()})
    log.debug("too little")
    quiet.info("not wanted")
    try:
        raise KeyError("gone")
    except KeyError:
        log.exception("oh")
    return page


@workflow
async def speaks_apart(page: int) -> int:
    return await speaks.aio(page)


@task(executor="process")
def floods(lines: int) -> int:
    for number in range(lines):
        log.info("line %d", number)
    return lines


@workflow
async def floods_apart(lines: int) -> int:
    return await floods.aio(lines)


@task(executor="process")
def current_span() -> dict[str, object]:
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return {"trace": context.trace_id, "span": context.span_id, "process": os.getpid()}


@workflow
async def span_apart() -> dict[str, object]:
    return await current_span.aio()
