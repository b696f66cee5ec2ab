"""The published JSON Schema takes every definition that can be parsed, and refuses what has a wrong form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from test_parse import FULL, TASKS, TYPES, Case, wrong

from stepwell.graph.parse import load
from stepwell.graph.problems import Findings
from stepwell.graph.reading import STORED, read
from stepwell.graph.schema import URI, definition_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


def data_of(text: str) -> Any:
    document = read(text, Findings(), limits=STORED)
    assert document is not None
    return document.data


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(definition_schema(TYPES, TASKS))


def test_it_is_a_schema_of_draft_2020_12() -> None:
    schema = definition_schema(TYPES)
    assert schema["$schema"] == URI
    jsonschema_rs.meta.validate(schema)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("case", [case for case in wrong() if case.schema], ids=lambda case: case.name)
def test_what_has_a_wrong_form_is_refused(case: Case, validator: jsonschema_rs.Validator) -> None:
    assert not validator.is_valid(data_of(case.text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits_as_it_is_written_and_in_canonical_form(path: Path) -> None:
    validator = jsonschema_rs.validator_for(definition_schema(TYPES))
    text = path.read_text("utf-8")
    assert [str(error) for error in validator.iter_errors(data_of(text))] == []
    definition = load(text, TYPES)
    assert [str(error) for error in validator.iter_errors(definition.canonical)] == []
    assert load(json.dumps(definition.canonical), TYPES, limits=STORED).digest == definition.digest


GOOD = """
{task: fetch, needs: [b, "b:error", {from: b, port: x, back: true, max_visits: 3}], next: {out: b, error: [b, {to: b}]}}
{type: fetch, with: {url: x}, join: {when: "{{ b.ok }}"}, output: {retain: run, schema: {type: object}}}
{type: fetch, inputs: {url: "{{ x }}"}, cache: {key: [1], ttl: 3}, mock: {output: 1, port: x}, delay: "{{ x }}"}
{wait: 5m, if: {">": [1, 2]}, retry: {attempts: 3, only: X}, compensate: {c: {noop: }}}
{wait: {until: "{{ x }}"}}
{wait: "{{ x }}"}
{wait_event: paid, timeout: 1h, where: {"==": [{var: data.x}, 1]}}
{noop: }
{noop: {}}
{type: noop}
{set: {stage: review, round: 1}}
{set: {values: {stage: review}}}
{respond: {value: 1, unit: kg}}
{workflow: child, wait: false, inputs: {x: 1}}
{type: signal, signal: stop, to: x}
{condition: {">": [{var: x}, 1]}}
{switch: "{{ x }}", cases: {a: [1, 2], b: 3}}
{human: {prompt: "ok?", form: {type: object}, who: [ann, "{{ x }}"], quorum: "{{ n }}", timeout: 2d}}
{map: "{{ list }}", concurrency: "{{ n }}", tolerate: 5%, do: {c: {task: fetch}}}
{map: {items: [1], do: [{id: c, noop: }]}, complete_when: {done: 2}}
{map: {x: 1, y: 2}, do: {c: {noop: }}}
{loop: 3, do: {nodes: {c: {noop: }}, edges: [], result: "{{ c }}"}}
{loop: {do_while: {var: c.ok}, max: 3, do: {c: {noop: }}}}
{parallel: {x: {c: {noop: }}, y: {d: {noop: }}}}
{parallel: {count: 3, do: {c: {noop: }}}}
{race: {branches: {x: {c: {noop: }}}, decide: finish}}
{try: {do: {c: {noop: }}, catch: [{errors: [X, timeout], as: e, do: {d: {noop: }}}], finally: {e: {noop: }}}}
{try: {c: {noop: }}, catch: [{do: {d: {noop: }}}]}
{scope: {c: {noop: }}, compensate: none, timeout: 3s, critical: x, cancel_on: {signal: stop}}
{scope: {do: {c: {noop: }}}, compensate: {d: {noop: }}}
"""


@pytest.mark.parametrize("node", GOOD.strip().splitlines())
def test_every_way_of_writing_a_node_fits(node: str, validator: jsonschema_rs.Validator) -> None:
    text = f"stepwell: 1\nid: g\nnodes:\n  a: {node}\n  b: {{noop: }}\n"
    definition = load(text, TYPES, tasks=TASKS)
    assert [str(error) for error in validator.iter_errors(data_of(text))] == []
    assert [str(error) for error in validator.iter_errors(definition.canonical)] == []
    assert load(json.dumps(definition.canonical), TYPES).digest == definition.digest


def test_all_that_a_definition_may_say_fits(validator: jsonschema_rs.Validator) -> None:
    assert [str(error) for error in validator.iter_errors(data_of(FULL))] == []
    assert validator.is_valid(load(FULL, TYPES, tasks=TASKS).canonical)


def test_without_the_tasks_any_name_may_be_one() -> None:
    data = data_of("stepwell: 1\nid: g\nnodes: {a: {type: something, inputs: {x: 1}}}")
    assert jsonschema_rs.is_valid(definition_schema(TYPES), data)
    assert not jsonschema_rs.is_valid(definition_schema(TYPES, TASKS), data)


def test_editors_are_told_what_things_mean() -> None:
    schema = definition_schema(TYPES)
    shapes = schema["$defs"]["with.human"]
    assert shapes["title"] == "human" and shapes["description"]
    assert "question" in shapes["properties"]["prompt"]["description"]
