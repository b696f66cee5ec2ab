"""Durable workflows for Python: plain functions whose finished steps survive anything.

The names here are the public interface; everything else may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.authoring.ctx import ctx as ctx
from stepwell.authoring.task import task as task
from stepwell.authoring.workflow import workflow as workflow
from stepwell.errors import InputWithdrawn as InputWithdrawn
from stepwell.errors import StepFailed as StepFailed
from stepwell.errors import StepwellError as StepwellError
from stepwell.model.cloudevents import CloudEvent as CloudEvent
from stepwell.model.requests import Answer as Answer
from stepwell.model.retry import Retry as Retry
from stepwell.version import VERSION

if TYPE_CHECKING:
    from stepwell.app import Stepwell as Stepwell
    from stepwell.authoring.graph import graph_workflow as graph_workflow
    from stepwell.authoring.queue import Queue as Queue
    from stepwell.engine.limits import Limits as Limits
    from stepwell.graph.problems import InvalidDefinition as InvalidDefinition
    from stepwell.handle import Run as Run
    from stepwell.nodes.protocol import Ask as Ask
    from stepwell.nodes.protocol import Expand as Expand
    from stepwell.nodes.protocol import NodeType as NodeType
    from stepwell.nodes.protocol import Outcome as Outcome

__all__ = [
    "Answer",
    "Ask",
    "CloudEvent",
    "Expand",
    "InputWithdrawn",
    "InvalidDefinition",
    "Limits",
    "NodeType",
    "Outcome",
    "Queue",
    "Retry",
    "Run",
    "StepFailed",
    "Stepwell",
    "StepwellError",
    "ctx",
    "graph_workflow",
    "task",
    "workflow",
]
__version__ = VERSION

_LATER = {
    "Stepwell": "stepwell.app",
    "Run": "stepwell.handle",
    "Limits": "stepwell.engine.limits",
    "Queue": "stepwell.authoring.queue",
    "graph_workflow": "stepwell.authoring.graph",
    "InvalidDefinition": "stepwell.graph.problems",
    "Ask": "stepwell.nodes.protocol",
    "Expand": "stepwell.nodes.protocol",
    "NodeType": "stepwell.nodes.protocol",
    "Outcome": "stepwell.nodes.protocol",
}


def __getattr__(name: str) -> object:
    """Load the engine only when it is asked for: worker processes and unit tests of tasks do without."""
    if name not in _LATER:
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
