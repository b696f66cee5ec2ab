"""A frame whose body changes while it runs: a patch has added nodes and edges to it."""

from __future__ import annotations

from stepwell.graph.plan import PlanBody, PlanEdge
from stepwell.programs.graph.frame import Frame


def grow(frame: Frame, body: PlanBody) -> None:
    """Take over a body that has further nodes and edges; those that are there have the places that they had."""
    old, frame.body = frame.body, body
    places = {_key(edge): edge.index for edge in body.edges}
    now_at = {edge.index: places[_key(edge)] for edge in old.edges}
    frame.tokens.grow(body, now_at)
    frame.visits = {now_at[index]: count for index, count in frame.visits.items()}
    frame.told = {now_at[index] for index in frame.told}
    new = set(range(len(body.edges))) - set(now_at.values())
    if frame.ending or frame.ended:
        return
    frame.work += 1
    for node in body.nodes[len(old.nodes) :]:
        if not node.ins:
            frame.enable(node)
    for edge in (body.edges[index] for index in sorted(new)):
        ports = frame.left_by.get(edge.source)
        if ports is not None:
            frame.tell(edge, edge.port in ports)
        elif edge.source in _done(frame):
            frame.tell(edge, False)
    frame.less_work()


def cannot_grow(frame: Frame, body: PlanBody) -> str:
    """Why this body cannot be taken over as the run stands now; "" when it can."""
    old = {_key(edge) for edge in frame.body.edges}
    for edge in body.edges:
        target = body.nodes[edge.target]
        begun = edge.target in frame.fired or edge.target in frame.skipped
        if _key(edge) not in old and edge.target < len(frame.body.nodes) and begun:
            return f"node {target.id} has begun, or was skipped, already: nothing new can come before it"
    return ""


def has_let_go(frame: Frame, body: PlanBody) -> bool:
    """Whether a new node of this body looks up what was let go: only the journal has it."""
    new = body.nodes[len(frame.body.nodes) :]
    wanted = {index for node in new for index in node.reads if index in frame.left_by}
    return any(body.nodes[index].id not in frame.outputs for index in wanted)


def _done(frame: Frame) -> set[int]:
    """The nodes that are done and were left by no port."""
    active = {firing.node.index for firing in frame.active}
    return {index for index in (*frame.fired, *frame.skipped) if index not in active}


def _key(edge: PlanEdge) -> tuple[int, str, int, bool]:
    return edge.source, edge.port, edge.target, edge.back
