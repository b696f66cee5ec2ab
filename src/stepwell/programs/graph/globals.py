"""What names stand for around all nodes: input, variables, environment, secrets, the run itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from stepwell.authoring.context import Identity
from stepwell.model.codec import content_hash


class Globals:
    """The outermost names of a run.

    A secret is a marker until an attempt is made: only there is it replaced, so it is in no journal. The marker of a
    secret holds a digest of the run's id, so that data cannot contain it by guessing. `event` is what started the run,
    if an event did; its data is the run's input. `clock` gives the time of the turn, in microseconds: `run.now` is the
    journal's time, and the same on every replay.
    """

    def __init__(
        self,
        input: object,
        variables: dict[str, object],
        env: Mapping[str, str],
        secrets: Iterable[str],
        who: Identity,
        event: Mapping[str, object] | None = None,
        *,
        clock: Callable[[], int],
    ) -> None:
        self.variables = variables
        self._input = input
        self._roots: dict[str, object] = {
            "input": input,
            "var": variables,
            "env": dict(env),
            "secret": {name: marker(who.run_id, name) for name in secrets},
        }
        self._run = {"id": who.run_id, "workflow": who.workflow, "parent": who.parent, "root": who.root}
        self._clock = clock
        if event is not None:
            self._roots["event"] = {"data": input, **event}

    def lookup(self, root: str) -> object:
        """The value of a root name; last of all a key of the input.

        Raises:
            LookupError: nothing has it.
        """
        if root == "run":
            return {**self._run, "now": _written(self._clock())}
        if root in self._roots:
            return self._roots[root]
        if root == "event":
            raise LookupError("no event has started this run")
        if isinstance(self._input, dict) and root in self._input:
            return self._input[root]
        raise LookupError(f"nothing is called {root!r} here")


def marker(run_id: str, name: str) -> str:
    """What stands for a secret wherever it may be written down."""
    return f"[secret {name} {content_hash(f'{run_id}/{name}'.encode())[:16]}]"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _written(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
