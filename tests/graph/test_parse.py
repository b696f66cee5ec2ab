"""A document becomes a definition in one form, or every problem of its form is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepwell.graph.bodies import MOST_NESTED, parse_body
from stepwell.graph.canonical import canonical_body, digest, dump_yaml
from stepwell.graph.definition import Definition, EdgeDef, JoinDef
from stepwell.graph.form import MOST
from stepwell.graph.parse import definition_of, load, parse
from stepwell.graph.places import Places
from stepwell.graph.problems import Findings, InvalidDefinition
from stepwell.graph.reading import STORED, read
from stepwell.nodes.protocol import NodeType
from stepwell.nodes.registry import NodeTypes

TYPES = NodeTypes.standard()
TASKS = ("fetch", "book")
HERE = Path(__file__).parent


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table of wrong definitions."""

    name: str
    text: str
    problems: list[dict[str, Any]]
    schema: bool = True


def wrong() -> list[Case]:
    """The table, read by the reader that it is about."""
    document = read((HERE / "wrong_form.yaml").read_bytes(), Findings())
    assert document is not None
    return msgspec.convert(document.data, list[Case])


def made(text: str) -> Definition:
    return load(text, TYPES, tasks=TASKS)


def graph(nodes: str, edges: str = "") -> Definition:
    return made(f"stepwell: 1\nid: g\nnodes: {nodes}\n{edges}")


def node(text: str, **settings: Any) -> Any:
    found = graph(f"{{n: {text}}}").body.nodes["n"]
    assert not settings or found.settings == settings
    return found


def edges(definition: Definition) -> list[tuple[str, str, str]]:
    return [(edge.source, edge.port, edge.target) for edge in definition.body.edges]


@pytest.mark.parametrize("case", wrong(), ids=lambda case: case.name)
def test_a_wrong_definition_is_told_with_every_problem_and_its_place(case: Case) -> None:
    findings = Findings()
    document = read(case.text, findings)
    if document is not None:
        parse(document, TYPES, findings, TASKS)
    found = [
        {
            "code": problem.code,
            "at": [problem.place.line, problem.place.column],
            "path": problem.place.path,
            "says": problem.message,
            **({"hint": problem.hint} if problem.hint else {}),
        }
        for problem in sorted(findings.problems, key=lambda one: (one.place.line, one.place.column))
    ]
    assert found == case.problems
    assert findings.has_errors


def test_the_error_names_the_source_and_all_problems_in_the_order_of_their_places(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("stepwell: 1\nid: shop\nnodes:\n  a: {tsk: x}\nqueues: x\n")
    with pytest.raises(InvalidDefinition) as caught:
        load(path, TYPES)
    assert [problem.code for problem in caught.value.problems] == ["no-type", "unknown-key"]
    assert f"{path} has 2 problems" in str(caught.value)
    assert "line 4, column 7, $.nodes.a.tsk: this node has no type (did you mean 'task'?)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("{type: fetch, inputs: {url: x}}", {"task": "fetch", "inputs": {"url": "x"}}),
        ("{type: fetch, with: {url: x}}", {"task": "fetch", "inputs": {"url": "x"}}),
        ("{type: fetch}", {"task": "fetch"}),
        ("{type: task, with: {task: fetch, inputs: {url: x}}}", {"task": "fetch", "inputs": {"url": "x"}}),
        ("{task: fetch, inputs: {url: x}}", {"task": "fetch", "inputs": {"url": "x"}}),
        ("{task: {inputs: {url: x}, task: fetch}}", {"task": "fetch", "inputs": {"url": "x"}}),
        ("{task: fetch, with: {inputs: {url: x}}}", {"task": "fetch", "inputs": {"url": "x"}}),
    ],
)
def test_a_task_is_written_in_many_ways_and_is_one(text: str, settings: dict[str, Any]) -> None:
    assert node(text).type == "task"
    assert node(text).settings == settings
    assert list(node(text).settings) == list(settings)


def test_what_stands_behind_a_type_is_its_settings_or_the_main_one() -> None:
    node("{wait: 5m}", **{"for": "5m"})
    node("{wait: {until: 3}}", until=3)
    node("{set: {stage: review, round: 1}}", values={"stage": "review", "round": 1})
    node("{set: {values: {stage: review}}}", values={"stage": "review"})
    node("{respond: {value: 1}}", value=1)
    node("{respond: {value: 1, unit: kg}}", value={"value": 1, "unit": "kg"})
    node("{noop: }")
    node("{type: noop}")
    node('{condition: {">": [{var: x}, 1]}}', when={">": [{"var": "x"}, 1]})
    node("{type: wait, inputs: {for: 3s}}", **{"for": "3s"})


def test_a_type_s_name_that_is_a_setting_of_another_is_that() -> None:
    node("{workflow: child, wait: false}", workflow="child", wait=False)
    node("{type: signal, signal: stop, to: r}", signal="stop", to="r")


def test_settings_beside_the_type_go_before_what_every_node_may_say_only_where_a_type_says_so() -> None:
    assert node("{wait_event: paid, timeout: 1h}").settings == {"event": "paid", "timeout": "1h"}
    assert node("{task: fetch, timeout: 1h}").options == {"timeout": {"attempt": "1h"}}
    found = node("{map: [1], concurrency: 3, retry: 2, do: {a: {noop: }}}")
    assert found.settings == {"items": [1], "concurrency": 3} and found.options == {"retry": {"attempts": 2}}
    assert node("{task: fetch, concurrency: 3}").options == {"concurrency": {"limit": 3}}
    found = node("{scope: {a: {noop: }}, compensate: none, critical: till}")
    assert found.settings == {"compensate": "none", "critical": "till"} and list(found.bodies) == ["do"]
    found = node("{scope: {a: {noop: }}, compensate: {b: {noop: }}}")
    assert not found.settings and set(found.bodies) == {"do", "compensate"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("retry: 3", {"retry": {"attempts": 3}}),
        (
            "retry: {first: 1.5, backoff: 2, max: 1m, jitter: false, only: A, never: [B, C]}",
            {
                "retry": {
                    "first": "1500ms",
                    "backoff": 2,
                    "max": "1m",
                    "jitter": False,
                    "only": ["A"],
                    "never": ["B", "C"],
                }
            },
        ),
        ("timeout: 30", {"timeout": {"attempt": "30s"}}),
        ("timeout: {total: 1h, heartbeat: 5s}", {"timeout": {"total": "1h", "heartbeat": "5s"}}),
        ("on_error: fail", {}),
        ("on_error: port", {"on_error": "port"}),
        ("cache: true", {"cache": {}}),
        ("cache: false", {}),
        ('cache: {key: ["{{ input.a }}"], ttl: 1h}', {"cache": {"key": ["{{ input.a }}"], "ttl": "1h"}}),
        ('concurrency: {limit: 2, key: "{{ x }}"}', {"concurrency": {"limit": 2, "key": "{{ x }}"}}),
        ("rate: 10/s", {"rate": "10/s"}),
        ("priority: 0", {}),
        ("priority: -5", {"priority": -5}),
        ("mock: {output: [1], port: error}", {"mock": {"output": [1], "port": "error"}}),
        ("mock: {error: no}", {"mock": {"error": "no"}}),
        ("cancels: b", {"cancels": ["b"]}),
        ("milestone: {after: b}", {"milestone": {"after": "b"}}),
        ("critical: till", {"critical": "till"}),
        ("split: 1", {}),
        ("split: 3", {"split": 3}),
        (
            "output: {retain: none, schema: {type: object}}",
            {"output": {"schema": {"type": "object"}, "retain": "none"}},
        ),
        ('delay: "{{ input.pause }}"', {"delay": "{{ input.pause }}"}),
        ("delay: 0.25", {"delay": "250ms"}),
    ],
)
def test_options_have_one_form(text: str, options: dict[str, Any]) -> None:
    assert node(f"{{task: fetch, {text}}}").options == options


@pytest.mark.parametrize(
    ("text", "join"),
    [
        ("all_strict", JoinDef(kind="all_strict")),
        ("first", JoinDef(kind="first", count=1)),
        ("{first: 2, rest: cancel}", JoinDef(kind="first", count=2, rest="cancel")),
        ("{when: true}", JoinDef(kind="when", when=True)),
        ("{threads: 3}", JoinDef(kind="threads", count=3)),
    ],
)
def test_joins_have_one_form(text: str, join: JoinDef) -> None:
    assert node(f"{{noop: , join: {text}}}").join == join


def test_edges_are_the_same_however_they_are_written() -> None:
    wanted = [("a", "out", "b"), ("a", "error", "c"), ("b", "out", "c")]
    ways = [
        ("{a: {noop: }, b: {noop: , needs: a}, c: {noop: , needs: ['a:error', b]}}", ""),
        ("{a: {noop: , next: {out: b, error: [c]}}, b: {noop: , next: [c]}, c: {noop: }}", ""),
        (
            "[{id: a, noop: }, {id: b, noop: }, {id: c, noop: , needs: [{from: b}, {from: a, port: error}]}]",
            "edges: [{from: a, to: b}]",
        ),
        (
            "{a: {noop: }, b: {noop: }, c: {noop: }}",
            "edges: [{from: b, to: c}, {from: 'a:error', to: c}, {from: a, port: out, to: b}]",
        ),
    ]
    graphs = [graph(nodes, given) for nodes, given in ways]
    assert all(edges(one) == wanted for one in graphs)
    assert len({one.digest for one in graphs}) == 1
    assert len({json.dumps(one.canonical) for one in graphs}) == 1


def test_an_id_with_a_colon_is_no_port() -> None:
    assert edges(graph("{'a:b': {noop: }, c: {noop: , needs: 'a:b'}, d: {noop: , needs: 'a:b:error'}}")) == [
        ("a:b", "out", "c"),
        ("a:b", "error", "d"),
    ]
    again = graph("{'a:b': {noop: }, a: {noop: }, c: {noop: , needs: 'a:b'}}")
    assert made(json.dumps(again.canonical)).body.edges[0].source == "a:b"


def test_back_edges_keep_their_limit() -> None:
    found = graph(
        "{a: {noop: }, b: {noop: , needs: a, next: [{to: a, port: error, back: true, max_visits: 5}]}}"
    ).body.edges
    assert [(edge.source, edge.port, edge.back, edge.max_visits) for edge in found] == [
        ("b", "error", True, 5),
        ("a", "out", False, None),
    ]


def test_bodies_of_containers_have_their_names() -> None:
    tried = node(
        "{try: {do: {a: {noop: }}, finally: {d: {noop: }}, catch: "
        "[{errors: X, as: e, do: {b: {noop: }}}, {do: [{id: c, noop: }]}]}}"
    )
    assert set(tried.bodies) == {"do", "catch.0", "catch.1", "finally"}
    assert tried.settings == {"catch": [{"errors": ["X"], "as": "e"}, {}]}
    raced = node("{race: {left: {a: {noop: }}, right: {nodes: {b: {noop: }}, result: 1}}}")
    assert list(raced.bodies) == ["left", "right"]
    assert raced.bodies["right"].result == 1 and raced.bodies["right"].has_result
    both = node("{parallel: {branches: {x: {a: {noop: }}}, concurrency: 1}}")
    assert list(both.bodies) == ["x"] and both.settings == {"concurrency": 1}


def test_places_lead_back_to_the_text() -> None:
    text = """stepwell: 1
id: shop
vars: {stage: start}
nodes:
  each:
    map: "{{ list.urls }}"
    do:
      page:
        task: fetch
        inputs:
          headers: [{name: x}]
        needs: first
      first: {noop: }
"""
    definition = made(text)
    assert str(definition.places["vars.stage"]) == "line 3, column 8, $.vars.stage"
    page = definition.body.nodes["each"].bodies["do"].nodes["page"]
    assert str(page.place) == "line 8, column 7, $.nodes.each.do.page"
    assert str(page.at("settings.inputs.headers.0.name")) == (
        "line 11, column 22, $.nodes.each.do.page.inputs.headers[0].name"
    )
    assert str(page.at("settings.task")) == "line 9, column 9, $.nodes.each.do.page.task"
    assert str(page.at("retry.first")) == "line 8, column 7, $.nodes.each.do.page"
    (edge,) = definition.body.nodes["each"].bodies["do"].edges
    assert edge.place.line == 12


FULL = """
stepwell: "1"
id: full
label: "2.1"
title: All of it
input: {type: object}
output: {type: object}
result: "{{ a }}"
vars: {z: 1, a: "{{ input.x }}"}
env: SHOP_URL
secrets: [TOKEN]
labels: {team: shop}
on_failure: cancel
deadline: 3600
priority: 3
defaults: {retry: 2, timeout: 5s}
triggers:
  - {schedule: "0 6 * * *", timezone: Europe/Berlin, catch_up: all, grace: 60}
  - {event: paid, where: {">": [{var: data.sum}, 1]}, name: paid, input: {x: "{{ event.data }}"}}
  - {webhook: /shop, secret: env.TOKEN}
ui: {zoom: 2}
nodes:
  - {id: a, type: fetch, with: {url: "{{ x }}"}, if: "{{ input.ok }}", disabled: true, title: A,
     description: "no\\nyes",
     tags: [x], ui: {x: 1}, compensate: {undo: {noop: }}}
  - id: "odd id"
    needs: a
    join: {first: 1, rest: block}
    try:
      do: {nodes: [{id: b, loop: 3, do: {c: {break: }}}], result: "{{ b.last }}"}
      catch: [{errors: ["*"], do: {d: {fail: {message: "012"}}}}]
      finally: {e: {parallel: {x: {f: {noop: }}, "yes": {g: {wait: 1s}}}}}
"""


def test_the_canonical_form_is_a_definition_of_itself() -> None:
    definition = made(FULL)
    assert definition.digest == digest(definition) and len(definition.digest) == 12
    for text in (json.dumps(definition.canonical), dump_yaml(definition.canonical)):
        again = made(text)
        assert again.canonical == definition.canonical
        assert json.dumps(again.canonical) == json.dumps(definition.canonical)
        assert again.digest == definition.digest
    assert definition_of(definition.canonical, TYPES).digest == definition.digest
    assert list(definition.canonical) == [
        *("stepwell", "id", "label", "title", "input", "output", "result", "env", "secrets", "vars", "labels"),
        *("on_failure", "deadline", "priority", "defaults", "triggers", "ui", "nodes", "edges"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: All of it", "description: All of it"),
        ('label: "2.1"', 'label: "2.2"'),
        ("tags: [x]", "tags: [y]"),
        ("zoom: 2", "zoom: 3"),
        ("ui: {x: 1}", "ui: {x: 2}"),
        ("title: A,", ""),
        ("3600", "3600s"),
    ],
)
def test_what_means_nothing_to_runs_leaves_the_digest_as_it_is(old: str, new: str) -> None:
    assert old in FULL
    assert made(FULL.replace(old, new)).digest == made(FULL).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("priority: 3", "priority: 4"),
        ("loop: 3", "loop: 4"),
        ("rest: block", "rest: cancel"),
        ("url: ", "uri: "),
        ("id: full", "id: other"),
        ("- {id: a, ", "- {id: z, "),
    ],
)
def test_what_means_something_to_runs_changes_the_digest(old: str, new: str) -> None:
    assert old in FULL
    assert made(FULL.replace(old, new)).digest != made(FULL).digest


def test_the_order_of_nodes_and_branches_is_part_of_a_definition() -> None:
    one, other = graph("{a: {noop: }, b: {noop: }}"), graph("{b: {noop: }, a: {noop: }}")
    assert one.digest != other.digest
    assert list(one.body.nodes) == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["no", "012", "2026-11-20", "a: b", "- a", "{{ x }}", "é\n  b\n", "", "*a", "x \n", "\t", "#", "1e3", "~"]
)
def test_any_text_comes_back_from_the_yaml_that_is_written(text: str) -> None:
    data = {"a": text, "b": [text, {"c": text}]}
    document = read(dump_yaml(data), Findings())
    assert document is not None and document.data == data


def test_a_body_by_itself_is_read_as_one_of_a_definition() -> None:
    findings = Findings()
    data = {
        "nodes": [{"id": "a", "task": "fetch"}, {"id": "b", "noop": None}],
        "edges": [{"from": "a", "to": "b"}],
        "result": 1,
    }
    body = parse_body(data, Places(path="$.patch"), TYPES, findings, TASKS)
    assert not findings.problems
    assert list(body.nodes) == ["a", "b"] and body.result == 1
    assert body.edges == (EdgeDef(source="a", target="b", place=body.edges[0].place),)
    assert body.nodes["a"].place.path == "$.patch.nodes[0]"
    assert parse_body(canonical_body(body), Places(), TYPES, findings).result == 1
    parse_body({"a": {"tsk": "x"}}, Places(), TYPES, findings)
    assert [problem.place.path for problem in findings.problems] == ["$.a.tsk"]
    parse_body({"a": object()}, Places(), TYPES, findings)
    assert findings.problems[-1].code == "not-json"


def test_containers_are_nested_so_deep_and_no_deeper() -> None:
    def nested(levels: int) -> Any:
        body: Any = {"a": {"noop": None}}
        for _ in range(levels):
            body = {"a": {"scope": {"do": body}}}
        return {"stepwell": 1, "id": "deep", "nodes": body}

    definition = definition_of(nested(MOST_NESTED), TYPES)
    assert load(json.dumps(definition.canonical), TYPES, limits=STORED).digest == definition.digest
    with pytest.raises(InvalidDefinition, match="nested deeper than 32 levels"):
        definition_of(nested(MOST_NESTED + 1), TYPES)


def test_very_many_problems_are_told_up_to_a_limit() -> None:
    text = "stepwell: 1\nid: g\nnodes:\n" + "".join(f"  n{i}: {{tsk: x, odd: y}}\n" for i in range(3000))
    with pytest.raises(InvalidDefinition) as caught:
        load(text, TYPES, tasks=[f"task_{i}" for i in range(10_000)])
    assert len(caught.value.problems) == MOST + 1
    assert {problem.code for problem in caught.value.problems} == {"no-type", "too-many-problems"}


def test_a_type_of_others_is_parsed_by_its_settings() -> None:
    class Settings(msgspec.Struct, forbid_unknown_fields=True):
        sku: str
        amount: int = 1

    class Stock(NodeType):
        name = "stock"
        Settings: Any

    Stock.Settings = Settings
    types = NodeTypes([Stock()])
    nodes = "{a: {stock: {sku: x}}, b: {stock: {sku: 3}}, c: {stock: {sku: '{{ x }}', amount: '{{ n }}'}}}"
    text = f"stepwell: 1\nid: g\nnodes: {nodes}"
    with pytest.raises(InvalidDefinition) as caught:
        load(text, types)
    assert [problem.message for problem in caught.value.problems] == [
        "stock: the setting 'sku' must be text, found a whole number"
    ]


def test_a_type_that_cannot_be_loaded_is_a_problem_of_the_node() -> None:
    class Broken:
        def names(self) -> list[str]:
            return ["broken"]

        def get(self, name: str) -> NodeType | None:
            from stepwell.errors import DefinitionError

            raise DefinitionError(f"node type {name!r} cannot be loaded")

    with pytest.raises(InvalidDefinition, match=r"nodes\.a: node type 'broken' cannot be loaded"):
        load("stepwell: 1\nid: g\nnodes: {a: {broken: 3}}", Broken())


def test_deep_settings_come_through_as_they_are() -> None:
    deep: Any = 1
    for _ in range(250):
        deep = [deep]
    data = {"stepwell": 1, "id": "deep", "nodes": {"a": {"task": "fetch", "inputs": {"x": deep}}}}
    definition = definition_of(data, TYPES)
    assert definition_of(definition.canonical, TYPES).digest == definition.digest
