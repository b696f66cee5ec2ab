"""An action's context that tests look into: what it emitted, what it logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.model.shelf import Shelf


class Acting:
    """Stands in for what the engine gives to an action."""

    def __init__(
        self,
        shelf: Any = None,
        *,
        answers: Mapping[str, object] | None = None,
        state: object = None,
        secrets: Mapping[str, str] | None = None,
        run_id: str = "r1",
        step: str = "agent#1",
        attempt: int = 1,
    ) -> None:
        self.shelf: Shelf = shelf
        self.answers = answers or {}
        self.state = state
        self.secrets = secrets or {}
        self.run_id = run_id
        self.step = step
        self.attempt = attempt
        self.idempotency_key = f"{run_id}:{step}"
        self.chunks: list[Any] = []
        self.usage: dict[str, int] = {}
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.beats = 0

    async def emit(self, chunk: object, usage: Mapping[str, int]) -> None:
        self.chunks.append(chunk)
        for name, count in usage.items():
            self.usage[name] = self.usage.get(name, 0) + count

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        self.lines.append((message, dict(fields)))

    def heartbeat(self) -> None:
        self.beats += 1

    @property
    def text(self) -> str:
        """All texts that were emitted, as one."""
        return "".join(self.chunks)
