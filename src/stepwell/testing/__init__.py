"""What users of Stepwell test with; nothing of the product imports it.

`Bench` is a whole engine in memory and in virtual time, `returns` and its like are stubs for tasks, `journals` is a
Hypothesis strategy. The pytest plug-in is `stepwell.testing.plugin`. Nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.testing.checks import CheckFailed as CheckFailed
    from stepwell.testing.checks import StepRecord as StepRecord
    from stepwell.testing.kit import Bench as Bench
    from stepwell.testing.runs import BenchRun as BenchRun
    from stepwell.testing.strategies import journals as journals
    from stepwell.testing.stubs import Call as Call
    from stepwell.testing.stubs import Stub as Stub
    from stepwell.testing.stubs import fails as fails
    from stepwell.testing.stubs import in_turn as in_turn
    from stepwell.testing.stubs import raises as raises
    from stepwell.testing.stubs import real as real
    from stepwell.testing.stubs import returns as returns
    from stepwell.testing.stubs import takes as takes

_LATER = {
    "Bench": "kit",
    "BenchRun": "runs",
    "Call": "stubs",
    "CheckFailed": "checks",
    "StepRecord": "checks",
    "Stub": "stubs",
    "fails": "stubs",
    "in_turn": "stubs",
    "journals": "strategies",
    "raises": "stubs",
    "real": "stubs",
    "returns": "stubs",
    "takes": "stubs",
}

__all__ = [
    "Bench",
    "BenchRun",
    "Call",
    "CheckFailed",
    "StepRecord",
    "Stub",
    "fails",
    "in_turn",
    "journals",
    "raises",
    "real",
    "returns",
    "takes",
]


def __getattr__(name: str) -> object:
    """Load a part of the kit when it is asked for: Hypothesis is imported for `journals` only."""
    if name not in _LATER:
        raise AttributeError(f"module 'stepwell.testing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"stepwell.testing.{_LATER[name]}"), name)
