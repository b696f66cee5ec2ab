"""The node type `workflow`: a child run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from stepwell.expressions.texts import is_template
from stepwell.nodes.protocol import TIMEOUT, NodeType


class WorkflowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which workflow, with which input, and what becomes of it.

    Attributes:
        workflow: the name of a workflow, a function or a graph; a name, no template.
        inputs: its input.
        version: the label or hash of a version; empty: the one that new runs get.
        wait: whether the node waits for its end; otherwise it is left when the child run was created.
        id: the id of the child run; empty: made from this run's and the node's.
        on_cancel: what becomes of the child when this run no longer waits for it: it is cancelled, left alone
            (`abandon`), or waited for.
    """

    workflow: str
    inputs: dict[str, Any] = {}  # Any: JSON
    version: str = ""
    wait: bool = True
    id: str = ""
    on_cancel: Literal["cancel", "abandon", "wait"] = "cancel"


class WorkflowNode(NodeType):
    """Starts a run of another workflow, or of this one, as a child, and waits for its result.

    A child has a journal of its own and can be looked at, paused and retried by itself.

    Ports: `out`; `error` when the child failed or was cancelled; `timeout`, if wired, when a time limit ended it.
    Output: the child's result; without `wait`, `{run_id}`.

    Example:
        ```yaml
        pack: {workflow: pack-parcel, inputs: {order: "{{ input.order }}"}, timeout: {total: 1d}}
        tell: {workflow: newsletter, wait: false, needs: pack}
        ```
    """

    name = "workflow"
    summary = "Start a child run."
    kind = "child"
    Settings = WorkflowSettings
    main = "workflow"
    ports = (TIMEOUT,)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """The workflow's name is known before the run."""
        if is_template(settings.get("workflow")):
            say("workflow", "a workflow is named, not computed; choose between workflows with a switch or a condition")


TYPE = WorkflowNode()
