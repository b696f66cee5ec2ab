"""Does a diff of two definitions say what changed, where, and nothing else?"""

from __future__ import annotations

from typing import Any

from stepwell.graph.diff import Diff, diff
from stepwell.graph.parse import load
from stepwell.nodes.registry import NodeTypes

TYPES = NodeTypes.standard()

BASE = """
stepwell: 1
id: shop
label: "1"
input: {type: object, properties: {shop: {type: string}}}
nodes:
  list: {task: list_products, inputs: {shop: "{{ input.shop }}"}, retry: {attempts: 5}}
  each:
    needs: list
    map: "{{ list.urls }}"
    do:
      page: {task: fetch, inputs: {url: "{{ item }}"}}
      image: {task: resize, needs: page}
  done: {noop: {}, needs: each}
"""


def changed(*replacements: tuple[str, str], base: str = BASE) -> Diff:
    text = base
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return diff(load(base, TYPES), load(text, TYPES))


def told(found: Diff) -> list[str]:
    return str(found).splitlines()


def test_the_same_definition_written_otherwise_has_no_differences() -> None:
    edges = "edges: [{from: list, to: each}, {from: each, to: done}]\n"
    found = changed(("    needs: list\n", ""), (", needs: each", ""), ("\nid: shop", f"\n{edges}id: shop"))
    assert not found
    assert str(found) == ""


def test_a_changed_setting_is_named_with_its_path_and_both_values() -> None:
    found = changed(("attempts: 5", "attempts: 6"))
    assert told(found) == ["~ node list: $.nodes.list.retry.attempts: 5 → 6"]
    [change] = found.changes
    assert (change.kind, change.of, change.name, change.before, change.after) == ("changed", "setting", "list", 5, 6)


def test_a_node_inside_a_container_is_named_by_the_way_to_it() -> None:
    found = changed(("task: fetch, inputs: {url: ", "task: get, inputs: {from: "))
    assert told(found) == [
        '~ node each.do.page: $.nodes.each.do.nodes.page.with.task: "fetch" → "get"',
        '+ node each.do.page: $.nodes.each.do.nodes.page.with.inputs.from: "{{ item }}"',
        '- node each.do.page: $.nodes.each.do.nodes.page.with.inputs.url: "{{ item }}"',
    ]


def test_nodes_and_edges_that_came_and_went_are_told() -> None:
    found = changed(("  done: {noop: {}, needs: each}", '  sorry: {log: "oops", needs: "each:error"}'))
    assert told(found) == [
        "+ node sorry (log)",
        "- node done (noop)",
        "+ edge each:error → sorry",
        "- edge each → done",
    ]
    paths = [change.path for change in found.changes]
    assert paths == ["$.nodes.sorry", "$.nodes.done", "$.edges", "$.edges"]


def test_another_type_of_a_node_is_a_change_of_that_node() -> None:
    assert told(changed(("done: {noop: {}", 'done: {log: "x"'))) == [
        '~ node done: $.nodes.done.type: "noop" → "log"',
        '+ node done: $.nodes.done.with: {"message":"x"}',
    ]


def test_an_edge_that_may_be_taken_more_often_is_a_changed_edge() -> None:
    base = BASE + "  again: {condition: true, needs: done}\n"
    base += "edges: [{from: again, port: 'true', to: done, back: true, max_visits: 3}]\n"
    [line] = told(changed(("max_visits: 3", "max_visits: 4"), base=base))
    assert line.startswith("~ edge again:true → done: ")
    assert line.endswith('{"back":true,"max_visits":3} → {"back":true,"max_visits":4}')


def test_what_stands_beside_the_nodes_is_compared_too() -> None:
    found = changed(("{type: string}", "{type: integer}"), ('label: "1"', 'label: "2"\nresult: "{{ each.total }}"'))
    assert told(found) == [
        '~ $.label: "1" → "2"',
        '~ $.input.properties.shop.type: "string" → "integer"',
        '+ $.result: "{{ each.total }}"',
    ]


def test_values_that_python_takes_for_equal_are_told_apart() -> None:
    assert told(changed(('"{{ input.shop }}"', "1")))[0].endswith('"{{ input.shop }}" → 1')
    base = BASE.replace('"{{ input.shop }}"', "1")
    assert told(changed(("shop: 1}", "shop: true}"), base=base)) == [
        "~ node list: $.nodes.list.with.inputs.shop: 1 → true"
    ]


def test_long_values_are_cut_in_the_text_only() -> None:
    long = "x" * 500
    found = changed(("{{ item }}", long))
    assert max(map(len, told(found))) < 250
    values: list[Any] = [change.after for change in found.changes]
    assert long in values
