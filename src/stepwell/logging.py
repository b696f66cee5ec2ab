"""Which run, step and attempt did a log record come from? A filter for handlers of the standard library's `logging`.

```python
import logging

import stepwell.logging

logging.basicConfig(format="%(levelname)s %(stepwell_run)s %(stepwell_step)s %(message)s", level=logging.INFO)
stepwell.logging.install()
```

It works in workflow bodies, in tasks on the loop and in threads, and for records from the child processes of
`executor="process"`, which arrive at the handlers of the program that drives. What a workflow body logs is let through
once: not again when the body is rebuilt after a restart.
"""

from __future__ import annotations

import logging

from stepwell.authoring.context import AttemptContext, current
from stepwell.observe.records import Place, PlaceFilter


class ContextFilter(PlaceFilter):
    """Gives each record the attributes `stepwell_run`, `stepwell_workflow`, `stepwell_step` and `stepwell_attempt`.

    Add it to handlers, not to loggers: a logger's filters do not see what comes from the loggers below it. For a
    `QueueHandler` add it to that handler itself, because it looks at who is calling. Outside of any run the attributes
    are empty, and the attempt is 0.
    """

    def __init__(self) -> None:
        super().__init__(where_am_i)


def install(logger: logging.Logger | None = None) -> None:
    """Add a `ContextFilter` to each handler that a logger (the root, if none is given) has now. Idempotent."""
    for handler in (logger or logging.getLogger()).handlers:
        if not any(isinstance(one, ContextFilter) for one in handler.filters):
            handler.addFilter(ContextFilter())


def where_am_i() -> Place | None:
    """In which run, step and attempt the calling code runs; None outside any run."""
    context = current.get()
    if context is None:
        return None
    identity = context.identity
    if isinstance(context, AttemptContext):
        return Place(identity.run_id, context.step, context.attempt, identity.workflow)
    return Place(identity.run_id, "", 0, identity.workflow, context.replaying)
