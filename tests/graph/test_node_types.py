"""What each node type does with its settings: outcomes, ports, and what it says of definitions that are wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest

from stepwell.errors import DefinitionError, ExpressionError
from stepwell.expressions.names import MappingNames
from stepwell.nodes.end import EndSettings
from stepwell.nodes.loop import LoopSettings
from stepwell.nodes.map import MapSettings, completion
from stepwell.nodes.parts import settings as reading
from stepwell.nodes.parts.errors import NodeFailed
from stepwell.nodes.parts.same import same
from stepwell.nodes.protocol import NodeType, Routed, View
from stepwell.nodes.registry import NodeTypes
from stepwell.nodes.try_ import Catch
from stepwell.nodes.wait import WaitSettings
from stepwell.testing.node_conformance import NotConforming, check_node_type, faults_of

TYPES = NodeTypes.standard()
SEEN = {"input": {"price": 120, "size": "M", "list": [1, 2], "name": "ann", "none": None}, "var": {"round": 2}}


def type_of(name: str) -> NodeType:
    found = TYPES.get(name)
    assert found is not None
    return found


def outcome(name: str, given: Mapping[str, Any], **seen: object) -> Routed:
    made = type_of(name)
    return made.evaluate(reading.read(made, given), MappingNames({**SEEN, **seen}))


def complaints(name: str, given: Mapping[str, Any]) -> dict[str, str]:
    said: dict[str, str] = {}
    type_of(name).check(given, said.__setitem__)
    return said


def roots(name: str, given: Mapping[str, Any]) -> set[str]:
    return {one.root for one in type_of(name).references(given)}


# -- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES.names())
def test_every_standard_type_conforms(name: str) -> None:
    found = type_of(name)
    check_node_type(found, found.__class__.__module__.rpartition(".")[2])


class LooseSettings(msgspec.Struct):
    """Some.

    Attributes:
        first: the first.
        third: there is none.
    """

    first: str = ""
    second: list[int] = []


class Loose(NodeType):
    """It keeps to nothing."""

    name: ClassVar[str] = "needs"
    summary = "does things"
    kind = "container"
    Settings = LooseSettings
    main = "zeroth"
    ports = ("a:b", "error")
    raw = ("fourth",)

    def check(self, settings: Mapping[str, Any], say: Any) -> None:
        say("nowhere", "something")


class Fickle(Loose):
    name = "fickle"
    kind = "pure"
    calls = 0

    def evaluate(self, settings: LooseSettings, view: View) -> Routed:
        Fickle.calls += 1
        settings.second.append(1)
        return Routed(Fickle.calls, ("elsewhere",))


def test_a_type_that_keeps_to_nothing_hears_of_everything() -> None:
    with pytest.raises(NotConforming) as caught:
        check_node_type(Loose(), "loose")
    text = str(caught.value)
    for part in (
        "'needs' is a key that every node may have",
        "found 'needs' in loose.py",
        "summary: one sentence",
        "types of other packages are pure or action",
        "'Ports:'",
        "```yaml",
        "forbid_unknown_fields=True",
        "frozen=True",
        "'second' is not explained",
        "'third' is explained, but there is no such setting",
        "main: one of first, second; found 'zeroth'",
        "raw: 'fourth' is no setting",
        "found 'a:b'",
        "every node has 'error'",
        "it says 'something' of 'nowhere'",
        "an unknown setting is taken",
    ):
        assert part in text


def test_a_pure_type_that_is_not_the_same_twice_is_found_out() -> None:
    text = "\n".join(faults_of(Fickle()))
    assert "evaluate: not the same twice" in text
    assert "evaluate: it changes its settings" in text
    assert "it leaves by ('elsewhere',)" in text


def test_what_is_no_type_is_no_type() -> None:
    assert "instance of NodeType" in faults_of(Loose)[0]  # type: ignore[arg-type]  # the mistake that is tested


def test_an_unknown_setting_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(DefinitionError, match=r"node ask of type human: .*'quorom' \(did you mean 'quorum'\?\)"):
        reading.read(type_of("human"), {"prompt": "?", "quorom": 2}, "node ask")
    with pytest.raises(DefinitionError, match=r"prompt"):
        reading.read(type_of("human"), {})


def test_numbers_are_text_where_text_is_wanted() -> None:
    assert reading.read(type_of("emit"), {"event": "e", "subject": 17}).subject == "17"
    with pytest.raises(DefinitionError, match="subject"):
        reading.read(type_of("emit"), {"event": "e", "subject": True})


def test_the_schema_says_what_a_setting_means_and_that_it_may_be_a_template() -> None:
    made = reading.schema(type_of("wait_signal"))
    assert made["additionalProperties"] is False
    assert made["required"] == ["signal"]
    assert made["properties"]["timeout"]["description"].startswith("a duration after which")
    assert {"type": "string", "pattern": r"\{\{"} in made["properties"]["signal"]["anyOf"]


# -- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (True, True),
        ({">": [{"var": "input.price"}, 100]}, True),
        ({">": [{"var": "input.price"}, 200]}, False),
        ("{{ input.name }}", True),
        ("{{ input.missing ?? false }}", False),
    ],
)
def test_a_condition_goes_one_of_two_ways(when: object, holds: bool) -> None:
    assert outcome("condition", {"when": when}) == Routed(holds, ("true" if holds else "false",))


def test_a_condition_that_fails_is_never_silently_false() -> None:
    with pytest.raises(ExpressionError, match="missing"):
        outcome("condition", {"when": "{{ input.missing }}"})


def test_a_condition_has_no_out() -> None:
    assert type_of("condition").ports_of({}) == ("true", "false")


@pytest.mark.parametrize(
    ("value", "port"),
    [("S", "small"), ("XS", "small"), ("L", "large"), (42, "default"), (None, "none"), (1, "one"), (1.0, "one")],
)
def test_a_switch_takes_the_case_with_the_value(value: object, port: str) -> None:
    cases = {"small": ["S", "XS"], "large": "L", "none": None, "yes": True, "one": 1}
    assert outcome("switch", {"value": value, "cases": cases}) == Routed(port, (port,))


def test_the_values_of_cases_may_be_templates() -> None:
    cases = {"same": "{{ input.size }}", "any": ["{{ var.round }}", 3]}
    assert outcome("switch", {"value": "M", "cases": cases}).ports == ("same",)
    assert outcome("switch", {"value": 2, "cases": cases}).ports == ("any",)
    assert roots("switch", {"value": 2, "cases": cases}) == {"input", "var"}


def test_a_switch_takes_the_first_rule_that_holds() -> None:
    over = [{"port": f"over{n}", "when": {">": [{"var": "input.price"}, n]}} for n in (200, 100, 50)]
    assert outcome("switch", {"cases": over}) == Routed("over100", ("over100",))
    assert type_of("switch").ports_of({"cases": over}) == ("over200", "over100", "over50", "default")
    assert roots("switch", {"cases": over}) == {"input"}


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"value": 1}, "cases"),
        ({"value": 1, "cases": {"error": 2}}, "cases.error"),
        ({"value": 1, "cases": {"default": 2}}, "cases.default"),
        ({"value": 1, "cases": [{"port": "a", "when": True}]}, "value"),
        ({"cases": {"a": 2}}, "value"),
        ({"cases": [{"port": "a"}]}, "cases[0]"),
        ({"cases": [{"port": "a", "when": {"no_such": 1}}]}, "cases.a"),
        ({"value": 1, "cases": {"a": "{{ nope"}}, "cases.a"),
    ],
)
def test_a_switch_that_cannot_work_is_said(given: dict[str, Any], place: str) -> None:
    assert place in complaints("switch", given)


def test_a_router_goes_all_ways_that_hold() -> None:
    routes = {"mail": "{{ input.name }}", "call": {">": [{"var": "input.price"}, 500]}, "note": True}
    assert outcome("router", {"routes": routes}) == Routed(["mail", "note"], ("mail", "note"))
    assert outcome("router", {"routes": {"no": False}}) == Routed([], ("default",))
    assert type_of("router").ports_of({"routes": routes}) == ("mail", "call", "note", "default")
    assert roots("router", {"routes": routes}) == {"input"}


def test_a_router_without_routes_or_with_a_reserved_one_is_said() -> None:
    assert "routes" in complaints("router", {"routes": {}})
    assert set(complaints("router", {"routes": {"error": True, "odd": "text"}})) == {"routes.error", "routes.odd"}


@pytest.mark.parametrize(
    ("one", "other", "are"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        ({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1], [True], False),
        ([1, 2], [1], False),
    ],
)
def test_values_are_the_same_as_json(one: object, other: object, are: bool) -> None:
    assert same(one, other) is are


# -- making values --------------------------------------------------------------------------------------------------


def test_set_gives_the_variables() -> None:
    assert outcome("set", {"values": {"stage": "review", "n": 1}}) == Routed({"stage": "review", "n": 1})
    assert "values" in complaints("set", {"values": {}})


def test_log_gives_the_line() -> None:
    line = outcome("log", {"message": {"a": 1}, "fields": {"shop": 2}})
    assert line.output == {"message": '{"a":1}', "level": "info", "fields": {"shop": 2}}
    with pytest.raises(DefinitionError, match="level"):
        outcome("log", {"message": "x", "level": "loud"})


def test_noop_and_respond_and_end() -> None:
    assert outcome("noop", {}) == Routed()
    assert outcome("respond", {"value": {"ok": True}}) == Routed({"ok": True})
    assert outcome("end", {"result": 7}) == Routed(7, ())
    assert outcome("break", {}) == Routed(None, ())
    assert EndSettings().ends_run
    assert not EndSettings(kind="body").ends_run
    assert type_of("end").ports_of({}) == type_of("break").ports_of({}) == type_of("fail").ports_of({}) == ()


def test_fail_raises_the_error_that_it_is_told() -> None:
    with pytest.raises(NodeFailed, match="only 3 left") as caught:
        outcome("fail", {"message": "only 3 left", "type": "OutOfStock", "details": {"left": 3}})
    failure = caught.value.failure()
    assert (failure.type, failure.message, failure.retryable) == ("OutOfStock", "only 3 left", False)
    assert failure.kinds[0].endswith(".NodeFailed")
    assert "stepwell.errors.StepwellError" in failure.kinds
    assert caught.value.details == {"left": 3}


# -- transform ------------------------------------------------------------------------------------------------------


def test_a_template_is_the_simplest_transform() -> None:
    assert outcome("transform", {"value": {"a": [1]}}) == Routed({"a": [1]})
    assert outcome("transform", {"value": None}) == Routed(None)


def test_jsonlogic_transforms_what_names_stand_for_or_data() -> None:
    rule = {"sum": {"+": [{"var": "input.price"}, {"var": "var.round"}]}, "all": [{"var": "input.name"}, "fixed"]}
    assert outcome("transform", {"logic": rule}) == Routed({"sum": 122, "all": ["ann", "fixed"]})
    assert roots("transform", {"logic": rule}) == {"input", "var"}
    assert outcome("transform", {"logic": {"var": "a"}, "data": {"a": 5}}) == Routed(5)
    assert roots("transform", {"logic": {"var": "a"}, "data": "{{ input }}"}) == set()


@pytest.mark.parametrize("rule", [{"now": []}, {"var": {"var": "input.name"}}])
def test_a_rule_must_say_what_it_reads_and_give_the_same_each_time(rule: object) -> None:
    assert "logic" in complaints("transform", {"logic": rule})


@pytest.mark.parametrize(
    ("language", "expression", "result"),
    [
        ("jmespath", "products[?price > `1`].name", ["b"]),
        ("jmespath", "nothing", None),
        ("jsonata", "$sum(products.price)", 3),
        ("jsonata", "products[price > 1].{'n': name}", {"n": "b"}),
        ("jsonata", "products.name", ["a", "b"]),
        ("jsonata", "$pad($join(products.name, '-'), -5, '#')", "##a-b"),
        ("jsonata", "$replace('foo', /o+/, 'x')", "fx"),
        ("jsonata", "nothing", None),
        ("jsonata", "{'half': 1/2, 'whole': 4/2}", {"half": 0.5, "whole": 2}),
    ],
)
def test_queries_give_plain_json(language: str, expression: str, result: object) -> None:
    about = {"products": [{"name": "a", "price": 1}, {"name": "b", "price": 2}]}
    found = outcome("transform", {language: expression, "data": about}).output
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("language", "expression"),
    [
        ("jmespath", "|".join(["[@,@]"] * 40)),
        ("jmespath", "|".join(["[@[],@[]][]"] * 40)),
        ("jsonata", "$pad('x', 1000000000)"),
        ("jsonata", "[1..10000000]"),
        ("jsonata", "($f := function($s,$n){$n=0?$s:$f($s&$s,$n-1)}; $f('x',50))"),
        ("jsonata", "($f := function($n){1 + $f($n)}; $f(1))"),
        ("jsonata", "$join([1..60000].('x'), $pad('y', 1000))"),
    ],
)
def test_a_query_that_costs_too_much_is_stopped(language: str, expression: str) -> None:
    with pytest.raises(ExpressionError, match=rf"the {language} expression .* takes"):
        outcome("transform", {language: expression, "data": list(range(200))})


def test_a_text_is_measured_before_it_is_joined() -> None:
    with pytest.raises(ExpressionError, match="takes a text of more than"):
        outcome("transform", {"jmespath": "join(@[0], @[1])", "data": ["x" * 100_000, ["y"] * 1000]})


@pytest.mark.parametrize("call", ["$now()", "$millis()", "$random()", "$shuffle([1])", "$eval('1')"])
def test_a_query_cannot_give_something_else_each_time(call: str) -> None:
    with pytest.raises(ExpressionError, match="something else each time"):
        outcome("transform", {"jsonata": call, "data": 1})


@pytest.mark.parametrize(
    ("language", "expression", "said"),
    [
        ("jmespath", "sum(@)", "fails on these data"),
        ("jsonata", "'x' + 1", "fails on these data"),
        ("jsonata", "1/0", "fails on these data"),
        ("jsonata", "function($x){$x}", "which is no JSON"),
    ],
)
def test_a_query_that_fails_says_which(language: str, expression: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=said):
        outcome("transform", {language: expression, "data": ["a"]})


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "value"),
        ({"value": 1, "logic": 2}, "logic"),
        ({"value": 1, "data": 2}, "data"),
        ({"jmespath": "a"}, "data"),
        ({"jmespath": "a[", "data": 1}, "jmespath"),
        ({"jsonata": "a[", "data": 1}, "jsonata"),
        ({"jsonata": 7, "data": 1}, "jsonata"),
    ],
)
def test_a_transform_that_cannot_work_is_said(given: dict[str, Any], place: str) -> None:
    assert place in complaints("transform", given)


@pytest.mark.parametrize("language", ["jsonata", "jmespath"])
def test_without_the_extra_the_error_names_it(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, language, None)
    with pytest.raises(DefinitionError, match=r"pip install 'stepwell\[transforms\]'"):
        outcome("transform", {language: f"unheard_of_{language}", "data": 1})


# -- waiting and starting -------------------------------------------------------------------------------------------


def test_a_wait_knows_when_it_is_over() -> None:
    assert WaitSettings(for_="90s").due(1_000_000) == 91_000_000
    assert WaitSettings(for_=1.5).due(0) == 1_500_000
    assert WaitSettings(until="1970-01-02T01:00:00+01:00").due(5) == 86_400_000_000
    assert WaitSettings(until=10).due(99) == 10_000_000
    for wrong in (WaitSettings(), WaitSettings(for_=1, until=2), WaitSettings(until="2026-01-01T00:00:00")):
        with pytest.raises(DefinitionError):
            wrong.due(0)


@pytest.mark.parametrize(
    ("name", "given", "places"),
    [
        ("wait", {}, {"for"}),
        ("wait", {"for": "1x"}, {"for"}),
        ("wait", {"for": "{{ input.pause }}"}, set()),
        ("wait", {"until": "tomorrow"}, {"until"}),
        ("wait", {"until": "2026-11-20T08:00:00"}, {"until"}),
        ("wait", {"until": 1_795_000_000_000}, {"until"}),
        ("wait_event", {"event": "e", "where": {"no_such": 1}}, {"where"}),
        ("wait_event", {"event": "e", "where": {"==": [{"var": "data.id"}, "{{ order.id }}"]}, "timeout": "1d"}, set()),
        ("wait_event", {"event": "e", "transient": True, "since": "2026-01-01T00:00:00Z"}, {"since"}),
        ("wait_signal", {"signal": "s", "timeout": "-1s"}, {"timeout"}),
        ("human", {"prompt": "?", "quorum": 0}, {"quorum"}),
        ("human", {"prompt": "?", "quorum": 3, "who": ["a", "b"]}, {"quorum"}),
        ("human", {"prompt": "?", "agree": "yes"}, {"agree"}),
        ("human", {"prompt": "?", "form": "text", "reminders": ["1h", "soon"]}, {"form", "reminders[1]"}),
        ("task", {"task": "{{ input.name }}"}, {"task"}),
        ("workflow", {"workflow": "{{ input.name }}"}, {"workflow"}),
    ],
)
def test_what_is_known_before_the_run_is_checked(name: str, given: dict[str, Any], places: set[str]) -> None:
    assert set(complaints(name, given)) == places


# -- containers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "places"),
    [
        ("loop", {}, {"for"}),
        ("loop", {"for": 3, "foreach": []}, {"foreach"}),
        ("loop", {"for": -1}, {"for"}),
        ("loop", {"while": True}, {"max"}),
        ("loop", {"do_while": "no condition", "max": 3}, {"do_while"}),
        ("loop", {"do_while": {"!": [{"var": "a.done"}]}, "max": 0, "interval": "1x"}, {"max", "interval"}),
        ("map", {}, {"items"}),
        ("map", {"accept": "more"}, set()),
        ("map", {"items": [], "count": 2}, {"items"}),
        ("map", {"count": -1, "concurrency": 0}, {"count", "concurrency"}),
        ("map", {"items": "{{ a }}", "tolerate": "lots"}, {"tolerate"}),
        ("map", {"items": "{{ a }}", "tolerate": "5%"}, set()),
        ("map", {"items": [], "complete_when": {"done": -1}}, {"complete_when"}),
        ("map", {"items": [], "stay_open": True}, {"stay_open"}),
        ("map", {"items": [], "key": "{{ item."}, {"key"}),
        ("parallel", {"count": 1, "items": []}, {"count"}),
        ("parallel", {"concurrency": 0}, {"concurrency"}),
        ("try", {"catch": [{"errors": "*"}, {"errors": ["A"]}]}, {"catch[1]"}),
        ("try", {"catch": [{"errors": []}]}, {"catch[0].errors"}),
        ("scope", {"timeout": "soon", "cancel_on": {}}, {"timeout", "cancel_on"}),
        ("scope", {"cancel_on": {"event": "stop"}}, set()),
    ],
)
def test_a_container_that_cannot_work_is_said(name: str, given: dict[str, Any], places: set[str]) -> None:
    assert set(complaints(name, given)) == places


def test_a_loop_goes_over_lists_and_mappings() -> None:
    assert LoopSettings(foreach=["a"]).items == ["a"]
    assert LoopSettings(foreach={"k": 1}).items == [{"key": "k", "value": 1}]
    assert LoopSettings(for_=3).items is None


def test_a_map_has_its_items() -> None:
    assert MapSettings(items={"k": 1}).elements() == [{"key": "k", "value": 1}]
    assert MapSettings(count=3).elements() == [0, 1, 2]
    assert MapSettings(accept="more").elements() == []
    for wrong in (MapSettings(), MapSettings(items=[], count=1), MapSettings(count=-1)):
        with pytest.raises(DefinitionError):
            wrong.elements()


@pytest.mark.parametrize(("tolerate", "total", "many"), [(0, 9, 0), (3, 9, 3), ("5%", 99, 4), ("100%", 7, 7)])
def test_a_map_tolerates_a_number_or_a_share(tolerate: int | str, total: int, many: int) -> None:
    assert MapSettings(tolerate=tolerate).tolerated(total) == many


@pytest.mark.parametrize("tolerate", [-1, "5", "101%", "x%"])
def test_nothing_else_is_tolerated(tolerate: int | str) -> None:
    with pytest.raises(DefinitionError, match="tolerate"):
        MapSettings(tolerate=tolerate).tolerated(10)


def test_a_map_is_done_by_a_count_or_a_condition() -> None:
    seen = MappingNames({"map": {"done": 3, "succeeded": 2, "failed": 1, "total": 9}})
    assert completion({"done": 3}).holds(seen)
    assert not completion({"succeeded": 3}).holds(seen)
    assert completion({">": [{"var": "map.failed"}, 0]}).holds(seen)


def test_references_of_containers_are_what_is_outside() -> None:
    given = {"complete_when": {">": [{"var": "map.done"}, {"var": "var.enough"}]}, "key": "{{ item.id }}-{{ input.n }}"}
    assert roots("map", given) == {"var", "input"}
    assert roots("loop", {"while": {"<": [{"var": "loop.index"}, {"var": "status.left"}]}}) == {"status"}


@pytest.mark.parametrize(
    ("errors", "names", "timed_out", "takes"),
    [
        ("*", ("ValueError",), False, True),
        (["timeout"], ("TimeoutError",), True, True),
        (["timeout"], ("ValueError",), False, False),
        (["NotFound"], ("shop.errors.NotFound", "Exception"), False, True),
        (["shop.errors.NotFound"], ("shop.errors.NotFound",), False, True),
        (["LookupError"], ("KeyError", "LookupError"), False, True),
        ("OutOfStock", ("ValueError",), False, False),
    ],
)
def test_a_catch_is_for_errors_by_name(
    errors: str | list[str], names: tuple[str, ...], timed_out: bool, takes: bool
) -> None:
    assert Catch(errors=errors).takes(names, timed_out) is takes


def test_a_race_is_left_by_the_name_of_a_branch() -> None:
    assert type_of("race").ports_of({"branches": {"paid": {}, "late": {}}}) == ("out", "paid", "late")
    assert type_of("race").ports_of({}) == ("out",)
