"""Scientific workflows that were really run, as definitions: WfFormat 1.5 in, a graph of stand-in tasks out.

Source of the format: https://github.com/wfcommons/WfFormat; of the files: https://github.com/wfcommons/WfInstances.
See `corpora` for where they are.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import WFINSTANCES as INSTANCES
from corpora import missing

MISSING = missing(INSTANCES)

NOTHING = re.compile(r"\W+")


@dataclass(frozen=True)
class Instance:
    """A workflow: of each task the tasks before it, and how many seconds it took, by sanitised id."""

    name: str
    parents: dict[str, tuple[str, ...]]
    seconds: dict[str, float]

    @property
    def work(self) -> float:
        """How many seconds all tasks take together."""
        return sum(self.seconds.values())

    @property
    def critical_path(self) -> float:
        """How many seconds the longest chain of tasks takes."""
        ends: dict[str, float] = {}
        for id in self.in_order():
            ends[id] = max((ends[parent] for parent in self.parents[id]), default=0.0) + self.seconds[id]
        return max(ends.values(), default=0.0)

    def in_order(self) -> list[str]:
        """The ids, each after all tasks before it."""
        found: dict[str, None] = {}
        waiting = list(reversed(self.parents))
        while waiting:
            id = waiting[-1]
            missing = [parent for parent in self.parents[id] if parent not in found]
            if missing:
                waiting += missing
            else:
                found[waiting.pop()] = None
        return list(found)

    def definition(self) -> dict[str, Any]:
        """A graph with a node for each task, which calls the task `work` with its id and its seconds."""
        nodes: dict[str, Any] = {}
        for id, parents in self.parents.items():
            nodes[id] = {"task": "work", "inputs": {"of": id, "seconds": self.seconds[id]}}
            if parents:
                nodes[id]["needs"] = list(parents)
        return {
            "stepwell": 1,
            "id": NOTHING.sub("_", f"wf-{self.name}"),
            "nodes": nodes,
            "result": {"tasks": len(nodes)},
        }


def instance(path: Path) -> Instance:
    """Read one file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        workflow = json.load(file)["workflow"]
    names: dict[str, str] = {}
    for task in workflow["specification"]["tasks"]:
        name = NOTHING.sub("_", task["id"]).strip("_")
        name = name if name[:1].isalpha() else f"t_{name}"
        names[task["id"]] = name if name not in names.values() else f"{name}_{len(names)}"
    took = {task["id"]: float(task.get("runtimeInSeconds") or 0.0) for task in workflow["execution"]["tasks"]}
    return Instance(
        name=path.name.removesuffix(".json.gz"),
        parents={
            names[task["id"]]: tuple(dict.fromkeys(names[parent] for parent in task["parents"]))
            for task in workflow["specification"]["tasks"]
        },
        seconds={names[id]: took.get(id, 0.0) for id in names},
    )


def instances() -> list[Path]:
    """All files there are, the small ones first."""
    return sorted(INSTANCES.glob("*.json.gz"), key=lambda path: (path.stat().st_size, path.name))
