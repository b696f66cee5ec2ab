"""When a failed step is tried again: attempts, backoff, jitter, and which errors deserve it."""

from __future__ import annotations

from stepwell.errors import ArgumentError
from stepwell.model.durations import Duration, micros
from stepwell.model.failure import Failure


class Retry:
    """A retry policy; immutable.

    Args:
        attempts: how many attempts in all, the first included (1: no retry).
        first: the longest delay before the second attempt.
        backoff: what each further delay is multiplied by.
        max: the longest delay of all.
        jitter: draw each delay evenly between 0 and its bound ("full jitter", after M. Brooker, *Exponential
            Backoff And Jitter*, AWS Architecture Blog, 2015), from the run's own seeded chance.
        retry_on: only errors of these classes are tried again (empty: all).
        never_on: errors of these classes are not, whatever `retry_on` says.
        max_elapsed: no further attempt starts later than this after the first one started.

    Raises:
        ArgumentError: attempts < 1, backoff < 1, or a duration that is none.
    """

    __slots__ = ("attempts", "backoff", "first", "jitter", "max", "max_elapsed", "never_on", "retry_on")

    def __init__(
        self,
        attempts: int = 3,
        first: Duration = "1s",
        backoff: float = 2.0,
        max: Duration = "1m",
        *,
        jitter: bool = True,
        retry_on: tuple[type[BaseException], ...] = (),
        never_on: tuple[type[BaseException], ...] = (),
        max_elapsed: Duration | None = None,
    ) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= 1_000_000:
            raise ArgumentError(f"Retry(attempts=…): found {attempts!r}; give a whole number from 1 to 1,000,000")
        if not 1 <= backoff <= 1_000:
            raise ArgumentError(f"Retry(backoff=…): found {backoff!r}; give a factor from 1 to 1,000")
        self.attempts = attempts
        self.first = micros(first, "Retry(first=…)")
        self.backoff = float(backoff)
        self.max = micros(max, "Retry(max=…)")
        self.jitter = jitter
        self.retry_on = frozenset(name_of(kind) for kind in retry_on)
        self.never_on = frozenset(name_of(kind) for kind in never_on)
        self.max_elapsed = None if max_elapsed is None else micros(max_elapsed, "Retry(max_elapsed=…)")

    def retry_at(self, failure: Failure, attempt: int, *, now: int, started_at: int, chance: float) -> int | None:
        """When attempt `attempt + 1` starts, given that `attempt` failed at `now`; None when there is none.

        `started_at` is when the first attempt began and `chance` a number from [0, 1); times in microseconds. What
        the failure says to wait at least is waited, also beyond `max`.
        """
        if attempt >= self.attempts or not failure.retryable or not self._deserves(failure):
            return None
        bound = min(float(self.max), self.first * self.backoff ** min(attempt - 1, 1000))
        at = now + max(round(bound * chance if self.jitter else bound), failure.retry_after or 0)
        if self.max_elapsed is not None and at - started_at > self.max_elapsed:
            return None
        return at

    def _deserves(self, failure: Failure) -> bool:
        names = {failure.type, *failure.kinds}
        if self.never_on and not names.isdisjoint(self.never_on):
            return False
        return not self.retry_on or not names.isdisjoint(self.retry_on)


ONCE = Retry(attempts=1)
"""No retry."""


def name_of(kind: type[BaseException]) -> str:
    """The class's name as it stands in a `Failure`: `ValueError`, `shop.errors.NotFound`, `__main__.X` of scripts."""
    module = "__main__" if kind.__module__.startswith("__mp_main__") else kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
