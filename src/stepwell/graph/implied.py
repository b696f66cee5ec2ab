"""Which edges need not be written? A node that says nothing of what it needs needs the nodes that it refers to.

Only where nothing at all leads to a node, and it does not say `needs: []`: what is written is all there is. A reference
with a `??` does without the node, and `node.error` speaks of a failure: neither makes an edge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from stepwell.errors import DefinitionError
from stepwell.expressions.conditions import compile_condition
from stepwell.expressions.templates import Reference, compile_value
from stepwell.graph.definition import BodyDef, EdgeDef, Json, NodeDef
from stepwell.graph.form import Types
from stepwell.nodes.protocol import OUT

_ERROR = "error"


def implied(
    nodes: Mapping[str, NodeDef], edges: Iterable[EdgeDef], stated: Collection[str], types: Types
) -> Iterator[EdgeDef]:
    """The edges that references stand for; `stated` are the nodes that say what they need."""
    led_to = {edge.target for edge in edges} | set(stated)
    for id, node in nodes.items():
        if id in led_to:
            continue
        for source in dict.fromkeys(_named(node, types)):
            if source in nodes and source != id:
                for port in _ports(nodes[source], types):
                    yield EdgeDef(source=source, target=id, port=port, place=node.place)


def _ports(node: NodeDef, types: Types) -> tuple[str, ...]:
    """The ports by which a node is left when it is done: one, or for a choice whichever it takes."""
    try:
        kind = types.get(node.type)
    except DefinitionError:
        kind = None
    ports = (OUT,) if kind is None else kind.ports_of(node.settings)
    return (OUT,) if OUT in ports else tuple(ports)


def _named(node: NodeDef, types: Types) -> Iterator[str]:
    """The nodes that a node needs by what it refers to, those inside it included."""
    for reference in _references(node, types):
        if reference.defaulted:
            continue
        if reference.root == "nodes" and reference.path:
            root, path = str(reference.path[0]), reference.path[1:]
        else:
            root, path = reference.root, reference.path
        if path[:1] != (_ERROR,):
            yield root
    for name, body in node.bodies.items():
        if name != "compensate":
            yield from _named_in(body, types)


def _named_in(body: BodyDef, types: Types) -> Iterator[str]:
    for node in body.nodes.values():
        yield from (root for root in _named(node, types) if root not in body.nodes)


def _references(node: NodeDef, types: Types) -> list[Reference]:
    """What a node refers to; expressions that are wrong are told of elsewhere."""
    found: list[Reference] = []
    try:
        kind = types.get(node.type)
        raw = () if kind is None else kind.raw
        plain: Json = {key: value for key, value in node.settings.items() if key not in raw}
        found += compile_value([plain, node.options]).references
        if node.has_condition:
            found += compile_condition(node.condition).references
        if kind is not None and raw:
            found += kind.references(node.settings)
    except DefinitionError:
        pass
    return found
