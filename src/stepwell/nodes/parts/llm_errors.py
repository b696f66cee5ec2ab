"""The errors of the node type `llm`: what an endpoint refused or broke off, and answers that do not fit.

```
NodeFailed
├── ModelError      the endpoint refused the request, was not there, or broke its answer off
└── AnswerUnfit     the model's answer is not what the schema asks for; another attempt may give another
```
"""

from __future__ import annotations

from stepwell.nodes.parts.errors import NodeFailed


class ModelError(NodeFailed):
    """An endpoint refused the request, did not answer, or broke its answer off.

    `status` is that of its answer (0: there was none), `body` the beginning of what it said; both are free of secrets.
    """

    code = "model"

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        body: str = "",
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            message, details={"status": status, "body": body}, retryable=retryable, retry_after=retry_after
        )
        self.status = status
        self.body = body

    def with_text(self, text: str, body: str) -> ModelError:
        """The same with other texts."""
        return ModelError(text, status=self.status, body=body, retryable=self.retryable, retry_after=self.retry_after)


class AnswerUnfit(NodeFailed):
    """The model's answer is no JSON, or not what the schema asks for; another attempt may give another answer."""

    code = "answer_unfit"

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message, details={"text": text[:8000]})
