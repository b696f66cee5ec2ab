"""The node type `try`: a body, what to do when it fails, and what to do in any case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.protocol import NodeType

TIMED_OUT = "timeout"
ANY = "*"


class Catch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which failures a body is for.

    Attributes:
        errors: names of errors with or without their module, `timeout` for a time limit, `*` for all.
        as: a further name under which the body sees the error.
    """

    errors: str | list[str] = ANY
    as_: str = msgspec.field(default="", name="as")

    def takes(self, names: tuple[str, ...], timed_out: bool) -> bool:
        """Whether it is for an error with these names: its own and those of the classes above it."""
        wanted = {self.errors} if isinstance(self.errors, str) else set(self.errors)
        if ANY in wanted or (timed_out and TIMED_OUT in wanted):
            return True
        return any(name in wanted or name.rpartition(".")[2] in wanted for name in names)


class TrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is caught; the bodies themselves are `do`, those of `catch`, and `finally`.

    Attributes:
        catch: a list of `{errors, as, do}`; the first that is for an error handles it.
    """

    catch: list[Catch] = []


class TryNode(NodeType):
    """Runs `do`; when it fails, the first `catch` that is for the error; in any case `finally`.

    Errors are found by the names of their classes and of those above them. In a body of `catch`, `error` is the
    error: `error.type`, `error.message`, `error.details`, and `error.node`, the id of the node that failed. An error
    that nothing catches, or that a body of `catch` raises, leaves the node when `finally` is done.

    Ports: `out`.
    Output: the result of `do`, or of the body that caught.

    Example:
        ```yaml
        buy:
          try:
            do:
              pay: {task: pay, inputs: {card: "{{ input.card }}"}}
            catch:
              - errors: [CardRefused, timeout]
                as: trouble
                do: {tell: {task: ask_again, inputs: {why: "{{ trouble.message }}"}}}
            finally:
              close: {task: close_till}
        ```
    """

    name = "try"
    summary = "Run a body and catch its failures."
    kind = "container"
    Settings = TrySettings
    main = "do"
    bodies = ("do", "catch", "finally")

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """Each `catch` is for something, and can be reached."""
        entries = settings.get("catch")
        everything = False
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if everything:
                say(f"catch[{index}]", "nothing is left for it: the one before catches every error; put it last")
            found = entry.get("errors", ANY) if isinstance(entry, dict) else ANY
            if found in ([], ""):
                say(f"catch[{index}].errors", "no error is named: give names of errors, `timeout`, or `*` for all")
            everything = everything or found == ANY or (isinstance(found, list) and ANY in found)


TYPE = TryNode()
