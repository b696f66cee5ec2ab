"""The catalogue as a graph: the definition in `catalogue.yaml` beside this module, with the tasks of the function."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stepwell.authoring.graph import GraphWorkflow, graph_workflow
from stepwell.examples.catalogue import tasks

DEFINITION: Final = Path(__file__).with_name("catalogue.yaml")
"""Where the definition is."""

GRAPH: Final = "catalogue-graph"
"""The workflow's name, which the definition says."""

TASKS: Final = tasks.__name__
"""The module with the tasks, as `stepwell --tasks` takes it."""


def catalogue_graph() -> GraphWorkflow:
    """The graph, compiled; it brings its tasks along."""
    return graph_workflow(DEFINITION, tasks=[tasks])
