# mypy: disable-error-code="import-not-found,untyped-decorator"
# Found only in its own virtual environment, and beside this script.
"""Prefect with its temporary server on SQLite. It records task states, not a journal that a run goes on from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import own_venv


def _measured(folder: Path, body: Callable[[Any], float]) -> float:
    """Start the server once, outside the measurement."""
    os.environ.update(
        PREFECT_HOME=str(folder / "prefect"),
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="true",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_LEVEL="ERROR",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="60",
    )
    import prefect

    noop = prefect.task(_noop)

    @prefect.flow
    def warm() -> None:
        noop(0)

    warm()
    return body(noop)


def _noop(number: int) -> dict[str, int]:
    return {"number": number}


def chain(variant: str, folder: Path, size: int) -> float:
    """One run of `size` tasks."""

    def body(noop: Any) -> float:
        import prefect

        @prefect.flow
        def steps() -> None:
            for number in range(size):
                noop(number)

        started = time.perf_counter()
        steps()
        return time.perf_counter() - started

    return _measured(folder, body)


def many(variant: str, folder: Path, size: int) -> float:
    """`size` runs of five tasks, on eight threads."""

    def body(noop: Any) -> float:
        import prefect

        @prefect.flow
        def steps() -> None:
            for number in range(5):
                noop(number)

        started = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: steps(), range(size)))
        return time.perf_counter() - started

    return _measured(folder, body)


def fan(variant: str, folder: Path, size: int) -> float:
    """`size` tasks at once in one run."""
    return _mapped(folder, size, 1)


def items(variant: str, folder: Path, size: int) -> float:
    """Four maps over `size` items in one run."""
    return _mapped(folder, size, 4)


def _mapped(folder: Path, size: int, stages: int) -> float:
    def body(noop: Any) -> float:
        import prefect

        @prefect.flow
        def steps() -> None:
            for _ in range(stages):
                for future in noop.map(list(range(size))):
                    future.result()

        started = time.perf_counter()
        steps()
        return time.perf_counter() - started

    return _measured(folder, body)


if __name__ == "__main__":
    own_venv.main(
        "prefect",
        ["prefect>=3.8,<4", "fastapi<0.145"],  # newer ones refuse what its server asks of them
        ["temporary server"],
        {"chain": chain, "many": many, "fan": fan, "items": items},
    )
