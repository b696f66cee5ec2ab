"""When does a graph's node try again? A retry policy as a definition writes it: errors are known by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from stepwell.model.failure import Failure
from stepwell.model.retry import Retry

TIMED_OUT: Final = "timeout"
ANY: Final = "*"


class NamedRetry(Retry):
    """A policy whose errors are names, as in `catch`: with or without their module, `timeout`, or `*` for all."""

    __slots__ = ()

    def _deserves(self, failure: Failure) -> bool:
        names = {failure.type, *failure.kinds}
        names |= {name.rpartition(".")[2] for name in names} | {ANY}
        if failure.timed_out:
            names.add(TIMED_OUT)
        return names.isdisjoint(self.never_on) and (not self.retry_on or not names.isdisjoint(self.retry_on))


def retry_of(*given: Mapping[str, Any] | None) -> Retry | None:  # Any: JSON, as `graph.options` has it
    """The policy that several layers of options say, the last one counting; None when none says anything.

    Raises:
        ArgumentError: a value is out of range.
    """
    layers = [layer for layer in given if layer is not None]
    if not layers:
        return None
    whole: dict[str, Any] = {key: value for layer in layers for key, value in layer.items()}  # Any: as above
    plain = {key: whole[key] for key in ("attempts", "first", "backoff", "max", "jitter") if key in whole}
    made = NamedRetry(**plain)
    if "max" not in whole:  # a first pause that is longer than the longest by default is meant
        made.max = max(made.max, made.first)
    made.retry_on = _names(whole.get("only", ()))
    made.never_on = _names(whole.get("never", ()))
    return made


def _names(given: Collection[str]) -> frozenset[str]:
    return frozenset(given)
