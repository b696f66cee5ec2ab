"""One instance of a body: the run's own, a turn of a loop, an item of a map, a branch. It lives until nothing moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from stepwell.errors import GraphStranded, TooManyVisits
from stepwell.expressions.names import Failed
from stepwell.graph.plan import PlanBody, PlanEdge, PlanNode
from stepwell.model.entries import StepSkipped
from stepwell.model.ids import StepPath
from stepwell.programs.graph.firing import Firing
from stepwell.programs.graph.tokens import Tokens

if TYPE_CHECKING:
    from stepwell.programs.graph.containers.protocol import Gate
    from stepwell.programs.graph.program import GraphProgram
    from stepwell.programs.graph.undoing import Saga

Links: TypeAlias = tuple[tuple[str, int], ...]
Ending: TypeAlias = Literal["", "finishing", "failing", "cancelling"]


class Owner(Protocol):
    """Who opened a frame and hears of its end."""

    def frame_ended(self, frame: Frame, output: object, error: BaseException | None) -> None:
        """It has come to rest; with `error` it failed. A frame that was cancelled ends with `error` None too."""

    def node_ended(self, frame: Frame, node: PlanNode) -> None:
        """A node of it has completed."""


class Frame:
    """Names, tokens and firings of one instance of a body.

    Args:
        program: whose turn it is.
        body: what it is an instance of.
        links: the scope of the paths of its steps.
        locals: names that hold in it (`item`, `loop`, …).
        outer: the frame around it; None for the run's own.
        owner: who hears of its end.
        saga: what is to be undone when the scope around it fails.
    """

    __slots__ = (
        "active",
        "began",
        "body",
        "cycle_entries",
        "cycle_work",
        "ended",
        "ending",
        "error",
        "fired",
        "gate",
        "held",
        "is_undoing",
        "left_by",
        "links",
        "locals",
        "outer",
        "outputs",
        "owner",
        "program",
        "response",
        "saga",
        "seen",
        "skipped",
        "tokens",
        "told",
        "visits",
        "withdrawn",
        "work",
    )

    def __init__(
        self,
        program: GraphProgram,
        body: PlanBody,
        links: Links,
        locals: Mapping[str, object],
        outer: Frame | None,
        owner: Owner,
        saga: Saga,
        *,
        gate: Gate | None = None,
        is_undoing: bool = False,
    ) -> None:
        self.program = program
        self.body = body
        self.links = links
        self.locals = locals
        self.outer = outer
        self.owner = owner
        self.saga = saga
        self.gate = gate
        self.is_undoing: bool = is_undoing or (outer is not None and outer.is_undoing)
        self.outputs: dict[str, object] = {}
        self.tokens = Tokens(body, self.enable, self._skip, self._overtake, self)
        self.fired: dict[int, int] = {}
        self.left_by: dict[int, tuple[str, ...]] = {}
        self.active: dict[Firing, None] = {}
        self.held: list[Firing] = []
        self.visits: dict[int, int] = {}
        self.told: set[int] = set()
        self.withdrawn: set[int] = set()
        self.skipped: dict[int, int] = {}  # by node, how often it had run by then
        self.began: set[int] = set()
        self.seen: dict[int, int] = {}
        self.work = 0
        self.ending: Ending = ""
        self.ended = False
        self.error: BaseException | None = None
        self.response: tuple[object] | None = None
        self.cycle_work: dict[int, int] = {}
        self.cycle_entries: dict[int, set[int]] = {}
        for edge in body.edges if body.exits else ():
            cycle = body.nodes[edge.target].cycle
            if cycle >= 0 and body.nodes[edge.source].cycle != cycle:
                self.cycle_entries.setdefault(cycle, set()).add(edge.index)

    def begin(self) -> None:
        """Run the nodes that nothing comes before; a body without nodes is at rest at once."""
        self.work += 1
        for index in self.body.starts:
            self.enable(self.body.nodes[index])
        self.less_work()

    # -- names --------------------------------------------------------------------------------------------------

    def lookup(self, root: str) -> object:
        """What a name stands for here: names of this frame, its nodes' outputs, then those around it.

        Raises:
            LookupError: it has no value, or none yet.
        """
        if root in self.locals:
            return self.locals[root]
        if root in self.outputs:
            return self.outputs[root]
        if root == "nodes":
            return self.all_outputs()
        if root in self.body.by_id:
            raise LookupError(f"node {root} has no output here: it has not run, or was skipped")
        if self.outer is not None:
            return self.outer.lookup(root)
        return self.program.globals.lookup(root)

    def all_outputs(self) -> dict[str, object]:
        """The outputs of all nodes that can be seen here, by id."""
        around = self.outer.all_outputs() if self.outer is not None else {}
        return around | self.outputs

    # -- tokens -------------------------------------------------------------------------------------------------

    def tell(self, edge: PlanEdge, live: bool) -> None:
        """An edge's source has been left by it, or not."""
        if edge.back:
            if not live:
                return
            visits = self.visits[edge.index] = self.visits.get(edge.index, 0) + 1
            if visits > edge.max_visits:
                nodes = self.body.nodes
                raise TooManyVisits(
                    f"the edge from {nodes[edge.source].id} back to {nodes[edge.target].id} was to be taken for the "
                    f"{visits}th time; its max_visits is {edge.max_visits}"
                )
        elif edge.leaves >= 0:
            if not live:
                return
            self.told.add(edge.index)
        elif not (live or edge.tells_dead):
            return
        self.work += 1
        cycle = self.body.nodes[edge.target].cycle
        if cycle >= 0:
            self.cycle_work[cycle] = self.cycle_work.get(cycle, 0) + 1
        self.program.queue.append((self, edge, live))

    def arrive(self, edge: PlanEdge, live: bool) -> None:
        """A token comes to the end of its edge, in its own time."""
        if not self.ending:
            cycle = self.body.nodes[edge.target].cycle
            try:
                self.tokens.arrive(edge, live)
            except Exception as error:
                self.fail(error, self.body.nodes[edge.target])
            if cycle >= 0:
                self.cycle_work[cycle] -= 1
                self.cycle_entries.get(cycle, set()).discard(edge.index)
                self._rest_of_cycle(cycle)
        self.less_work()

    def enable(self, node: PlanNode) -> None:
        """A node is to run."""
        if self.ending or node.index in self.withdrawn:
            return
        occurrence = self.fired[node.index] = self.fired.get(node.index, 0) + 1
        if node.cycle >= 0:
            self.cycle_work[node.cycle] = self.cycle_work.get(node.cycle, 0) + 1
        firing = Firing(self, node, StepPath(self.links, node.id, occurrence))
        self.active[firing] = None
        self.work += 1
        if self.gate is not None:
            self.gate.ask(firing)
        else:
            self.program.queue.append(firing)

    def _skip(self, node: PlanNode) -> None:
        if self.ending or node.index in self.withdrawn:
            return
        if node.cycle < 0:
            runs = self.fired.get(node.index, 0)
            if self.skipped.get(node.index) != runs:  # a further token that is dead is no further fact
                self.skipped[node.index] = runs
                self.record_skip(node, "")
            if node.reads:
                self._let_go(node)
        self._tell_all(node, ())

    def record_skip(self, node: PlanNode, reason: str, path: StepPath | None = None) -> None:
        """Journal that a node does not run; with `path` it is that firing of it which does not."""
        if path is None:
            occurrence = self.fired.get(node.index, 0) + (not reason)
            path = StepPath(self.links, node.id, occurrence or 1)
        self.program.record(StepSkipped(at=0, path=path, reason=reason))

    def _tell_all(self, node: PlanNode, ports: tuple[str, ...]) -> None:
        edges = self.body.edges
        for port, outs in self.body.nodes[node.index].outs.items():  # a patch may have added some
            live = port in ports
            for index in outs:
                for _ in range(node.split if live else 1):
                    self.tell(edges[index], live)

    def _overtake(self, node: PlanNode) -> None:
        """A join has fired and cancels what else would come to it."""
        for victim in node.victims:
            self.cancel_node(victim)

    def cancel_node(self, index: int) -> None:
        """Let a node not run any more, neither now nor later in this frame."""
        running = [firing for firing in self.active if firing.node.index == index]
        for firing in running:
            firing.cancel()
        is_settled = index in self.fired or index in self.skipped or index in self.withdrawn
        if not running and not is_settled:
            self.withdrawn.add(index)
            node = self.body.nodes[index]
            self.record_skip(node, "cancelled")
            self._tell_all(node, ())

    # -- firings ------------------------------------------------------------------------------------------------

    def leave(self, firing: Firing, output: object, ports: tuple[str, ...], *, keep: bool = False) -> None:
        """A node has its outcome and is left by `ports` (none: it is skipped after all)."""
        if self.ending:
            return
        node = firing.node
        if ports:
            self.left_by[node.index] = ports
            if node.keeps or keep or self.keeps_all:
                self.outputs[node.id] = output
        try:
            self._tell_all(node, ports)
            if ports:
                self._consequences(node)
        except Exception as error:
            self.fail(error, firing.node)
        if ports and not self.ending:
            self.owner.node_ended(self, node)

    def _consequences(self, node: PlanNode) -> None:
        for index in node.cancels:
            self.cancel_node(index)
        for index in node.completes:
            for other in tuple(self.active):
                if other.node.index == index:
                    other.complete_now()
        if self.body.has_milestones:
            self._look_at_milestones()

    def over(self, firing: Firing) -> None:
        """A firing has ended, one way or another."""
        if self.active.pop(firing, firing) is firing:
            return  # it was over already
        if self.gate is not None:
            self.gate.give_back(firing)
        if firing.node.reads:
            self._let_go(firing.node)
        cycle = firing.node.cycle
        if cycle >= 0:
            self.cycle_work[cycle] -= 1
            self._rest_of_cycle(cycle)
        self.less_work()

    def cancelled(self, firing: Firing) -> None:
        """A node was cancelled while it ran: what comes after it hears so as of a dead path."""
        if not self.ending:
            try:
                self._tell_all(firing.node, ())
            except Exception as error:
                self.fail(error, firing.node)
        self.over(firing)

    # -- milestones ---------------------------------------------------------------------------------------------

    def hold(self, firing: Firing) -> bool:
        """Whether a firing is to wait for its milestone; one whose milestone has passed is skipped, and has ended."""
        milestone = firing.node.milestone
        if milestone is None:
            return False
        if milestone.before >= 0 and milestone.before in self.began:
            self.record_skip(firing.node, "its milestone has passed", firing.path)
            firing.end(None, ())
            return True
        if milestone.after < 0 or milestone.after in self.left_by:
            return False
        self.held.append(firing)
        self.less_work()
        return True

    def begins(self, node: PlanNode) -> None:
        """A node's work begins."""
        if self.body.has_milestones:
            self.began.add(node.index)
            self._look_at_milestones()

    def _look_at_milestones(self) -> None:
        held, self.held = self.held, []
        for firing in held:
            self.work += 1
            self.program.queue.append(firing)

    # -- rest ---------------------------------------------------------------------------------------------------

    def less_work(self) -> None:
        """Something that was under way is over; when nothing is any more, the frame is at rest."""
        self.work -= 1
        if self.body.has_general and not self.ending and self.work > 0:
            self.tokens.ripe(*self._under_way())
        if self.work == 0 and not self.ended:
            self._rest()

    def _under_way(self) -> tuple[int, int]:
        """The bit sets of the nodes that run, and of those to which tokens are on their way."""
        busy = coming = 0
        for firing in self.active:
            busy |= 1 << firing.node.index
        for one in self.program.queue:
            if isinstance(one, tuple) and one[0] is self:
                coming |= 1 << one[1].target
        return busy, coming

    def _rest_of_cycle(self, cycle: int) -> None:
        """A cycle in which nothing moves, and into which nothing comes any more, will not be left by its exits."""
        if self.cycle_work.get(cycle, 0) or self.cycle_entries.get(cycle, 0) or self.ending:
            return
        for index in self.body.exits[cycle]:
            if index not in self.told:
                self.told.add(index)
                self.work += 1
                self.program.queue.append((self, self.body.edges[index], False))
        for node in self.body.nodes:
            if node.cycle == cycle and node.index not in self.fired:
                self.fired[node.index] = 0
                self.record_skip(node, "")

    def _rest(self) -> None:
        """Nothing moves: what was held back gets its turn, or the frame has ended."""
        if not self.ending:
            if self._late():
                return
            stranded = self.tokens.stranded()
            if stranded:
                places = "; ".join(f"{node.id} (it has {what})" for node, what in stranded)
                error = GraphStranded(f"these joins wait for what can never come: {places}")
                self.fail(error, stranded[0][0])
                if self.ended:
                    return
        self.ended = True
        if self.ending == "failing":
            self.owner.frame_ended(self, None, self.error)
        elif self.ending == "cancelling":
            self.owner.frame_ended(self, None, None)
        else:
            try:
                output = self.result()
            except Exception as unusable:
                self.owner.frame_ended(self, None, unusable)
            else:
                self.owner.frame_ended(self, output, None)

    def _late(self) -> bool:
        if self.held:
            firing = self.held.pop(0)
            self.work += 1
            self.record_skip(firing.node, "its milestone was never reached", firing.path)
            firing.end(None, ())
            return True
        if not self.body.has_general:
            return False
        self.work += 1
        if not self.tokens.ripe(0, 0):
            self.tokens.force()
        self.work -= 1
        return self.work > 0

    def _let_go(self, reader: PlanNode) -> None:
        """A node has ended: what it was the last to look up is let go."""
        if self.keeps_all:
            return
        for index in reader.reads:
            node = self.body.nodes[index]
            if node.readers:
                seen = self.seen[index] = self.seen.get(index, 0) + 1
                if seen == node.readers:
                    self.outputs.pop(node.id, None)

    @property
    def keeps_all(self) -> bool:
        """Whether nodes are to come, by a patch, that may look up what no other does."""
        return self.outer is None and self.program.is_to_be_patched

    def result(self) -> object:
        """What the body gives: what it says itself, else the output of its only sink, or of each by id."""
        if self.response is not None:
            return self.response[0]
        if self.body.result is not None:
            return self.body.result.render(self)
        nodes = self.body.nodes
        ids = [nodes[index].id for index in self.body.sinks]
        if len(ids) == 1:
            return self._given_by(ids[0])
        return {id: self._given_by(id) for id in ids if id in self.outputs}

    def _given_by(self, id: str) -> object:
        """A node's output as part of what the body gives; of one that failed that is its error."""
        output = self.outputs.get(id)
        return dict(output) if isinstance(output, Failed) else output

    # -- endings ------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException, node: PlanNode | None = None) -> None:
        """A node has failed and nothing in this body takes that: nothing more begins, and then the body has failed."""
        if self.ending or self.ended:
            return
        if node is not None and not hasattr(error, "node"):
            error.node = node.id  # type: ignore[attr-defined]  # read back by `described`: where it began
        self.program.undone.date(error)
        self.error = error
        self.stop("failing", drain=self.program.plan.on_failure == "drain")

    def finish(self, response: tuple[object] | None) -> None:
        """End the body now, well: what else is under way in it is cancelled."""
        if self.ending or self.ended:
            return
        self.response = response
        self.stop("finishing", drain=False)

    def cancel(self) -> None:
        """End the body now: what is under way is cancelled."""
        if not self.ended:
            self.stop("cancelling", drain=False)

    def stop(self, ending: Ending, *, drain: bool) -> None:
        """Begin nothing more. With `drain` attempts that are under way may end; all else is cancelled."""
        if self.ended or (self.ending and drain):
            return
        self.ending = self.ending or ending
        self.work += 1 + len(self.held)
        self.held.clear()
        for firing in tuple(self.active):
            firing.stop(drain=drain)
        self.less_work()
