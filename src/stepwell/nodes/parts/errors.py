"""The errors that node types raise at run time: what failed at the node's own work, said by type and message.

```
StepwellError
└── NodeFailed          a node did not do what it is for; `retryable` says whether another attempt may help
    ├── HttpError       an answer with a status that is none of success, or one that cannot be read
    ├── HttpNoAnswer    no answer: no connection, a broken one, or a time limit
    └── HttpRefused     the request was not sent: its address is none that may be asked
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.errors import StepwellError
from stepwell.model.failure import Failure
from stepwell.model.failures import failure_of


class NodeFailed(StepwellError):
    """A node did not do what it is for.

    `type` is the name by which `catch` and `retry` know it, `details` is plain JSON for whoever handles it.
    `retry_after` is how many seconds to wait before the next attempt at least (None: nobody said).
    """

    code = "node_failed"
    retryable: bool = True

    def __init__(
        self,
        message: str,
        *,
        type: str = "",
        details: Any = None,  # Any: JSON
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.details = details
        self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable

    def failure(self) -> Failure:
        """The error as data: under the name that was given, which handlers match, with the classes above it."""
        found = failure_of(self, retryable=self.retryable)
        kinds = (found.type, *found.kinds) if self.type else found.kinds
        return Failure(
            type=self.type or found.type,
            message=found.message,
            kinds=kinds,
            traceback="",
            retryable=self.retryable,
            timed_out=isinstance(self, TimeoutError),
            cause=found.cause,
            details=self.details,
            retry_after=None if self.retry_after is None else round(self.retry_after * 1_000_000),
        )


class HttpError(NodeFailed):
    """A request was answered with a status that is none of success, or with a body that cannot be taken.

    `status` is the answer's (0: there was none), `body` the beginning of its body as text, `headers` its headers in
    lower case. All are free of secrets.
    """

    code = "http"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        details = {"status": status, "body": body}
        super().__init__(message, details=details, retryable=retryable, retry_after=retry_after)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class HttpNoAnswer(NodeFailed):
    """A request was not answered: no connection, or a broken one; its effect, if any, is unknown."""

    code = "http_no_answer"


class HttpTimedOut(HttpNoAnswer, TimeoutError):
    """A request was not wholly answered within its time limit."""

    code = "http_timed_out"


class HttpRefused(NodeFailed):
    """A request was not sent, because its address is none that may be asked; asking again does not help."""

    code = "http_refused"
    retryable = False
