"""The event dialect: accepted as it is, checked by its own schema, and turned into nodes and edges."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from stepwell.expressions.conditions import compile_condition
from stepwell.expressions.names import MappingNames
from stepwell.graph.definition import Definition
from stepwell.graph.dialect import SCHEMA, is_dialect
from stepwell.graph.parse import definition_of, load, parse
from stepwell.graph.problems import Findings, InvalidDefinition
from stepwell.graph.reading import read
from stepwell.nodes.registry import NodeTypes

TYPES = NodeTypes.standard()

WELCOME: dict[str, Any] = {
    "workflow_id": "welcome",
    "tasks": [
        {
            "task_id": "profile",
            "type": "make_profile",
            "inputs": {"email": "{{ user_email }}"},
            "triggers": ["user.created"],
        },
        {
            "task_id": "mail",
            "type": "send_mail",
            "inputs": {"to": "{{ user_email }}", "name": "{{ profile.name }}"},
            "triggers": ["profile.completed"],
        },
        {"task_id": "sorry", "type": "tell_support", "triggers": ["profile.failed", "mail.failed"]},
    ],
}


def workflow(*tasks: tuple[str, list[str]] | tuple[str, list[str], list[str]]) -> dict[str, Any]:
    """A document of tasks given as (id, triggers) or (id, triggers, emits)."""
    found = []
    for id, triggers, *emits in tasks:
        found.append({"task_id": id, "type": "work", "triggers": triggers} | ({"emits": emits[0]} if emits else {}))
    return {"workflow_id": "w", "tasks": found}


def made(document: dict[str, Any]) -> Definition:
    return load(json.dumps(document), TYPES)


def edges(definition: Definition) -> list[str]:
    return [
        f"{edge.source}:{edge.port} -> {edge.target}{' (back)' if edge.back else ''}" for edge in definition.body.edges
    ]


def joins(definition: Definition) -> dict[str, str]:
    return {id: node.join.kind for id, node in definition.body.nodes.items() if node.join.kind}


def holds(definition: Definition, id: str, **names: object) -> bool:
    return bool(compile_condition(definition.body.nodes[id].condition).holds(MappingNames(names)))


def test_a_document_of_the_dialect_is_taken_as_it_is() -> None:
    definition = made(WELCOME)
    assert (definition.id, definition.dialect) == ("welcome", "events")
    assert definition.canonical == WELCOME
    assert definition.triggers == ({"event": "user.created"},)
    assert {id: node.type for id, node in definition.body.nodes.items()} == dict.fromkeys(
        ("profile", "mail", "sorry"), "task"
    )
    assert definition.body.nodes["mail"].settings == {
        "task": "send_mail",
        "inputs": {"to": "{{ user_email }}", "name": "{{ profile.name }}"},
    }
    assert edges(definition) == ["profile:out -> mail", "profile:error -> sorry", "mail:error -> sorry"]
    assert joins(definition) == {"sorry": "any"}
    assert definition_of(definition.canonical, TYPES).digest == definition.digest


def test_it_is_told_from_other_documents_by_its_keys() -> None:
    assert is_dialect(WELCOME)
    assert not is_dialect({"stepwell": 1, **WELCOME})
    assert not is_dialect({"workflow_id": "w"})


def test_its_schema_is_a_schema_of_draft_7_that_takes_it() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema_rs.meta.validate(SCHEMA)
    assert jsonschema_rs.Draft7Validator(SCHEMA).is_valid(WELCOME)


def test_a_type_is_a_node_type_or_else_a_task() -> None:
    document = workflow(("a", []))
    document["tasks"][0] |= {"type": "wait", "inputs": {"for": "5m"}}
    node = made(document).body.nodes["a"]
    assert (node.type, node.settings) == ("wait", {"for": "5m"})


def test_a_task_without_triggers_starts_with_the_run() -> None:
    definition = made(workflow(("a", []), ("b", ["a.completed"])))
    assert edges(definition) == ["a:out -> b"]
    assert definition.triggers == ()
    document = workflow(("a", []))
    del document["tasks"][0]["triggers"]
    assert not made(document).body.edges


def test_a_task_with_the_only_starting_event_starts_with_the_run() -> None:
    definition = made(workflow(("a", ["order.placed"]), ("b", ["a.completed", "order.placed"])))
    assert edges(definition) == []
    assert definition.triggers == ({"event": "order.placed"},)


def test_with_several_starting_events_each_is_a_node_for_the_runs_that_it_starts() -> None:
    definition = made(workflow(("a", ["placed"]), ("b", ["imported", "placed"]), ("c", ["a.completed", "b.completed"])))
    assert definition.triggers == ({"event": "placed"}, {"event": "imported"})
    assert edges(definition) == [
        *("on placed:out -> a", "on placed:out -> b", "on imported:out -> b", "a:out -> c", "b:out -> c"),
    ]
    assert joins(definition) == {"b": "any", "c": "any"}
    assert holds(definition, "on placed", event={"type": "placed"})
    assert not holds(definition, "on placed", event={"type": "imported"})
    assert holds(definition, "on placed") and holds(definition, "on imported")


def test_an_emitted_event_is_a_node_behind_the_task_that_may_say_otherwise() -> None:
    definition = made(workflow(("load", [], ["data_ready", "empty"]), ("use", ["data_ready"])))
    assert edges(definition) == ["load emits data_ready:out -> use", "load:out -> load emits data_ready"]
    assert definition.triggers == ()
    for events, occurs in ((None, True), (["data_ready"], True), (["empty"], False), ([], False)):
        output = {} if events is None else {"events": events}
        assert holds(definition, "load emits data_ready", nodes={"load": output}) is occurs
    assert holds(definition, "load emits data_ready", nodes={"load": "a text"})


def test_several_tasks_may_emit_one_event() -> None:
    definition = made(workflow(("a", [], ["ready"]), ("b", [], ["ready"]), ("c", ["ready"])))
    assert [edge for edge in edges(definition) if edge.endswith("-> c")] == [
        "a emits ready:out -> c",
        "b emits ready:out -> c",
    ]
    assert joins(definition) == {"c": "any"}


def test_any_completed_task_is_an_event_too() -> None:
    definition = made(workflow(("a", []), ("b", []), ("log", ["task_completed"])))
    assert edges(definition) == ["task_completed:out -> log", "a:out -> task_completed", "b:out -> task_completed"]
    assert joins(definition) == {"task_completed": "any"}
    assert definition.triggers == ()


def test_edges_that_close_a_cycle_are_marked() -> None:
    definition = made(workflow(("a", []), ("b", ["a.completed", "c.failed"]), ("c", ["b.completed"])))
    assert edges(definition) == ["a:out -> b", "c:error -> b (back)", "b:out -> c"]


def test_a_name_that_a_task_emits_goes_before_an_implicit_one() -> None:
    definition = made(workflow(("a", []), ("b", [], ["a.completed"]), ("c", ["a.completed"])))
    assert edges(definition) == ["b emits a.completed:out -> c", "b:out -> b emits a.completed"]


def test_odd_ids_are_taken() -> None:
    definition = made(workflow(("a.b:c d", []), ("e", ["a.b:c d.completed"]), ("on x", ["x"]), ("f", ["y"])))
    assert "a.b:c d:out -> e" in edges(definition)
    assert "on x':out -> on x" in edges(definition)


def test_keys_that_the_dialect_does_not_know_are_warnings() -> None:
    document = json.loads(json.dumps(WELCOME)) | {"version": 3}
    document["tasks"][0]["timeout"] = 30
    document["tasks"][2]["task_id"] = "error"
    document["tasks"][1]["triggers"] = ["profile.complete"]
    findings = Findings()
    read_document = read(json.dumps(document, indent=1), findings)
    assert read_document is not None
    definition = parse(read_document, TYPES, findings)
    assert definition is not None and "version" not in definition.canonical
    assert not findings.has_errors
    assert {(problem.code, problem.place.path) for problem in findings.problems} == {
        ("unknown-key", "$.version"),
        ("unknown-key", "$.tasks[0].timeout"),
        ("unknown-event", "$.tasks[1].triggers[0]"),
        ("reserved-id", "$.tasks[2].task_id"),
    }
    assert all(problem.place.line > 1 for problem in findings.problems)


@pytest.mark.parametrize(
    ("text", "path", "line", "says"),
    [
        ("workflow_id: w\ntasks: []\n", "$.tasks", 2, "must not be empty"),
        ("workflow_id: w\ntasks:\n  - {type: x}\n", "$.tasks[0].task_id", 3, "is missing"),
        ("workflow_id: w\ntasks:\n  - {task_id: a}\n", "$.tasks[0].type", 3, "is missing"),
        ("workflow_id: 7\ntasks: [{task_id: a, type: x}]\n", "$.workflow_id", 1, "must be text; found 7"),
        ("workflow_id: w\ntasks:\n  - task_id: a\n    type: x\n    triggers: go\n", "$.tasks[0].triggers", 5, "a list"),
        ("workflow_id: w\ntasks:\n  - {task_id: a, type: x, inputs: [1]}\n", "$.tasks[0].inputs", 3, "an object"),
        ("workflow_id: w\ntasks:\n  - {task_id: a, type: x, emits: [3]}\n", "$.tasks[0].emits[0]", 3, "must be text"),
        (
            "workflow_id: w\ntasks:\n- {task_id: a, type: x}\n- {task_id: a, type: y}\n",
            "$.tasks[1].task_id",
            4,
            "already",
        ),
        ("workflow_id: w\ntasks:\n- {task_id: ' a', type: x}\n", "$.tasks[0].task_id", 3, "no space around it"),
        (
            "workflow_id: w\ntasks:\n- {task_id: a, type: wait, inputs: {fro: 1s}}\n",
            "$.tasks[0].inputs.fro",
            3,
            "no setting",
        ),
    ],
)
def test_a_wrong_document_is_told_with_its_place(text: str, path: str, line: int, says: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        load(text, TYPES)
    (problem,) = [problem for problem in caught.value.problems if not problem.warning]
    assert (problem.place.path, problem.place.line) == (path, line)
    assert says in problem.message


def test_large_documents_take_a_number_of_edges_that_grows_with_them() -> None:
    ids = [f"t{number}" for number in range(300)]
    definition = made(workflow(*((id, ["task_completed", "go"]) for id in ids), ("first", ["start"])))
    assert len(definition.body.edges) < 4 * len(ids)
