"""Conditions and JSONLogic rules over names: what they read, whether they hold, how they are refused."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import DefinitionError, ExpressionError
from stepwell.expressions import logic
from stepwell.expressions.conditions import compile_condition, compile_logic
from stepwell.expressions.names import ChainNames, MappingNames

NAMES = MappingNames(
    {
        "fetch": {"status": 200, "body": {"items": [{"id": 1, "tags": ["x"]}, {"id": 2, "tags": []}], "name": "n"}},
        "input": {"n": 3, "zero": 0, "empty": [], "text": "0", "none": None, "limit": 1},
        "nodes": {"odd id": {"ok": True}},
    }
)


class Watched(MappingNames):
    """Names that remember what was asked for."""

    asked: tuple[str, ...] = ()

    def lookup(self, name: str) -> object:
        self.asked += (name,)
        return super().lookup(name)


HOLDS = [
    (True, True),
    (False, False),
    ("{{ input.n }}", True),
    ("{{ input.zero }}", False),
    ("{{ input.empty }}", False),
    ("{{ input.none }}", False),
    ("{{ input.text }}", True),
    ("{{ input.absent ?? false }}", False),
    ('{{ nodes["odd id"].ok }}', True),
    ("{{ true }}", True),
    ({"==": [{"var": "fetch.status"}, 200]}, True),
    ({"===": [{"val": ["nodes", "odd id", "ok"]}, True]}, True),
    ({"var": "input.absent.at.all"}, False),
    ({"==": [{"var": "absent"}, None]}, True),
    ({"var": ["absent", 7]}, True),
    ({"and": [{">": [{"var": "input.n"}, 2]}, {"!": {"var": "input.zero"}}]}, True),
    ({"some": [{"var": "fetch.body.items"}, {"==": [{"var": "id"}, 2]}]}, True),
    ({"some": [{"var": "fetch.body.items"}, {">": [{"var": "id"}, {"val": [[2], "input", "limit"]}]}]}, True),
    (
        {
            "==": [
                {"reduce": [{"var": "fetch.body.items"}, {"+": [{"var": "current.id"}, {"var": "accumulator"}]}, 0]},
                3,
            ]
        },
        True,
    ),
    ({"missing": ["input.n", "fetch.status"]}, False),
    ({"missing": {"merge": ["input.n", {"if": [{"var": "input.n"}, ["input.absent"], []]}]}}, True),
    ({"exists": ["fetch", "body", "absent"]}, False),
    ({"var": "fetch.body.items.1.id"}, True),
    ({"val": ["fetch", {"cat": ["sta", "tus"]}]}, True),
    ({"val": ["fetch", "body", {"var": "input.key"}]}, False),
    ({"==": ["{{ fetch.status }}", "{{ fetch.status }}"]}, True),
]


@pytest.mark.parametrize(("source", "expected"), HOLDS, ids=lambda one: repr(one)[:60])
def test_a_condition_holds_of_what_its_names_stand_for(source: object, expected: bool) -> None:
    assert compile_condition(source).holds(NAMES) is expected


REFERENCES = [
    ("{{ a.b ?? c }}", ["a.b?", "c"]),
    ({"==": [{"var": "a.b"}, {"var": "a.c"}]}, ["a.b", "a.c"]),
    ({"and": [{"var": "a"}, {"var": "a.b"}]}, ["a"]),
    ({"var": ["a.b", {"var": "c"}]}, ["a.b?", "c"]),
    ({"??": [{"var": "a"}, {"val": ["b", "x"]}, {"var": "c"}]}, ["a?", "b.x?", "c"]),
    (
        {"or": [{"exists": ["a", "b"]}, {"missing": ["c.d"]}, {"missing_some": [1, ["e", "f"]]}]},
        ["a.b?", "c.d?", "e?", "f?"],
    ),
    ({"and": [{"exists": ["a", "b"]}, {"var": "a.b"}]}, ["a.b"]),
    ({"map": [{"var": "xs"}, {"+": [{"var": "y"}, {"var": ""}]}]}, ["xs"]),
    ({"filter": [{"var": "xs"}, {"val": [[2], "limit", "n"]}]}, ["limit.n", "xs"]),
    ({"map": [{"var": "xs"}, {"val": [[1], "index"]}]}, ["xs"]),
    ({"map": [{"var": "xs"}, {"map": [{"var": "ys"}, {"val": [[4], "top"]}]}]}, ["top", "xs"]),
    (
        {"reduce": [{"var": "xs"}, {"+": [{"var": "current"}, {"var": "accumulator"}]}, {"var": "first"}]},
        ["first", "xs"],
    ),
    ({"sort": [{"var": "xs"}, {"var": "down"}, {"var": "k"}]}, ["down", "xs"]),
    ({"try": [{"var": "a"}, {"var": "b"}, {"var": "type"}]}, ["a", "b"]),
    ({"val": ["a", {"var": "k"}]}, ["a", "k"]),
    ({"var": {"if": [{"var": "k"}, "a.x", "b.y"]}}, ["a.x", "b.y", "k"]),
    ({"map": [{"var": "xs"}, {"val": [{"var": "k"}]}]}, ["xs"]),
    ({"map": [{"var": "xs"}, {"val": [[2], "a", {"var": "k"}]}]}, ["a", "xs"]),
    ({"val": ["nodes", "odd id", "x"]}, ['nodes["odd id"].x']),
    ({"==": [1, 1]}, []),
]


@pytest.mark.parametrize(("source", "expected"), REFERENCES, ids=lambda one: repr(one)[:60])
def test_what_a_condition_reads_is_known_in_advance(source: object, expected: list[str]) -> None:
    condition = compile_condition(source)
    assert [one.text + "?" * one.defaulted for one in condition.references] == expected
    assert condition.is_constant == (not expected)


def test_data_hold_what_the_rule_reads_and_nothing_else() -> None:
    class Untouchable:
        """Has no JSON form."""

    names = Watched({"a": {"b": {"c": 1}, "rest": Untouchable()}, "list": [{"x": 1}], "other": Untouchable()})
    condition = compile_condition({"and": [{"var": "a.b.c"}, {"var": "list.0.x"}, {"!": {"var": "absent.x"}}]})
    assert condition.holds(names)
    assert set(names.asked) == {"a", "list", "absent"}
    with pytest.raises(ExpressionError, match="a Untouchable is none"):
        compile_condition({"var": "a.rest"}).holds(names)


def test_a_rule_reads_through_scopes_as_a_template_does() -> None:
    chain = ChainNames(MappingNames({"item": 5}), NAMES)
    assert compile_condition({"<": [{"var": "input.n"}, {"var": "item"}]}).holds(chain)


REFUSED = [
    ({"vr": "x"}, "unknown operator `vr`; did you mean `var`?"),
    ({"if": [True, {"map": [1]}]}, "`map` takes exactly 2 arguments, not 1 (at /if/1)"),
    ({"a": 1, "b": 2}, "an object with 2 keys is not an operator call"),
    ({}, "an object is no condition: write true, false, one template"),
    ("yes", "the text 'yes' is no condition"),
    ("{{ a }} ", "the text '{{ a }} ' is no condition"),
    ("{{ a. }}", 'expected a name after "."'),
    (None, "null is no condition"),
    (1, "a number is no condition"),
    ([True], "a list is no condition"),
    ({"var": ""}, "does not say by name what it reads"),
    ({"map": [{"var": "xs"}, {"val": [[2]]}]}, "does not say by name what it reads"),
    ({"var": {"var": "name"}}, "does not say by name what it reads"),
    ({"missing": {"var": "names"}}, "does not say by name what it reads"),
    ({"==": [{"var": "a"}, float("nan")]}, "the rule is not JSON"),
    ({"==": [{"var": "a"}, {1, 2}]}, "the rule is not JSON"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED, ids=lambda one: repr(one)[:60])
def test_what_is_no_condition_is_refused_with_a_reason(source: object, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_condition(source, "nodes.a.if")
    assert str(caught.value).startswith("nodes.a.if: ")
    assert message in str(caught.value)
    assert isinstance(caught.value, DefinitionError)


def test_a_rule_that_fails_on_its_data_fails_aloud() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_condition({"==": [1, {"+": [{"var": "input.text"}, "x"]}]}, "join.when").holds(NAMES)
    assert str(caught.value) == (
        'join.when: the condition {"==":[1,{"+":[{"var":"input.text"},"x"]}]} fails on this data: '
        "a value is no number (in operator: +) (at /==/1)"
    )
    with pytest.raises(ExpressionError, match="has no field 'absent'"):
        compile_condition("{{ input.absent }}").holds(NAMES)


def test_a_rule_has_a_budget() -> None:
    doubling = {"reduce": [{"var": "xs"}, {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "x" * 64]}
    with pytest.raises(ExpressionError, match="it does more than 10,000,000 operations"):
        compile_condition(doubling).holds(MappingNames({"xs": list(range(40))}))


def test_a_rule_may_not_give_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "LONGEST_RESULT", 1000)
    with pytest.raises(ExpressionError, match="gives 1,002 characters of JSON, and 1,000 are the most"):
        logic.evaluate({"var": "x"}, {"x": "x" * 1000})


def test_nesting_ends_in_an_error_even_on_a_small_stack() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = {"a": [deep]}
    rule: object = {"var": "a"}
    for _ in range(400):
        rule = {"!": [rule]}
    caught: list[ExpressionError] = []

    def attempt() -> None:
        for source, data in (({"!!": {"var": "x"}}, deep), (rule, 1), ({"!!": [deep]}, 1)):
            try:
                compile_condition(source).holds(MappingNames({"x": data, "a": 1}))
            except ExpressionError as error:
                caught.append(error)

    # Since 3.13 code in C may recurse 10,000 levels deep, however small the stack.
    before = threading.stack_size(4 * 1024 * 1024 if sys.version_info >= (3, 13) else 512 * 1024)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert len(caught) == 3


def test_a_rule_that_asks_for_the_time_says_so() -> None:
    assert compile_condition({">": [{"now": []}, {"var": "input.due"}]}).uses_clock
    assert not compile_condition({">": [{"var": "input.now"}, 1]}).uses_clock
    assert not compile_condition({"==": [{"now": []}, 1]}).is_constant


def test_texts_that_look_like_templates_are_texts_and_are_told() -> None:
    condition = compile_condition({"==": ["{{ fetch.status }}", 200]})
    assert condition.lookalikes == ("{{ fetch.status }}",)
    assert condition.references == ()
    assert compile_condition("{{ a }}").lookalikes == ()


# -- rules that give values ------------------------------------------------------------------------------------------

GIVES = [
    ({"var": "user.name"}, "Ada"),
    ({"name": {"var": "user.name"}, "ok": {">": [{"var": "score"}, 50]}}, {"name": "Ada", "ok": True}),
    ({"name": {"var": "user.name"}}, {"name": "Ada"}),
    ({r"\type": "order", "id": {"var": "score"}}, {"type": "order", "id": 99}),
    ({"type": {"var": "score"}}, "number"),
    ({r"\type": {"var": "score"}}, {"type": 99}),
    ([{"var": "score"}, "text", {"nested": [{"var": "absent"}]}], [99, "text", {"nested": [None]}]),
    ("text", "text"),
    ({}, {}),
    ({"map": [{"var": "list"}, {"double": {"*": [{"var": ""}, 2]}}]}, [{"double": 2}, {"double": 4}]),
]


@pytest.mark.parametrize(("rule", "expected"), GIVES, ids=lambda one: repr(one)[:60])
def test_a_rule_gives_an_output_made_of_data(rule: object, expected: object) -> None:
    data = {"user": {"name": "Ada"}, "score": 99, "list": [1, 2], "absent_minded": 1}
    assert logic.evaluate(rule, data) == expected
    assert compile_logic(rule).value(MappingNames(data)) == expected


def test_a_text_as_data_is_a_text() -> None:
    assert logic.evaluate({"cat": [{"var": ""}, "!"]}, '{"a": 1}') == '{"a": 1}!'


def test_objects_are_gone_through_in_the_same_order_however_they_were_made() -> None:
    rule = {"map": [{"var": "x"}, {"val": [[1], "key"]}]}
    assert logic.evaluate(rule, {"x": {"b": 1, "a": 2}}) == logic.evaluate(rule, {"x": {"a": 2, "b": 1}}) == ["a", "b"]


def test_the_library_is_not_loaded_before_a_rule_is() -> None:
    program = """
import sys
import stepwell.expressions.conditions as conditions, stepwell.expressions.logic
conditions.compile_condition("{{ a }}"), conditions.compile_condition(True)
print("datalogic_py" in sys.modules)
conditions.compile_condition({"var": "a"})
print("datalogic_py" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# -- for all rules ---------------------------------------------------------------------------------------------------

roots = st.sampled_from(["a", "b", "xs", "k"])
paths = st.lists(st.sampled_from(["a", "b", "k", "0", "index"]), max_size=2)
leaves = (
    st.builds(lambda root, path: {"var": ".".join([root, *path])}, roots, paths)
    | st.builds(lambda root, path: {"val": [root, *path]}, roots, paths)
    | st.builds(lambda level, root, path: {"val": [[level], root, *path]}, st.integers(-3, 4), roots, paths)
    | st.builds(lambda root, path: {"exists": [root, *path]}, roots, paths)
    | st.builds(lambda root: {"missing": [root, root + ".a"]}, roots)
    | st.sampled_from([{"var": "current"}, {"var": "accumulator"}, {"var": "item.k"}, 1, "a", None, [1, 2], True])
)


def _operators(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    two = st.tuples(inner, inner).map(list)
    return (
        st.builds(
            lambda name, both: {name: both},
            st.sampled_from(["and", "or", "==", "??", "merge", "if", "try", "cat"]),
            two,
        )
        | st.builds(
            lambda name, both: {name: both},
            st.sampled_from(["map", "filter", "all", "some", "none", "group_by", "distinct"]),
            two,
        )
        | st.builds(lambda both, first: {"reduce": [*both, first]}, two, inner)
        | st.builds(lambda both, by: {"sort": [*both, by]}, two, inner)
        | st.builds(lambda part: {"val": ["a", part]}, inner)
        | st.builds(lambda name, default: {"var": [name, default]}, inner, inner)
        | st.builds(lambda names: {"missing": names}, inner)
        | st.builds(lambda one, two: {"x": one, "y": two}, inner, inner)
    )


rules = st.recursive(leaves, _operators, max_leaves=8)
items = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["a", "k", "b.a"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "k", "0"]), inner, max_size=2)
    ),
    max_leaves=6,
)
everything = st.dictionaries(st.sampled_from(["a", "b", "xs", "k", "index", "x"]), items, max_size=5)


@settings(deadline=None, max_examples=400)
@given(rules, everything)
def test_a_rule_gives_the_same_for_what_it_reads_as_for_all_data(rule: object, data: dict[str, object]) -> None:
    try:
        over = compile_logic(rule)
    except ExpressionError:
        return
    try:
        expected = logic.evaluate(rule, data)
    except ExpressionError:
        with pytest.raises(ExpressionError):
            over.value(MappingNames(data))
        return
    assert over.value(MappingNames(data)) == expected
