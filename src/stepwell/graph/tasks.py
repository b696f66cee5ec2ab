"""Which tasks does a definition find, and what do they take? A view of a registry, to check graphs against."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

ParameterKind: TypeAlias = Literal["plain", "positional_only", "rest"]


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a task.

    `hint` is the type of what is given under its name, by which constants are checked (`Any`: not at all). `kind` is
    `rest` for `*args`, which take a list under their own name.
    """

    name: str
    required: bool = True
    hint: Any = Any  # Any: a type form
    kind: ParameterKind = "plain"


class TaskInfo(msgspec.Struct, frozen=True):
    """What is known of a task: its parameters in order, and whether it takes names besides them."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    has_var_keyword: bool = False


class Tasks(Protocol):
    """The tasks that nodes may call, by name."""

    def get(self, name: str) -> TaskInfo | None:
        """The task of this name; None when there is none."""

    def names(self) -> Collection[str]:
        """The names of all tasks."""
