"""The node type `task`: a registered Python function is called, as a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.expressions.texts import is_template
from stepwell.nodes.protocol import NodeType


class TaskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which task, with which arguments.

    Attributes:
        task: the name of a registered task; a name, no template: which tasks a graph calls is known before it runs.
        inputs: the arguments by name; they must fit the task's signature.
    """

    task: str
    inputs: dict[str, Any] = {}  # Any: JSON


class TaskNode(NodeType):
    """Calls a registered task: a Python function marked `@task`.

    The task's own retries, timeouts and limits hold where the node says nothing else. The registry is the whitelist:
    a name that is not in it is a problem of the definition, found when it is compiled.

    Ports: `out`; `error` when the task has failed for good; `timeout`, if wired, when a time limit ended it.
    Output: what the task returned. A task may also return an `Outcome`, to choose a port, or an `Expand`.

    Example:
        ```yaml
        page: {task: fetch, inputs: {url: "{{ input.url }}"}, retry: {attempts: 5}, timeout: 30s}
        ```
    """

    name = "task"
    summary = "Call a registered Python function."
    kind = "task"
    Settings = TaskSettings
    main = "task"
    ports = ("timeout",)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """The task's name is known before the run."""
        if is_template(settings.get("task")):
            say("task", "a task is named, not computed; choose between tasks with a switch or a condition")


TYPE = TaskNode()
