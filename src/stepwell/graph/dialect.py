"""What does a definition in the event dialect say? Tasks that wait for events, as nodes and edges.

```json
{"workflow_id": "welcome", "tasks": [
  {"task_id": "profile", "type": "make_profile", "inputs": {"email": "{{ user_email }}"}, "triggers": ["user.created"]},
  {"task_id": "mail", "type": "send_mail", "inputs": {"to": "{{ user_email }}"}, "triggers": ["profile.completed"]},
  {"task_id": "sorry", "type": "tell_support", "triggers": ["profile.failed", "mail.failed"]}]}
```

A document without the key `stepwell` that has `workflow_id` and `tasks` is one. It is checked against `SCHEMA` (JSON
Schema draft-07), taken as it is, and kept as it is (`Definition.canonical`); keys that the dialect does not know are
warnings. `type` is a node type, or else the name of a task, and `inputs` are its settings or arguments.

A task runs once, when the first of its `triggers` occurs; without any it runs when the run starts. An event is one of:

* **implicit**: `<task_id>.completed` and `<task_id>.failed` occur when that task ends so. They become edges from the
  port `out` or `error`, and a task whose failure is a trigger does not fail the run. `task_completed` occurs when any
  other task completes: it becomes a node of that name. Where a task of the document emits an event of such a name,
  that one is meant.
* **emitted**: a name that stands in some task's `emits`. It occurs when that task completes; if the task's output has
  a list `events`, only if it is in there. It becomes a node `<task_id> emits <event>`, skipped when it does not occur.
* **starting**: every other name. Each becomes a trigger `{event: name}`, so that publishing it starts a run, with the
  payload as input. In that run only this starting event has occurred; in a run that was started by hand all of them
  have. With several such names each becomes a node `on <event>`, which is skipped in runs that another one started.

So what a task publishes to the world (`ctx.publish`) may start runs, of this workflow too; what is meant for its own
run is declared in `emits`. A node with several in-edges joins by `any`; edges that close a cycle are marked `back`,
and change nothing: a task runs once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from stepwell.graph.bodies import RESERVED, Bodies
from stepwell.graph.canonical import digest_of
from stepwell.graph.definition import BodyDef, Definition, EdgeDef, JoinDef, NodeDef
from stepwell.graph.edges import is_id, ordered
from stepwell.graph.form import Form, Json
from stepwell.graph.places import Places
from stepwell.model.checking import check
from stepwell.nodes.protocol import ERROR, OUT

ANY_COMPLETED: Final = "task_completed"
COMPLETED: Final = ".completed"
FAILED: Final = ".failed"

SCHEMA: Final[dict[str, Any]] = {  # Any: JSON Schema
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "A workflow in the event dialect",
    "type": "object",
    "required": ["workflow_id", "tasks"],
    "properties": {
        "workflow_id": {"type": "string", "minLength": 1, "description": "The workflow's name."},
        "description": {"type": "string"},
        "tasks": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["task_id", "type"],
                "properties": {
                    "task_id": {"type": "string", "minLength": 1, "description": "Unique among the tasks."},
                    "type": {"type": "string", "minLength": 1, "description": "A node type, or a task's name."},
                    "description": {"type": "string"},
                    "inputs": {"type": "object", "description": "Settings or arguments; templates may stand in them."},
                    "triggers": {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "description": "Events of which the first starts the task; none: it starts with the run.",
                    },
                    "emits": {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "description": "Events that occur in the run when the task completes.",
                    },
                },
            },
        },
    },
}
"""The dialect's own schema. Keys that are not in it may stand there, and mean nothing."""

_TASK_KEYS: Final = ("task_id", "type", "description", "inputs", "triggers", "emits")


class EventTask(msgspec.Struct, frozen=True):
    """A task as it is written, without what is given twice."""

    id: str
    given: Mapping[str, Json]
    places: Places
    triggers: tuple[str, ...]
    emits: tuple[str, ...]


def is_dialect(given: Mapping[str, Json]) -> bool:
    """Whether a document is in this dialect."""
    return "stepwell" not in given and "workflow_id" in given and "tasks" in given


def parse_events(form: Form, given: Mapping[str, Json], places: Places) -> Definition | None:
    """Parse a document of the dialect; None when it does not fit its schema."""
    problems = check(SCHEMA, given)
    for problem in problems:
        at = _at(places, problem.path)
        found = f"; found {problem.found}" if problem.found else ""
        form.say("event-dialect", at, f"{problem.path or 'the document'} {problem.message}{found}")
    if problems:
        return None
    for key in given:
        if key not in SCHEMA["properties"]:
            _ignored(form, places.of(key), key)
    is_id(form, given["workflow_id"], places.of("workflow_id"), "workflow_id")
    tasks = _tasks(form, given["tasks"], places.of("tasks"))
    emitted = {name for task in tasks.values() for name in task.emits}
    awaited = dict.fromkeys(name for task in tasks.values() for name in task.triggers)
    starting = [name for name in awaited if name not in emitted and not _is_implicit(name, tasks)]
    for task in tasks.values():
        for index, name in enumerate(task.triggers):
            if name in starting and name.rpartition(".")[0] in tasks:
                message = f"no task says {name!r}, and it is taken for an event from outside"
                hint = f"a task's own events end in {COMPLETED} and {FAILED}"
                form.say("unknown-event", task.places.of("triggers").of(index), message, hint, warning=True)
    kept = {key: given[key] for key in SCHEMA["properties"] if key in given}
    kept["tasks"] = [{key: task.given[key] for key in _TASK_KEYS if key in task.given} for task in tasks.values()]
    bare = {key: kept[key] for key in ("workflow_id", "tasks")}
    bare["tasks"] = [{key: one[key] for key in one if key != "description"} for one in kept["tasks"]]
    return Definition(
        id=given["workflow_id"],
        description=given.get("description", ""),
        triggers=tuple({"event": name} for name in starting),
        body=_body(form, tasks, starting, places),
        dialect="events",
        canonical=kept,
        digest=digest_of(bare),
        places={"": places.place, **{key: places.of(key).place for key in given}},
    )


def _tasks(form: Form, given: list[Json], places: Places) -> dict[str, EventTask]:
    found: dict[str, EventTask] = {}
    for index, task in enumerate(given):
        at = places.of(index)
        for key in task:
            if key not in _TASK_KEYS:
                _ignored(form, at.of(key), key)
        id = task["task_id"]
        if not is_id(form, id, at.of("task_id"), "task_id"):
            continue
        if id in RESERVED:
            message = f"{id!r} has a meaning of its own in expressions"
            form.say("reserved-id", at.of("task_id"), message, f'the task is nodes["{id}"] there', warning=True)
        if id in found:
            message = f"the task_id {id!r} was already given"
            form.say("duplicate-id", at.of("task_id"), message, "give each task an id of its own")
            continue
        triggers, emits = (tuple(dict.fromkeys(task.get(key, ()))) for key in ("triggers", "emits"))
        found[id] = EventTask(id, task, at, triggers, emits)
    return found


def _ignored(form: Form, places: Places, key: str) -> None:
    form.say("unknown-key", places, f"the event dialect has no key {key!r}", "it is ignored", warning=True)


def _is_implicit(name: str, tasks: Mapping[str, EventTask]) -> bool:
    return name == ANY_COMPLETED or any(_implied(name, tasks))


def _implied(name: str, tasks: Mapping[str, EventTask]) -> Iterator[tuple[str, str]]:
    """The task, and its port, that an implicit event stands for."""
    for ending, port in ((COMPLETED, OUT), (FAILED, ERROR)):
        if name.endswith(ending) and (id := name.removesuffix(ending)) in tasks:
            yield id, port


def _body(form: Form, tasks: Mapping[str, EventTask], starting: list[str], places: Places) -> BodyDef:
    named = frozenset(task.given["type"] for task in tasks.values())  # whether there are such tasks says the compiler
    bodies = Bodies(Form(form.findings, form.types, named))
    nodes: dict[str, NodeDef] = {}
    for task in tasks.values():
        given = {key: task.given[key] for key in ("type", "inputs", "description") if key in task.given}
        nodes[task.id] = bodies.node(task.id, given, task.places)
    gates = _Gates(tasks, starting, places)
    edges: list[EdgeDef] = []
    for task in tasks.values():
        if len(starting) == 1 and starting[0] in task.triggers:
            continue  # that event has occurred in every run
        for index, name in enumerate(task.triggers):
            place = task.places.of("triggers").of(index).place
            for source, port in gates.sources(name):
                if source != task.id:
                    edges.append(EdgeDef(source=source, target=task.id, port=port, place=place))
    nodes |= gates.nodes
    edges += gates.edges
    in_order = ordered(form, edges, nodes)
    entered = Counter(edge.target for edge in in_order)
    for id in (id for id, count in entered.items() if count > 1):
        nodes[id] = msgspec.structs.replace(nodes[id], join=JoinDef(kind="any"))
    return BodyDef(nodes=nodes, edges=tuple(_with_back(in_order, nodes)), place=places.of("tasks").place)


class _Gates:
    """The nodes that stand for events, made when a task waits for them."""

    def __init__(self, tasks: Mapping[str, EventTask], starting: list[str], places: Places) -> None:
        self.tasks = tasks
        self.starting = frozenset(starting)
        self.places = places
        self.nodes: dict[str, NodeDef] = {}
        self.edges: list[EdgeDef] = []
        self._ids: dict[tuple[str, str], str] = {}
        self._emitters: dict[str, list[EventTask]] = {}
        for task in tasks.values():
            for name in task.emits:
                self._emitters.setdefault(name, []).append(task)

    def sources(self, name: str) -> Iterator[tuple[str, str]]:
        """The (node, port) pairs by which an event occurs."""
        emitters = self._emitters.get(name, ())
        for task in emitters:
            yield self._emitted(task, name), OUT
        if name in self.starting:
            yield self._started(name), OUT
        elif not emitters and name == ANY_COMPLETED:
            yield self._completed(), OUT
        elif not emitters:
            yield from _implied(name, self.tasks)

    def _completed(self) -> str:
        """`task_completed`: runs when the first task completes; those that wait for nothing else cannot be that."""
        key = ("", ANY_COMPLETED)
        if key not in self._ids:
            id = self._add(key, ANY_COMPLETED, None, self.places.of("tasks"))
            firsts = (task for task in self.tasks.values() if task.triggers != (ANY_COMPLETED,))
            self.edges += (EdgeDef(source=task.id, target=id, place=task.places.place) for task in firsts)
        return self._ids[key]

    def _emitted(self, task: EventTask, name: str) -> str:
        """`<task_id> emits <event>`: runs when the task completes and does not say that the event has not occurred."""
        if (task.id, name) not in self._ids:
            said = {"val": ["nodes", task.id, "events"]}
            at = task.places.of("emits")
            id = self._add((task.id, name), f"{task.id} emits {name}", _or_absent(said, {"in": [name, said]}), at)
            self.edges.append(EdgeDef(source=task.id, target=id, place=at.place))
        return self._ids[task.id, name]

    def _started(self, name: str) -> str:
        """`on <event>`: runs when this event, or nobody's event, has started the run."""
        if ("", name) not in self._ids:
            said = {"val": ["event", "type"]}
            self._add(("", name), f"on {name}", _or_absent(said, {"==": [said, name]}), self.places.of("tasks"))
        return self._ids["", name]

    def _add(self, key: tuple[str, str], id: str, condition: Json, places: Places) -> str:
        while id in self.tasks or id in self.nodes:
            id += "'"
        self._ids[key] = id
        self.nodes[id] = NodeDef(
            id=id,
            type="noop",
            condition=condition,
            has_condition=condition is not None,
            place=places.place,
        )
        return id


def _or_absent(said: Json, rule: Json) -> Json:
    return {"or": [{"===": [said, None]}, rule]}


def _with_back(edges: tuple[EdgeDef, ...], ids: Iterable[str]) -> Iterator[EdgeDef]:
    """The edges, those marked that close a cycle: that lead to where a walk from the starts came from."""
    outs: dict[str, list[int]] = {}
    for index, edge in enumerate(edges):
        outs.setdefault(edge.source, []).append(index)
    entered = {edge.target for edge in edges}
    back: set[int] = set()
    done: set[str] = set()
    for start in [*(id for id in ids if id not in entered), *ids]:
        if start in done:
            continue
        under_way = {start: iter(outs.get(start, ()))}
        while under_way:
            id, left = next(reversed(under_way.items()))
            index = next(left, -1)
            if index < 0:
                done.add(id)
                del under_way[id]
            elif (target := edges[index].target) in under_way:
                back.add(index)
            elif target not in done:
                under_way[target] = iter(outs.get(target, ()))
    for index, edge in enumerate(edges):
        yield msgspec.structs.replace(edge, back=True) if index in back else edge


def _at(places: Places, path: str) -> Places:
    """The places of a path such as `tasks[0].type`; of what holds it where a key is missing."""
    steps = path.replace("[", ".[").split(".")
    for step in steps:
        if step.startswith("[") and step[1:-1].isdigit():
            places = places.of(int(step[1:-1]))
        elif step:
            places = places.of(step)
    return places
