"""What a definition is compiled to: numbers, joins, cycles, sinks, what is kept, options written out."""

from __future__ import annotations

import gc
import itertools
import random
from typing import Any

import pytest
from compiling import SHOP, TYPES, compiled, node, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.graph.compile import Surroundings, compile_body, compile_plan
from stepwell.graph.cycles import components, in_order, shortest_cycle, shown
from stepwell.graph.definition import BodyDef, Definition, EdgeDef, NodeDef
from stepwell.graph.guards import ALWAYS, Guards
from stepwell.graph.plan import MAX_VISITS, Cache, Limits, Milestone, Plan, PlanBody
from stepwell.graph.problems import Findings, InvalidDefinition
from stepwell.graph.retries import retry_of
from stepwell.model.failure import Failure


def names(body: PlanBody, indices: tuple[int, ...]) -> list[str]:
    return [body.nodes[index].id for index in indices]


# -- shape ----------------------------------------------------------------------------------------------------------


def test_nodes_and_edges_are_numbers_in_the_order_in_which_they_are_written() -> None:
    body = compiled("""
  a: {condition: "{{ input.x }}"}
  b: {noop: {}, needs: "a:true"}
  c: {noop: {}, needs: [b, "a:false"]}
""").body
    assert [one.id for one in body.nodes] == ["a", "b", "c"]
    assert body.by_id == {"a": 0, "b": 1, "c": 2}
    assert [(edge.source, edge.port, edge.target) for edge in body.edges] == [
        (0, "true", 1),
        (0, "false", 2),
        (1, "out", 2),
    ]
    assert body.nodes[0].outs == {"true": (0,), "false": (1,)}
    assert body.nodes[2].ins == (1, 2)
    assert names(body, body.starts) == ["a"] and names(body, body.sinks) == ["c"]
    assert all(edge.tells_dead and edge.leaves == -1 for edge in body.edges)


def test_a_node_that_an_edge_goes_back_to_joins_each_and_others_all() -> None:
    body = compiled("""
  a: {noop: {}, needs: [{from: b, port: "false", back: true, max_visits: 7}]}
  b: {condition: "{{ input.x }}", needs: a}
  c: {noop: {}, needs: "b:true"}
""").body
    assert [one.join.kind for one in body.nodes] == ["each", "all", "all"]
    back, forward, exit = body.edges
    assert (back.back, back.max_visits, back.tells_dead, back.leaves) == (True, 7, False, -1)
    assert (forward.back, forward.max_visits, forward.tells_dead) == (False, MAX_VISITS, True)
    assert (exit.leaves, exit.tells_dead) == (0, False)
    assert body.exits == ((2,),)
    assert [one.cycle for one in body.nodes] == [0, 0, -1]
    assert names(body, body.starts) == ["a"]


def test_each_cycle_has_a_number_of_its_own() -> None:
    body = compiled("""
  a: {noop: {}, needs: [{from: b, port: "false", back: true}]}
  b: {condition: "{{ input.x }}", needs: a}
  c: {noop: {}, needs: ["b:true", {from: d, port: "false", back: true}]}
  d: {condition: "{{ input.y }}", needs: c}
  e: {noop: {}, needs: "d:true"}
""").body
    cycles = [one.cycle for one in body.nodes]
    assert cycles[0] == cycles[1] != cycles[2] == cycles[3] and cycles[4] == -1
    assert [len(exits) for exits in body.exits] == [1, 1]


def test_error_handlers_are_no_sinks_unless_there_are_no_others() -> None:
    body = compiled("""
  a: {task: work}
  b: {task: work, needs: a}
  sorry: {noop: {}, needs: ["a:error", "b:error"], join: any}
  after: {noop: {}, needs: sorry}
""").body
    assert names(body, body.sinks) == ["b"]
    assert [one.on_error for one in body.nodes] == ["port", "port", "fail", "fail"]
    body = compiled("  a: {task: work}\n  b: {noop: {}, needs: [a, 'a:error']}").body
    assert names(body, body.sinks) == ["b"]
    body = compiled("  a: {human: {prompt: x, timeout: 1h}}\n  b: {noop: {}, needs: 'a:timeout'}").body
    assert names(body, body.sinks) == ["a"]


def test_outputs_are_kept_that_somebody_reads() -> None:
    plan = compiled("""
  a: {noop: {}}
  b: {set: {x: "{{ a }}"}, needs: a}
  c: {noop: {}, needs: b, if: {"==": [{var: b.x}, 1]}}
  each: {map: "{{ input.l }}", needs: c, do: {d: {noop: {}}, e: {set: {x: "{{ a }}"}, needs: d}}}
  f: {noop: {}, needs: each}
  g: {noop: {}, needs: f, output: {retain: run}}
  h: {noop: {}, needs: g}
""")
    kept = {one.id: one.keeps for one in plan.body.nodes}
    assert kept == {"a": True, "b": True, "c": False, "each": False, "f": False, "g": True, "h": True}
    inner = node(plan, "each").bodies["do"]
    assert {one.id: one.keeps for one in inner.nodes} == {"d": False, "e": True}
    plan = compiled("  a: {noop: {}}\n  b: {noop: {}, needs: a}", head="result: '{{ a }}'")
    assert [one.keeps for one in plan.body.nodes] == [True, False]
    assert plan.body.result is not None and plan.body.result.source == "{{ a }}"
    plan = compiled("  a: {set: {x: 1}, output: {retain: none}}")
    assert [one.keeps for one in plan.body.nodes] == [False]


def test_what_a_loop_s_condition_reads_is_kept_in_its_body() -> None:
    plan = compiled("""
  again:
    loop: {do_while: {"!": [{var: a.done}]}, max: 5}
    do: {a: {noop: {}}, b: {noop: {}, needs: a}}
""")
    assert [one.keeps for one in node(plan, "again").bodies["do"].nodes] == [True, True]


def test_victims_are_what_leads_to_the_join_only() -> None:
    body = compiled("""
  s: {noop: {}}
  a: {noop: {}, needs: s}
  b: {noop: {}, needs: s}
  b2: {noop: {}, needs: b}
  c: {noop: {}, needs: s}
  other: {noop: {}, needs: c}
  j: {noop: {}, needs: [a, b2, c], join: {first: 1, rest: cancel}}
""").body
    assert names(body, node(body, "j").victims) == ["a", "b", "b2"]
    assert node(body, "j").join.rest == "cancel"


def test_a_general_join_knows_all_that_may_still_reach_it() -> None:
    body = compiled("""
  a: {noop: {}}
  b: {noop: {}, needs: a}
  c: {noop: {}, needs: a}
  j: {noop: {}, needs: [b, c], join: general}
  k: {noop: {}, needs: j}
""").body
    assert body.has_general and node(body, "j").ancestors == 0b0111
    assert node(body, "k").ancestors == 0


def test_a_disabled_node_is_one_whose_condition_is_false() -> None:
    plan = compiled("  a: {noop: {}, disabled: true}\n  b: {noop: {}}")
    condition = node(plan, "a").condition
    assert condition is not None and condition.source is False
    assert node(plan, "b").condition is None


# -- options --------------------------------------------------------------------------------------------------------


def test_defaults_go_to_nodes_that_make_attempts_and_their_own_options_come_first() -> None:
    plan = compiled(
        """
  a: {task: work}
  b: {task: work, retry: {attempts: 7}, timeout: 5s, needs: a}
  c: {human: x, needs: b}
""",
        head="defaults: {retry: {attempts: 3, first: 2s, jitter: false}, timeout: {attempt: 1m, total: 1h}}",
    )
    a, b, c = plan.body.nodes
    assert a.retry is not None and b.retry is not None
    assert (a.retry.attempts, a.retry.first, a.retry.jitter) == (3, 2_000_000, False)
    assert (b.retry.attempts, b.retry.first) == (7, 2_000_000)
    assert a.limits == Limits(60_000_000, 3_600_000_000) and b.limits == Limits(5_000_000, 3_600_000_000)
    assert c.retry is None and c.limits == Limits()


def test_options_are_written_out() -> None:
    plan = compiled("""
  z: {noop: {}}
  a:
    task: work
    needs: z
    cache: {key: "{{ z }}", ttl: 1h}
    concurrency: {limit: 2, key: "{{ input.shop }}"}
    rate: 10/s
    priority: 5
    idempotency_key: "k-{{ input.shop }}"
    delay: 5s
    critical: till
    split: 3
    milestone: {after: z}
    cancels: z
    mock: {output: {x: "{{ z }}"}, port: later}
    output: {schema: {type: object}}
  m: {map: "{{ input.l }}", do: {n: {noop: {}}}}
  o: {noop: {}, completes: m, needs: "a:later"}
""")
    a = node(plan, "a")
    assert isinstance(a.cache, Cache) and a.cache.ttl == 3_600_000_000
    assert a.cache.key is not None and a.cache.key.source == "{{ z }}"
    assert a.concurrency == 2 and a.concurrency_key is not None and a.rate == "10/s" and a.priority == 5
    assert a.idempotency_key is not None and a.idempotency_key.source == "k-{{ input.shop }}"
    assert a.delay is not None and a.delay.is_constant and a.critical == "till" and a.split == 3
    assert a.milestone == Milestone(after=0) and a.cancels == (0,) and plan.body.has_milestones
    assert a.mock is not None and a.mock.port == "later" and a.mock.output is not None
    assert a.output_schema == {"type": "object"} and a.task == "work"
    assert node(plan, "o").completes == (2,)


def test_a_failure_port_is_implied_by_its_edge_and_a_timeout_is_none() -> None:
    plan = compiled("""
  a: {task: work, on_error: port}
  b: {task: work, timeout: 5s}
  c: {noop: {}, needs: "b:timeout"}
""")
    assert [one.on_error for one in plan.body.nodes] == ["port", "fail", "fail"]


def test_the_plan_names_its_tasks_and_workflows() -> None:
    plan = compiled("""
  a: {task: work}
  b: {map: "{{ input.l }}", do: {c: {task: send, inputs: {to: []}}, d: {workflow: other}}}
""")
    assert plan.tasks == {"work", "send"} and plan.workflows == {"other"}
    assert plan.name == "shop" and plan.version == plan.definition.digest


def test_settings_that_are_no_templates_stay_as_they_are() -> None:
    plan = compiled("""
  a: {condition: "{{ input.x }}"}
  b: {switch: "{{ input.y }}", cases: {one: "{{ input.z }}"}}
""")

    class Nothing:
        def lookup(self, name: str) -> object:
            return {"y": 5}

    assert node(plan, "a").settings.render(Nothing()) == {"when": "{{ input.x }}"}
    assert node(plan, "b").settings.render(Nothing()) == {"value": 5, "cases": {"one": "{{ input.z }}"}}


def test_variables_have_first_values() -> None:
    plan = compiled("  a: {noop: {}}", head="vars: {n: 1, s: '{{ input.shop }}'}")
    assert plan.vars["n"].is_constant and not plan.vars["s"].is_constant


def test_retries_know_errors_by_name_with_or_without_module() -> None:
    retry = retry_of({"attempts": 5, "jitter": False}, {"only": ["NotFound", "timeout"], "never": ["shop.Gone"]})
    assert retry is not None

    def again(failure: Failure) -> bool:
        return retry.retry_at(failure, 1, now=0, started_at=0, chance=0) is not None

    assert again(Failure("shop.NotFound", "")) and again(Failure("shop.Lost", "", kinds=("shop.NotFound",)))
    assert again(Failure("TimeoutError", "", timed_out=True))
    assert not again(Failure("ValueError", "")) and not again(Failure("shop.Gone", "", kinds=("shop.NotFound",)))
    anything = retry_of({"attempts": 2, "only": ["*"]})
    assert anything is not None
    assert anything.retry_at(Failure("X", ""), 1, now=0, started_at=0, chance=0) is not None
    assert retry_of(None, None) is None


# -- bodies by themselves -------------------------------------------------------------------------------------------


def expansion(nodes: dict[str, NodeDef], *, names: tuple[str, ...] = (), in_loop: bool = False) -> PlanBody:
    around = Surroundings(definition=Definition(id="w", vars={"v": 1}), names=names, in_loop=in_loop)
    return compile_body(BodyDef(nodes=nodes), around, TYPES, SHOP, source="what split gave")


def test_a_body_by_itself_sees_what_is_around_it() -> None:
    reads = NodeDef(id="a", type="set", settings={"values": {"x": "{{ page.url }} {{ item }} {{ var.v }}"}})
    body = expansion({"a": reads}, names=("page", "item"))
    assert names_of(body) == ["a"]
    with pytest.raises(InvalidDefinition, match=r"what split gave has 2 problems"):
        expansion({"a": reads})


def test_a_body_by_itself_in_a_loop_may_break_it() -> None:
    stop = NodeDef(id="a", type="break")
    assert names_of(expansion({"a": stop}, in_loop=True)) == ["a"]
    with pytest.raises(InvalidDefinition, match="break"):
        expansion({"a": stop})


def names_of(body: PlanBody) -> list[str]:
    return [one.id for one in body.nodes]


# -- size -----------------------------------------------------------------------------------------------------------


def worker(id: str, *, reads: str = "") -> NodeDef:
    inputs: dict[str, Any] = {"x": f"{{{{ {reads} }}}}"} if reads else {}
    return NodeDef(id=id, type="task", settings={"task": "work", "inputs": inputs})


def plan_of(body: BodyDef) -> Plan:
    return compile_plan(Definition(id="big", body=body), TYPES, SHOP)


def test_a_long_chain_is_compiled_without_recursion() -> None:
    count = 10_500
    nodes = {f"n{n}": worker(f"n{n}", reads=f"n{n - 1}" if n else "") for n in range(count)}
    edges = tuple(EdgeDef(source=f"n{n - 1}", target=f"n{n}") for n in range(1, count))
    back = EdgeDef(source=f"n{count - 1}", target="n0", back=True)
    plan = plan_of(BodyDef(nodes=nodes, edges=edges))
    assert len(plan.body.nodes) == count and plan.body.sinks == (count - 1,)
    plan = plan_of(BodyDef(nodes=nodes, edges=(*edges, back)))
    assert {one.cycle for one in plan.body.nodes} == {0}
    with pytest.raises(InvalidDefinition, match=r"n0 → n1 → n2 → n3 → … 10494 more … → n10498 → n10499 → n0"):
        plan_of(BodyDef(nodes=nodes, edges=(*edges, EdgeDef(source=f"n{count - 1}", target="n0"))))


def test_a_wide_join_is_compiled() -> None:
    count = 3_000
    nodes = {f"n{n}": worker(f"n{n}") for n in range(count)}
    for n in range(0, count, 2):
        nodes[f"n{n}"] = NodeDef(id=f"n{n}", type="noop", has_condition=True, condition="{{ input.x }}")
    join = NodeDef(id="end", type="set", settings={"values": {"x": "{{ n1 }} {{ n0 ?? 1 }}"}})
    edges = tuple(EdgeDef(source=id, target="end") for id in nodes)
    plan = plan_of(BodyDef(nodes={**nodes, "end": join}, edges=edges))
    assert len(node(plan, "end").ins) == count


def test_bodies_nested_too_deep_are_refused() -> None:
    body = BodyDef(nodes={"a": NodeDef(id="a", type="noop")})
    for _ in range(60):
        body = BodyDef(nodes={"l": NodeDef(id="l", type="scope", bodies={"do": body})})
    with pytest.raises(InvalidDefinition, match="nested more than 50 deep"):
        plan_of(body)


def test_the_garbage_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    compiled("  a: {noop: {}}")
    assert gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(InvalidDefinition):
            compiled("  a: {task: nothing}")
        assert not gc.isenabled()
    finally:
        gc.enable()


# -- random graphs --------------------------------------------------------------------------------------------------


def random_body(chance: random.Random, count: int, default: str = "") -> BodyDef:
    nodes: dict[str, NodeDef] = {}
    edges: dict[tuple[str, str], EdgeDef] = {}
    for n in range(count):
        before = chance.sample(sorted(nodes), min(len(nodes), chance.randint(0, 3)))
        nodes[f"n{n}"] = worker(f"n{n}", reads=before[0] + default if before else "")
        edges |= {(one, f"n{n}"): EdgeDef(source=one, target=f"n{n}") for one in before}
    return BodyDef(nodes=nodes, edges=tuple(edges.values()))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 25))
def test_random_graphs_without_cycles_are_compiled_as_they_are(seed: int, count: int) -> None:
    body = random_body(random.Random(seed), count)
    plan = plan_of(body).body
    leads = {(plan.nodes[edge.source].id, plan.nodes[edge.target].id) for edge in plan.edges}
    assert leads == {(edge.source, edge.target) for edge in body.edges}
    assert set(names(plan, plan.starts)) == set(body.nodes) - {edge.target for edge in body.edges}
    assert set(names(plan, plan.sinks)) == set(body.nodes) - {edge.source for edge in body.edges}
    for edge in plan.edges:
        assert edge.index in plan.nodes[edge.target].ins and edge.index in plan.nodes[edge.source].outs["out"]
        assert edge.tells_dead and edge.leaves == -1
    assert all(one.cycle == -1 and one.join.kind == "all" for one in plan.nodes) and not plan.exits
    read = {one.target: one.source for one in reversed(body.edges)}
    assert {one.id for one in plan.nodes if one.keeps} >= set(read.values()) & set(names(plan, plan.sinks))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20))
def test_the_same_definition_gives_an_equal_plan(seed: int, count: int) -> None:
    body = random_body(random.Random(seed), count)
    assert shape(plan_of(body).body) == shape(plan_of(body).body)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 25))
def test_an_edge_that_goes_back_is_found_and_fine_when_it_says_so(seed: int, count: int) -> None:
    chance = random.Random(seed)
    body = random_body(chance, count, default=" ?? 1")
    after: dict[str, set[str]] = {id: {id} for id in body.nodes}
    for edge in reversed(body.edges):
        after[edge.source] |= after[edge.target]
    source, target = sorted((late, early) for early, behind in after.items() for late in behind)[
        chance.randrange(sum(map(len, after.values())))
    ]
    forward = BodyDef(nodes=body.nodes, edges=(*body.edges, EdgeDef(source=source, target=target)))
    with pytest.raises(InvalidDefinition, match="there is a cycle: ") as caught:
        plan_of(forward)
    (problem,) = [one for one in caught.value.problems if one.code == "cycle"]
    way = problem.message.removeprefix("there is a cycle: ").split(" → ")
    assert way[0] == way[-1]
    back = EdgeDef(source=source, target=target, back=True)
    plan = plan_of(BodyDef(nodes=body.nodes, edges=(*body.edges, back))).body
    members = {id for id in body.nodes if id in after[target] and source in after[id]}
    assert {one.id for one in plan.nodes if one.cycle == 0} == members
    assert node(plan, target).join.kind == "each"
    unrelated = sorted(id for id in body.nodes if id not in after[target] and target not in after[id])
    for other in unrelated[:1]:
        wrong = EdgeDef(source=other, target=target, back=True)
        with pytest.raises(InvalidDefinition, match="closes no cycle"):
            plan_of(BodyDef(nodes=body.nodes, edges=(*body.edges, wrong)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 14))
def test_components_and_orders_are_what_they_are_called(seed: int, count: int) -> None:
    chance = random.Random(seed)
    targets = [[chance.randrange(count) for _ in range(chance.randint(0, 2))] for _ in range(count)]
    leads = [[one in ahead or one == node for one in range(count)] for node, ahead in enumerate(targets)]
    for middle in range(count):
        for one in range(count):
            for other in range(count):
                leads[one][other] = leads[one][other] or (leads[one][middle] and leads[middle][other])
    found = components(targets)
    place = {node: index for index, members in enumerate(found) for node in members}
    for one in range(count):
        for other in range(count):
            assert (place[one] == place[other]) == (leads[one][other] and leads[other][one])
            assert not leads[one][other] or place[one] >= place[other]
    order = in_order(targets)
    for one, ahead in enumerate(targets):
        assert all(order.index(one) < order.index(other) for other in ahead if one in order and other in order)
    for members in found:
        if len(members) > 1 or members[0] in targets[members[0]]:
            way = shortest_cycle(targets, members)
            assert way[0] == way[-1] and all(b in targets[a] for a, b in itertools.pairwise(way))
            assert len(set(way)) == len(way) - 1 and shown([str(one) for one in way])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_guards_find_what_two_of_them_have_in_common(seed: int, count: int) -> None:
    chance = random.Random(seed)
    tree, above = Guards(), {ALWAYS: [ALWAYS]}
    for _ in range(count):
        parent = chance.choice(list(above))
        made = tree.below(parent)
        above[made] = [made, *above[parent]]
    one, other = chance.choice(list(above)), chance.choice(list(above))
    assert tree.is_above(one, other) == (one in above[other])
    assert tree.meet(one, other) == next(guard for guard in above[one] if guard in above[other])
    some = frozenset(chance.sample(list(above), min(len(above), 4)))
    meet = one
    for guard in some:
        meet = tree.meet(meet, guard)
    tops = {guard for guard in some if not any(upper in some for upper in above[guard][1:])}
    assert tree.tops(some, meet) == tops
    bottoms = {guard for guard in some if not any(guard in above[lower][1:] for lower in some)}
    assert set(tree.bottoms(list(some))) == bottoms


def test_findings_of_a_parser_and_of_the_compiler_are_one_list() -> None:
    findings = Findings()
    definition = Definition(id="w", body=BodyDef(nodes={"a": NodeDef(id="a", type="noop", settings={"x": 1})}))
    with pytest.raises(InvalidDefinition) as caught:
        compile_plan(definition, TYPES, SHOP, findings=findings)
    assert [problem.code for problem in caught.value.problems] == ["unknown-setting"]
    assert list(caught.value.problems) == findings.problems
