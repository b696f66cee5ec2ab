"""What is certain where a node runs: by examples, and against runs of random graphs in every order."""

from __future__ import annotations

import random
from collections import deque
from itertools import combinations

import pytest
from compiling import TYPES, codes
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.expressions.names import Reference
from stepwell.graph.certain import Certain
from stepwell.graph.cover import Cover
from stepwell.graph.definition import BodyDef, EdgeDef, JoinDef, JoinKind, NodeDef
from stepwell.graph.homes import Homes
from stepwell.graph.problems import Findings
from stepwell.graph.reach import reach
from stepwell.graph.saying import Say

FINE = {
    "a fork and its join": """
  a: {noop: {}}
  b: {noop: {}, needs: a}
  c: {noop: {}, needs: a}
  d: {set: {x: "{{ a }} {{ b }} {{ c }}"}, needs: [b, c]}
""",
    "what is behind both ways of a condition": """
  ok: {condition: "{{ input.a }}"}
  b:  {noop: {}, needs: "ok:true"}
  c:  {noop: {}, needs: "ok:false"}
  d:  {noop: {}, needs: [b, c]}
  e:  {set: {x: "{{ d }} {{ ok }}"}, needs: d}
""",
    "a way beside a condition": """
  a:  {noop: {}}
  ok: {condition: "{{ input.a }}", needs: a}
  b:  {noop: {}, needs: "ok:true"}
  c:  {set: {x: "{{ a }} {{ ok }}"}, needs: [a, b]}
""",
    "all cases of a switch": """
  s: {switch: "{{ input.a }}", cases: {x: 1, y: 2}}
  b: {noop: {}, needs: ["s:x", "s:y"]}
  c: {noop: {}, needs: ["s:y", "s:default"]}
  d: {noop: {}, needs: [b, c]}
  e: {noop: {}}
  f: {set: {x: "{{ d }}"}, needs: [e, d]}
""",
    "success and failure, both taken": """
  a: {task: work}
  b: {noop: {}, needs: "a:error"}
  c: {noop: {}, needs: a}
  d: {noop: {}, needs: [b, c]}
  e: {noop: {}}
  f: {set: {x: "{{ d }}"}, needs: [e, d]}
""",
    "the error of a node that has failed": """
  a: {task: work}
  b: {set: {x: "{{ a.error.message }}"}, needs: "a:error"}
  c: {set: {x: "{{ a.error.message }}"}, needs: b}
""",
    "what comes before the error of a node": """
  z: {noop: {}}
  a: {task: work, needs: z}
  b: {set: {x: "{{ z }}"}, needs: "a:error"}
""",
    "what comes before all that a join may fire for": """
  z: {noop: {}}
  a: {noop: {}, needs: z}
  b: {noop: {}, needs: z}
  c: {set: {x: "{{ z }}"}, needs: [a, b], join: any}
""",
    "what two of three say": """
  z: {noop: {}}
  a: {noop: {}, needs: z}
  b: {noop: {}, needs: z}
  c: {noop: {}}
  d: {set: {x: "{{ z }}"}, needs: [a, b, c], join: {first: 2}}
""",
    "a cycle that is left in the end": """
  a: {noop: {}, needs: [{from: ok, port: "false", back: true}]}
  b: {set: {x: "{{ a }} {{ b ?? 1 }}"}, needs: a}
  ok: {condition: "{{ b }}", needs: b}
  c: {set: {x: "{{ b }}"}, needs: "ok:true"}
result: "{{ c }}"
""",
    "a cycle with work on the way back": """
  a: {noop: {}, needs: [{from: mend, back: true}]}
  ok: {condition: "{{ a }}", needs: a}
  mend: {noop: {}, needs: "ok:false"}
  c: {set: {x: "{{ a }}"}, needs: "ok:true"}
result: "{{ c }}"
""",
    "a cycle with two ways in": """
  s: {condition: "{{ input.a }}"}
  a: {noop: {}, needs: ["s:true", {from: b, back: true}]}
  b: {set: {x: "{{ s }} {{ a ?? 1 }}"}, needs: ["s:false", a], join: each}
""",
    "nodes around a container": """
  a: {noop: {}}
  each:
    map: "{{ a }}"
    needs: a
    do:
      b: {set: {x: "{{ a }} {{ item }} {{ map.index }}"}}
      c: {loop: {for: 2}, do: {d: {set: {x: "{{ a }} {{ b }} {{ item }} {{ loop.index }}"}}}, needs: b}
""",
    "the inner of two nodes of one name": """
  a: {condition: "{{ input.a }}"}
  each: {map: "{{ input.b }}", do: {a: {noop: {}}, b: {set: {x: "{{ a.y }}"}, needs: a}}}
""",
    "the output of what is undone": """
  a: {noop: {}}
  b: {task: work, needs: a, compensate: {undo: {set: {x: "{{ a }} {{ b.id }}"}}}}
""",
    "an error that was caught, by both names": """
  t: {try: {do: {a: {noop: {}}}, catch: [{as: why, do: {b: {set: {x: "{{ why.type }} {{ error.type }}"}}}}]}}
""",
    "what a milestone waits for": """
  a: {noop: {}}
  b: {set: {x: "{{ a }}"}, milestone: {after: a}, needs: c}
  c: {noop: {}, needs: a}
""",
    "the winner of a race": """
  r: {race: {branches: {one: {a: {noop: {}}}, two: {b: {noop: {}}}}}}
  b: {noop: {}}
  c: {set: {x: "{{ r.result }}"}, needs: [r, b]}
  d: {set: {x: "{{ r.result }}"}, needs: "r:one"}
""",
    "whichever of all cases comes": """
  s: {condition: "{{ input.a }}"}
  b: {noop: {}, needs: ["s:true", "s:false"], join: {first: 1}}
  c: {noop: {}}
  d: {set: {x: "{{ b }}"}, needs: [b, c]}
""",
    "ways that exclude each other only within one of several runs": """
  a: {noop: {}}
  b: {noop: {}}
  s: {condition: "{{ input.a }}", needs: [a, b], join: each}
  c: {noop: {}, needs: "s:true"}
  d: {noop: {}, needs: "s:false"}
  e: {noop: {}, needs: [c, d], join: all_strict}
""",
    "a failure that goes on": """
  a: {task: work, on_error: continue}
  b: {set: {x: "{{ a }} {{ a.error ?? 1 }}"}, needs: a}
""",
    "the state of edges": """
  a: {noop: {}}
  b: {noop: {}}
  c: {noop: {}, needs: [a, b], join: {when: {"or": [{var: edges.a}, {"==": [{var: a.x}, 1]}]}}}
""",
    "one of all ways of a switch, whichever was taken": """
  s: {switch: "{{ input.a }}", cases: {x: 1, y: 2}}
  a: {noop: {}, needs: "s:x"}
  b: {noop: {}, needs: "s:y"}
  c: {noop: {}, needs: "s:default"}
  d: {noop: {}, needs: c}
  e: {set: {x: "{{ a ?? b.y ?? c }} {{ nodes.a ?? nodes['b'] ?? d }}"}, needs: [a, b, d]}
  f: {set: {x: "{{ a ?? b ?? c }}"}, needs: e}
result: "{{ a.x ?? b ?? c }}"
""",
    "one of two ways, beside a third that may not be taken": """
  s: {condition: "{{ input.a }}"}
  a: {noop: {}, needs: "s:true"}
  b: {noop: {}, needs: "s:false"}
  c: {noop: {}, if: "{{ input.b }}"}
  d: {set: {x: "{{ a ?? b }}"}, needs: [a, b, c]}
""",
    "what a node gives, or else its error": """
  a: {task: work}
  b: {set: {y: 1}, needs: "a:error"}
  c: {set: {x: "{{ a ?? b }} {{ a.z ?? a.error }}"}, needs: [a, b]}
result: "{{ a ?? b }}"
""",
    "fields of the input, and the input's fields by themselves": """
  a: {set: {x: "{{ input.shop.name }} {{ shop.name }} {{ run.id }} {{ var.x }} {{ event.data }}"}}
input: {properties: {shop: {type: object}}, additionalProperties: false}
""",
}

DOUBTFUL = {
    "two of three ways": """
  s: {switch: "{{ input.a }}", cases: {x: 1, y: 2}}
  a: {noop: {}, needs: "s:x"}
  b: {noop: {}, needs: "s:y"}
  c: {set: {x: "{{ a ?? b }}"}, needs: [a, b, "s:default"]}
""",
    "two ways of which one may be left out at the end": """
  s: {condition: "{{ input.a }}"}
  a: {noop: {}, needs: "s:true"}
  b: {noop: {}, needs: "s:false", if: "{{ input.b }}"}
result: "{{ a ?? b }}"
""",
    "two ways of which one may fail": """
  s: {condition: "{{ input.a }}"}
  a: {task: work, needs: "s:true"}
  b: {noop: {}, needs: "s:false"}
  c: {set: {x: "{{ a ?? b }}"}, needs: ["a:error", a, b]}
""",
    "a node that goes on with its error, or another": """
  s: {condition: "{{ input.a }}"}
  a: {task: work, on_error: continue, needs: "s:true"}
  b: {noop: {}, needs: "s:false"}
  c: {set: {x: "{{ a.y ?? b }}"}, needs: [a, b]}
""",
    "what a join may not have waited for": """
  a: {noop: {}}
  b: {noop: {}}
  c: {set: {x: "{{ a ?? b }}"}, needs: [a, b], join: {when: true}}
""",
    "what one of two joined ways leads past": """
  a: {noop: {}}
  b: {noop: {}, needs: a, if: "{{ input.a }}"}
  c: {noop: {}, needs: b}
  d: {set: {x: "{{ c }}"}, needs: [a, c]}
""",
    "behind a join of which one way is enough": """
  a: {noop: {}}
  b: {noop: {}}
  c: {noop: {}, needs: [a, b], join: any}
  d: {set: {x: "{{ a }}"}, needs: c}
""",
    "a node that another one cancels": """
  a: {noop: {}}
  b: {wait: 5s, needs: a}
  c: {noop: {}, needs: a, cancels: b}
  d: {set: {x: "{{ b }}"}, needs: [b, c]}
""",
    "a node whose milestone may pass": """
  a: {noop: {}}
  b: {noop: {}, milestone: {before: a}}
  c: {set: {x: "{{ b }}"}, needs: [a, b]}
""",
    "routes of which several may be taken": """
  r: {router: {x: "{{ input.a }}", y: "{{ input.b }}"}}
  a: {noop: {}, needs: "r:x"}
  b: {noop: {}, needs: "r:y"}
  c: {set: {x: "{{ a }}"}, needs: [a, b]}
""",
    "a cycle with two ways in": """
  s: {condition: "{{ input.a }}"}
  a: {noop: {}, needs: ["s:true", {from: b, back: true}]}
  b: {set: {x: "{{ a }}"}, needs: ["s:false", a], join: each}
""",
    "a node on the way back of a cycle": """
  a: {noop: {}, needs: [{from: mend, back: true}]}
  ok: {condition: "{{ a }}", needs: a}
  mend: {noop: {}, needs: "ok:false"}
  c: {set: {x: "{{ mend }}"}, needs: "ok:true"}
""",
    "a node that may run twice at once": """
  a: {noop: {}}
  b: {noop: {}}
  s: {condition: "{{ input.a }}", needs: [a, b], join: each}
  c: {noop: {}, needs: "s:true"}
  d: {noop: {}, needs: "s:true"}
  e: {set: {x: "{{ c }}"}, needs: [c, d]}
""",
    "a result of a node that another one cancels": """
  a: {noop: {}}
  b: {noop: {}, cancels: a}
result: "{{ a }}"
""",
    "what comes before one of the ways into a cycle": """
  s: {condition: "{{ input.a }}"}
  p: {noop: {}, needs: "s:true"}
  a: {set: {x: "{{ p }}"}, needs: [p, {from: b, back: true}]}
  b: {noop: {}, needs: ["s:false", a], join: each}
""",
    "a way out of a cycle beside another": """
  a: {noop: {}, needs: [{from: ok, port: "false", back: true}]}
  b: {condition: "{{ input.a }}", needs: a}
  ok: {condition: "{{ input.b }}", needs: "b:true"}
  x: {noop: {}, needs: "b:true"}
  c: {noop: {}, needs: "ok:true"}
  d: {set: {x: "{{ c }}"}, needs: [x, c]}
""",
    "a cycle that may be left another way": """
  a: {noop: {}, needs: [{from: ok, port: "false", back: true}]}
  b: {condition: "{{ input.a }}", needs: a}
  ok: {condition: "{{ input.b }}", needs: "b:true"}
  c: {noop: {}, needs: "ok:true"}
result: "{{ c }}"
""",
}


@pytest.mark.parametrize("nodes", FINE.values(), ids=FINE)
def test_a_reference_to_what_is_certain_is_fine(nodes: str) -> None:
    text, _, head = nodes.partition("\nresult")
    if not head:
        text, _, schema = nodes.partition("\ninput:")
        head = f"input:{schema}\nvars: {{x: 1}}" if schema else ""
    else:
        head = "result" + head
    assert [code for code in codes(text, head=head) if code != "join-of-nothing"] == []


@pytest.mark.parametrize("nodes", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_reference_to_what_may_not_be_there_needs_a_default(nodes: str) -> None:
    text, _, head = nodes.partition("\nresult")
    found = codes(text, head="result" + head if head else "")
    assert found == ["may-be-missing"]


# -- against runs ---------------------------------------------------------------------------------------------------

PORTS = {"task": ("out",), "condition": ("true", "false"), "switch": ("a", "b", "default")}
SETTINGS = {
    "task": {"task": "t"},
    "condition": {"when": True},
    "switch": {"value": "{{ x }}", "cases": {"a": 1, "b": 2}},
}


def drawn(chance: random.Random) -> BodyDef:
    """A small random body without cycles, with all kinds of ports and most kinds of joins."""
    nodes: dict[str, NodeDef] = {}
    edges: list[EdgeDef] = []
    for index in range(chance.randint(3, 9)):
        kind = chance.choice(["task", "task", "condition", "switch"])
        links: set[tuple[str, str]] = set()
        for source in chance.sample(sorted(nodes), min(len(nodes), chance.randint(0, 3))):
            ports = PORTS[nodes[source].type]
            links.update((source, chance.choice((*ports, *ports, "error"))) for _ in range(chance.randint(1, 3)))
        join = JoinDef()
        if len(links) > 1:
            some: list[JoinKind] = ["all", "all", "all_strict", "any", "first", "each"]
            join = JoinDef(kind=chance.choice(some), count=chance.randint(1, len(links)))
        id = f"n{index}"
        nodes[id] = NodeDef(
            id=id,
            type=kind,
            settings=SETTINGS[kind],
            join=join,
            has_condition=chance.random() < 0.15,
            condition="{{ q }}",
            disabled=chance.random() < 0.03,
        )
        edges += [EdgeDef(source=source, target=id, port=port) for source, port in sorted(links)]
    return BodyDef(nodes=nodes, edges=tuple(edges))


class Played:
    """One run of a body in a random order. `seen` is, for each firing, which nodes were done by then."""

    def __init__(self, body: BodyDef, chance: random.Random) -> None:
        self.chance = chance
        self.body = body
        self.ins: dict[str, list[int]] = {id: [] for id in body.nodes}
        self.outs: dict[str, list[int]] = {id: [] for id in body.nodes}
        for number, edge in enumerate(body.edges):
            self.ins[edge.target].append(number)
            self.outs[edge.source].append(number)
        self.queues = {id: {number: deque[bool]() for number in ins} for id, ins in self.ins.items()}
        self.told: dict[str, dict[int, bool]] = {id: {} for id in body.nodes}
        self.fired: set[str] = set()
        self.done: set[str] = set()
        self.seen: list[tuple[str, frozenset[str]]] = []
        self.running: list[str] = []
        self.tokens: list[tuple[int, bool]] = []
        for id, ins in self.ins.items():
            if not ins:
                self.enable(id)
        while self.running or self.tokens:
            pick = chance.randrange(len(self.running) + len(self.tokens))
            if pick >= len(self.running):
                self.arrive(*self.tokens.pop(pick - len(self.running)))
            elif not self.finish(self.running.pop(pick)):
                break

    def enable(self, id: str) -> None:
        node = self.body.nodes[id]
        if node.disabled or (node.has_condition and self.chance.random() < 0.5):
            self.skip(id)
            return
        self.seen.append((id, frozenset(self.done)))
        self.running.append(id)

    def skip(self, id: str) -> None:
        self.tokens += [(number, False) for number in self.outs[id]]

    def finish(self, id: str) -> bool:
        """Whether the run goes on: a failure that no port takes ends it."""
        if self.chance.random() < 0.2:
            port = "error"
            if all(self.body.edges[number].port != port for number in self.outs[id]):
                return False
        else:
            port = self.chance.choice(PORTS[self.body.nodes[id].type])
            self.done.add(id)
        self.tokens += [(number, self.body.edges[number].port == port) for number in self.outs[id]]
        return True

    def arrive(self, number: int, live: bool) -> None:
        id = self.body.edges[number].target
        join = self.body.nodes[id].join
        if join.kind in ("", "all", "all_strict"):
            queues = self.queues[id]
            queues[number].append(live)
            while all(queues.values()):
                round = [queue.popleft() for queue in queues.values()]
                (self.enable if (all if join.kind == "all_strict" else any)(round) else self.skip)(id)
            return
        if join.kind != "each" and number in self.told[id]:
            return
        self.told[id][number] = live
        wanted = join.count if join.kind == "first" else 1
        if (join.kind == "each" and live) or (id not in self.fired and sum(self.told[id].values()) >= wanted):
            self.fired.add(id)
            self.enable(id)
        elif id not in self.fired and len(self.told[id]) == len(self.ins[id]):
            self.fired.add(id)
            self.skip(id)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_called_certain_is_there_in_every_run(seed: int) -> None:
    body = drawn(random.Random(seed))
    findings = Findings()
    say = Say(findings)
    reached = reach(body, TYPES, say, Homes(body))
    certain = Certain(reached, range(len(reached.nodes)))
    names = [node.id for node in reached.nodes]
    sure, there = {}, []
    for at, facts in certain.sweep(say):
        sure[names[at]] = {names[node] for node in range(len(names)) if certain.is_done(facts, node, at)}
        there.append((at, facts))
    cover = Cover(reached, certain)
    through = {pair: cover.through(map(Reference, pair)) for pair in combinations(names, 2)}
    covered = {
        (names[at], pair) for at, facts in there for pair, ways in through.items() if cover.is_sure_at(at, facts, ways)
    }
    met_at_end = [pair for pair, ways in through.items() if cover.is_sure_in_the_end(ways)]
    at_end = {id for index, id in enumerate(names) if certain.is_done_at_end(index)}
    never = {problem.message.split()[3] for problem in findings.problems if problem.code == "join-never-fires"}
    for round in range(40):
        run = Played(body, random.Random(f"{seed} {round}"))
        for id, done in run.seen:
            assert id not in never
            assert sure[id] <= done
            assert all(done & set(pair) for at, pair in covered if at == id and id not in pair)
        if not run.running and not run.tokens and run.done:
            ended = all(not queue for queues in run.queues.values() for queue in queues.values())
            if ended and not _failed(run):
                assert at_end <= run.done
                assert all(run.done & set(pair) for pair in met_at_end)


def _failed(run: Played) -> bool:
    """Whether the run ended because of a failure that no port took: then something that ran is not done."""
    wired = {edge.source for edge in run.body.edges if edge.port == "error"}
    return any(id not in run.done and id not in wired for id, _ in run.seen)
