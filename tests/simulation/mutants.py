"""Broken engines: each mutant changes a few words of the real one, and the simulator must notice."""

from __future__ import annotations

import contextlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import stepwell.engine.runner
import stepwell.engine.streams
import stepwell.engine.topics
import stepwell.model.decide
import stepwell.model.state
import stepwell.programs.graph.kinds
import stepwell.programs.graph.undoing
import stepwell.programs.matching
import stepwell.stores.admission
import stepwell.stores.memory.transact
import stepwell.usecases.streams
from stepwell.app import Stepwell
from stepwell.authoring.context import AttemptContext
from stepwell.engine.children import ChildDesk
from stepwell.engine.claiming import Claims
from stepwell.engine.graphs import Graphs
from stepwell.engine.inbox import Inbox
from stepwell.engine.instore import InStore
from stepwell.engine.ledger import Ledger
from stepwell.engine.mailboxes import Mailboxes
from stepwell.engine.performing import Performance
from stepwell.engine.questions import QuestionDesk
from stepwell.engine.queueing import Queueing
from stepwell.engine.runner import Runner
from stepwell.engine.steps import StepDesk
from stepwell.engine.streams import StreamDesk
from stepwell.engine.topics import Subscription
from stepwell.engine.verbs import VerbDesk
from stepwell.engine.waits import WaitDesk
from stepwell.engine.worker import Engine
from stepwell.programs.body import Body
from stepwell.programs.function import FunctionProgram
from stepwell.programs.graph.containers.branches import Race
from stepwell.programs.graph.containers.map import Map
from stepwell.programs.graph.containers.protocol import Container
from stepwell.programs.graph.firing import Firing
from stepwell.programs.graph.frame import Frame
from stepwell.programs.graph.locks import Locks
from stepwell.programs.graph.program import GraphProgram
from stepwell.programs.graph.tokens import Tokens
from stepwell.programs.graph.undoing import Saga, Undone
from stepwell.programs.matching import Records
from stepwell.programs.undoing import OneSaga, Undoing
from stepwell.programs.waiting import Waiting
from stepwell.stores.memory import MemoryStore
from stepwell.stores.memory.content import MemoryData
from stepwell.testing.simulation import simulate
from stepwell.usecases.steering import Steering


@dataclass(frozen=True)
class Edit:
    """In the function `name` of `owner` (a class or module), `old` becomes `new`."""

    owner: Any  # Any: a class or a module
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A broken engine. `survives` says why the simulator cannot notice it, for the few that are no faults at all."""

    name: str
    edits: tuple[Edit, ...]
    survives: str = ""


def mutant(name: str, *edits: tuple[Any, str, str, str], survives: str = "") -> Mutant:
    """A mutant from bare tuples."""
    return Mutant(name, tuple(Edit(*edit) for edit in edits), survives)


@contextlib.contextmanager
def mutated(one: Mutant) -> Iterator[None]:
    """Break the engine for a while.

    Raises:
        AssertionError: the text to change is not there, or there more than once: the mutant must be brought up to date.
    """
    before = [(edit.owner, edit.name, inspect.getattr_static(edit.owner, edit.name)) for edit in one.edits]
    try:
        for edit in one.edits:
            _apply(one, edit)
        yield
    finally:
        for owner, name, function in reversed(before):
            setattr(owner, name, function)


def _apply(one: Mutant, edit: Edit) -> None:
    known = inspect.getattr_static(edit.owner, edit.name)
    function = known.fget if isinstance(known, property) else known
    source = getattr(function, "__mutated_source__", None) or textwrap.dedent(inspect.getsource(function))
    found = source.count(edit.old)
    assert found == 1, f"mutant {one.name!r}: {edit.old!r} is {found} times in {edit.name}: bring the mutant up to date"
    source = source.replace(edit.old, edit.new)
    space: dict[str, Any] = {}
    exec(
        compile(source, f"<mutant {one.name}>", "exec", flags=_ANNOTATIONS, dont_inherit=True),
        function.__globals__,
        space,
    )
    changed = space[function.__name__]
    if not isinstance(changed, property):
        changed.__mutated_source__ = source
    setattr(edit.owner, edit.name, changed)


_ANNOTATIONS = __import__("__future__").annotations.compiler_flag


def first_failure(one: Mutant, seeds: range) -> int | None:
    """The first seed on which the mutant is caught; None when it survives them all."""
    with mutated(one):
        for seed in seeds:
            try:
                simulate(seed)
            except Exception:  # a broken promise, or a broken engine that breaks the simulator
                return seed
    return None


_FENCE = "(row.epoch, row.next_seq, row.owner) != fence"
_SECOND_LOCK = "epoch and seq refuse what the other parts of the fence would; it is kept as a second lock"

MUTANTS = (
    # -- the store ----------------------------------------------------------------------------------------------
    mutant("appends are not fenced", (MemoryStore, "_append", f"row.owner is None or {_FENCE}", "False")),
    mutant(
        "appends are not fenced by epoch",
        (MemoryStore, "_append", _FENCE, "(row.next_seq, row.owner) != fence[1:]"),
        survives=_SECOND_LOCK,
    ),
    mutant("appends are not fenced by seq", (MemoryStore, "_append", _FENCE, "(row.epoch, row.owner) != fence[::2]")),
    mutant(
        "appends are not fenced by owner",
        (MemoryStore, "_append", f"row.owner is None or {_FENCE}", "(row.epoch, row.next_seq) != fence[:2]"),
        survives=_SECOND_LOCK,
    ),
    mutant("a claim keeps the old epoch", (MemoryStore, "claim", "epoch=row.epoch + 1", "epoch=row.epoch")),
    mutant("runs of a dead worker stay its own", (MemoryStore, "drive", "if row.owner is not None:", "if False:")),
    mutant(
        "a run given up is not woken by a message it had not seen",
        (MemoryStore, "_append", "self._wake_if_unseen(append)", "pass"),
    ),
    mutant(
        "a message does not wake its run",
        (MemoryStore, "_put_message", "elif wakes(row, message.kind):", "elif False:"),
    ),
    mutant("a consumed message stays", (MemoryStore, "_append", "del self.data.mailbox[id]", "pass")),
    mutant("children are not created", (MemoryStore, "_append", "self._add_if_free(child)", "pass")),
    mutant("posts of an append are lost", (MemoryStore, "_append", "self._put_messages(append.posts)", "pass")),
    # -- commits ------------------------------------------------------------------------------------------------
    mutant(
        "attempts are launched before their start is on disk",
        (Runner, "_append", "if not self._sync:", "if True:"),
        (Runner, "_go_on", "launches if self._sync else in_store(launches)", "in_store(launches)"),
    ),
    mutant(
        "an append behind a refused one is given up",
        (Ledger, "_refuse", "(is_alone or not isinstance(error, Fenced))", "True"),
    ),
    mutant("a retryable refusal is final", (Ledger, "_refuse", "error.retryable", "False")),
    mutant(
        "refused appends are offered again in any order",
        (Ledger, "_offer_again", "key=lambda one: one[0].seq", "key=lambda one: -one[0].seq"),
    ),
    mutant(
        "an answer that is there already overtakes earlier ones",
        (Ledger, "_offer", "future.done() and self.on_the_way == 1", "future.done()"),
    ),
    mutant("what came while committing is forgotten", (Runner, "_rest", "self._missed or", "")),
    mutant(
        "children are created before their parent's append",
        (
            Ledger,
            "append",
            "children=tuple(beside.new_runs)",
            "children=tuple(one for one in beside.new_runs if self._runner.store.create(one) is None)",
        ),
    ),
    mutant(
        "exit runs keep their children to themselves",
        (Ledger, "reaches_out", "beside.new_runs or", ""),
    ),
    # -- messages -----------------------------------------------------------------------------------------------
    mutant("what was seen is ignored", (Runner, "_append", "self.inbox.seen() if release else 0", "1 << 60")),
    mutant(
        "messages still being fetched count as seen",
        (
            Inbox,
            "seen",
            "*self._fetching, *(message.id for message in self._waiting or ())",
            "*[m.id for m in self._waiting or ()],",
        ),
        (Runner, "is_idle", "or self.inbox.is_fetching", ""),
    ),
    mutant(
        "a message that overtook another hides it",
        (Inbox, "receive", "if in_order:", "if True:"),
        (Mailboxes, "heard", "self._unread or self._is_reading or self._engine.store.changed()", "False"),
    ),
    mutant(
        "messages of this process overtake those of others",
        (Mailboxes, "heard", "self._unread or self._is_reading or self._engine.store.changed()", "False"),
    ),
    mutant(
        "messages that come while a run is picked up are dropped",
        (Claims, "keep_early", "self._early.setdefault(message.run_id, []).append(message)", "pass"),
    ),
    mutant(
        "messages go to a runner on its way out",
        (Mailboxes, "heard", "runner is not None and not runner.is_leaving", "runner is not None"),
    ),
    mutant(
        "a late answer of the store shows taken messages again",
        (Mailboxes, "heard", "(message.run_id, message.id) in self._used_up", "False"),
    ),
    mutant("a taken signal is not consumed", (WaitDesk, "_satisfy_by", "self._runner.consume(message)", "pass")),
    mutant("the last signal is taken first", (WaitDesk, "_give_signal", "kept.popleft()", "kept.pop()")),
    # -- claiming -----------------------------------------------------------------------------------------------
    mutant(
        "a caller that gives up waiting keeps the engine from its new run",
        (
            Stepwell,
            "_create",
            "await asyncio.shield(engine.claims.start(new, workflow, volatile))",
            "await engine.claims.start(new, workflow, volatile)",
        ),
    ),
    mutant("a lost worker goes on", (Engine, "lose", "self.lost = True", "return")),
    mutant(
        "trouble while a run is picked up loses it", (Claims, "_adopt_in_time", "if not error.retryable:", "if True:")
    ),
    mutant(
        "claiming ends with the first trouble",
        (Claims, "keep_claiming", "except StoreError as error:", "except ZeroDivisionError as error:"),
    ),
    mutant("a paused run holds its place", (Claims, "_make_room", '"paused", ', "")),
    mutant("a full engine asks without a pause", (Claims, "keep_claiming", "until = max(until, now + BREATH)", "pass")),
    # -- life of a run ------------------------------------------------------------------------------------------
    mutant("a run cut off at shutdown is not due", (Runner, "_wake_at", "if self._is_cut_off:", "if False:")),
    mutant(
        "a child's end is not told",
        (ChildDesk, "tell_parent", "runner.ledger.beside.posts.append(", "(lambda _: None)("),
    ),
    mutant("cancelling does not reach children", (ChildDesk, "cancel", "self._post(", "(lambda *_: None)(")),
    mutant(
        "a completed child is silent to a parent that is retried",
        (VerbDesk, "take", "runner.children.tell_parent(runner.state.output, runner.state.output_blob)", "pass"),
    ),
    mutant("waits of a paused run are satisfied", (WaitDesk, "next", "self._runner.state.pause is not None or", "")),
    mutant("resuming does not ask for steps again", (Runner, "unpause", "self.steps.unpause()", "pass")),
    mutant(
        "resuming asks again for what has just ended",
        (StepDesk, "unpause", "self.take_outcomes()", "pass"),
    ),
    mutant(
        "a paused run starts attempts",
        (StepDesk, "admit", "self._runner.state.pause is not None", "False"),
        (StepDesk, "_ask", "self._runner.state.pause is not None", "False"),
        (stepwell.model.decide, "_start_attempt", "or state.pause is not None", ""),
    ),
    # -- steps --------------------------------------------------------------------------------------------------
    mutant(
        "an outcome is delivered twice",
        (
            StepDesk,
            "_complete",
            "self._runner.body.deliver_later(entry, output)",
            "[self._runner.body.deliver_later(entry, output) for _ in range(2)]",
        ),
        survives="the program hands an outcome to the call that waits for it, and no call waits twice",
    ),
    mutant(
        "an outcome is journaled and not delivered", (StepDesk, "_complete", "self._runner.body.deliver_later", "id")
    ),
    mutant("retries do not wait", (StepDesk, "_retry_later", "if at <= self._runner.engine.clock.now():", "if True:")),
    mutant("retries are not counted", (stepwell.model.decide, "_start_attempt", "step.attempt + 1", "step.attempt")),
    mutant("slots are not given back", (StepDesk, "ended", "self._give_back(step)", "pass")),
    mutant(
        "the idempotency key names the attempt",
        (AttemptContext, "idempotency_key", "{self._step}", "{self._step}:{self.attempt}"),
    ),
    mutant(
        "outcomes of superseded attempts count",
        (stepwell.model.decide, "_is_in_flight", "and step.attempt == attempt", ""),
        survives="an attempt that is superseded is cancelled first, and a cancelled attempt reports nothing",
    ),
    # -- timers -------------------------------------------------------------------------------------------------
    mutant("timers are not armed after a rebuild", (WaitDesk, "begin", "if wait.due is not None", "if not is_known")),
    mutant("timers ring early", (WaitDesk, "_fire", "self._due[0][0] <= now", "self._due[0][0] <= now + 30_000")),
    # -- rebuilding a body --------------------------------------------------------------------------------------
    mutant(
        "outcomes are replayed in another order",
        (
            Performance,
            "set_up",
            "deque(self._program.recorded.deliveries)",
            "deque(sorted(self._program.recorded.deliveries, key=lambda one: str(getattr(one, 'path', ''))))",
        ),
    ),
    mutant("a retry of a run withdraws nothing", (stepwell.programs.matching, "_withdrawn", "result |= taken", "pass")),
    mutant(
        "a call still to come is taken for changed code",
        (stepwell.programs.matching, "_comes_later", "later > now", "False"),
    ),
    mutant(
        "what was done on the way out is taken for changed code",
        (Records, "__init__", "is_aftermath=index in aftermath", "is_aftermath=False"),
    ),
    mutant(
        "inputs are not compared",
        (Records, "match", "and exact.fingerprint == fingerprint:", "and (exact.fingerprint == fingerprint or True):"),
        survives="the simulated code never changes between two lives of a run; tests/replay looks after code that does",
    ),
    # -- people -------------------------------------------------------------------------------------------------
    mutant("a taken answer is not consumed", (WaitDesk, "_hear", "self._runner.consume(message)", "pass")),
    mutant(
        "the first answer settles every question", (QuestionDesk, "_settle", "if not is_settled(", "if False and (")
    ),
    mutant(
        "answers are not counted",
        (
            stepwell.model.state,
            "_change_request",
            "asked.answers.append((entry.by, bytes(entry.payload), entry.at))",
            "pass",
        ),
    ),
    mutant(
        "a question that has ended stays in the inbox",
        (QuestionDesk, "noticed", "self._runner.ledger.beside.closed.append(id)", "pass"),
    ),
    mutant(
        "an open wait is not shown",
        (QuestionDesk, "_show", "self._runner.ledger.beside.opened[found.id] = found", "pass"),
    ),
    mutant(
        "a body does not hear that its question was taken back",
        (QuestionDesk, "take", "runner.body.deliver_later(entry,", "id((entry,)), id("),
    ),
    mutant(
        "reminders are forgotten when a body is rebuilt",
        (WaitDesk, "begin", "self._remind_later(wait.path)", "is_known or self._remind_later(wait.path)"),
    ),
    # -- events -------------------------------------------------------------------------------------------------
    mutant(
        "what is published during a scan is missed",
        (Subscription, "scanned", " and self._missed <= self._position", ""),
    ),
    mutant(
        "a run given up is not woken by an event that it had not heard",
        (MemoryStore, "_wake_if_unseen", " or self._has_unheard(append)", ""),
    ),
    mutant(
        "a publisher does not wake those who wait",
        (MemoryData, "publish", "self.wake(row, new.at)", "pass"),
    ),
    mutant(
        "two waits of a subscription get the same event",
        (Subscription, "take", "event = self._queue.popleft()", "event = self._queue[0]"),
    ),
    mutant(
        "what is published in passing is for those who come later too",
        (Subscription, "take", "not event.transient or event.at >= wait.at", "True"),
    ),
    mutant(
        "a rebuilt subscription begins with the first event",
        (stepwell.engine.topics, "subscription_for", "runner.state.cursors.get(name, 0)", "0"),
    ),
    mutant(
        "filters are not asked",
        (Subscription, "_fits", "self._rule is None or self._rule.holds(event.body)", "True"),
    ),
    mutant(
        "a rebuilt body says again that it publishes",
        (Body, "publish", "if self._asks.recorded.value(path) is None:", "if True:"),
    ),
    mutant(
        "an event that is there keeps no others from waiting", (WaitDesk, "committed", "subscription.scan()", "pass")
    ),
    # -- races --------------------------------------------------------------------------------------------------
    mutant(
        "several waits are satisfied before the body moves",
        (
            Runner,
            "_pump",
            "self.waits.next(self.now):\n            self.body.advance()",
            "self.waits.next(self.now):\n            pass",
        ),
    ),
    mutant("losers go on waiting", (Waiting, "_first", "if is_ours and not future.done()", "if False")),
    mutant("another than the winner wins", (Waiting, "_first", "if future.done()", "if not future.done()")),
    # -- sagas --------------------------------------------------------------------------------------------------
    mutant("what was done first is undone first", (Undoing, "_work", "saga.calls.pop()", "saga.calls.pop(0)")),
    mutant(
        "a second cancellation stops the undoing",
        (Undoing, "_stop", " or task in self._workers", ""),
    ),
    mutant(
        "what undoes a cancelled run is not tried again",
        (stepwell.model.decide, "_fail_attempt", ' or step.step == "compensation"', ""),
    ),
    mutant(
        "a run that was undone is retried",
        (stepwell.model.decide, "_decide_verb", "if state.undone:", "if False:"),
        (Steering, "_refuse_undone", "and last.entry.undone", "and False"),
    ),
    mutant(
        "a run that failed is not undone",
        (Undoing, "wind_up", "await self._make_calls(self.root)", "pass"),
    ),
    mutant(
        "what a body leaves behind is not waited for",
        (FunctionProgram, "_end_with", "any(not task.done() for task in self._loop.tasks)", "False"),
    ),
    mutant(
        "a block in good order forgets how to undo its work",
        (OneSaga, "end", "self._open_one().calls += calls", "pass"),
    ),
    mutant(
        "what is undone because something beside it failed does not count",
        (Undoing, "has_undone_for", "min(dates, default=0) < self._begun", "False"),
    ),
    mutant(
        "what goes on in a block is undone beside it",
        (Undoing, "leave", "await self._stop(lambda task: _saga_of(task, self.root).is_within(saga))", "False, False"),
    ),
    mutant(
        "a compensation that failed for good can be passed over",
        (Undoing, "_work", "self.failures.append(failure)", "continue"),
    ),
    mutant(
        "a retry that goes on undoing withdraws the cancellation",
        (stepwell.programs.matching, "_withdrawn_by", "and not retry.undoing", ""),
        (stepwell.model.state, "_resume", "if not entry.undoing:", "if True:"),
    ),
    # -- child runs ---------------------------------------------------------------------------------------------
    mutant(
        "the end of a child is not waited for",
        (Body, "_await_child", 'request.workflow.options.on_cancel == "wait"', "False"),
    ),
    mutant("an abandoned child is cancelled", (ChildDesk, "cancel", ' and step.on_cancel != "abandon"', "")),
    # -- streams ------------------------------------------------------------------------------------------------
    mutant("the last chunks are left out", (StreamDesk, "ended", "self._keep(stream)", "pass")),
    mutant(
        "each block counts from one", (stepwell.engine.streams._Stream, "add", "_Block(self.count + 1)", "_Block(1)")
    ),
    mutant(
        "live chunks are read again from the journal",
        (stepwell.usecases.streams, "_is_next", "heard[key] = chunk.number", "pass"),
    ),
    mutant(
        "a live chunk overtakes those before it",
        (stepwell.usecases.streams, "_is_next", "if chunk.number != heard.get(key, 0) + 1:", "if False:"),
    ),
    # -- transactions -------------------------------------------------------------------------------------------
    mutant(
        "what a transaction wrote stays when it is rolled back",
        (
            stepwell.stores.memory.transact,
            "transaction",
            'connection.execute("ROLLBACK")',
            'connection.execute("COMMIT")',
        ),
    ),
    mutant(
        "the outcome of a transaction is not heard",
        (StepDesk, "heard", "self._complete(body.path, body.attempt, body.output, {})", "pass"),
    ),
    mutant(
        "a transaction whose outcome nobody wanted is done again",
        (InStore, "_transact", 'key="once"', 'key=""'),
    ),
    mutant(
        "what a transaction writes is on disk before its start",
        (stepwell.engine.runner, "in_store", "if attempt.task.options.transactional", "if False"),
        (stepwell.engine.runner, "not_in_store", "if not attempt.task.options.transactional", ""),
    ),
    # -- graphs -------------------------------------------------------------------------------------------------
    mutant(
        "dead tokens are not told",
        (Frame, "_tell_all", "self.tell(edges[index], live)", "live and self.tell(edges[index], live)"),
    ),
    mutant("a join does not wait for all its edges", (Tokens, "arrive", "if len(node.ins) == 1:", "if live:")),
    mutant(
        "a join that has fired fires again",
        (Tokens, "arrive", "_RULES[kind](", "_RULES['each' if kind == 'any' else kind]("),
    ),
    mutant(
        "a cycle is left for dead while it moves",
        (Frame, "_rest_of_cycle", "self.cycle_work.get(cycle, 0) or", ""),
    ),
    mutant(
        "a fact is told again by a rebuilt graph", (GraphProgram, "record", "not self.recorded.has_fact(fact)", "True")
    ),
    mutant("outputs are let go with their first reader", (Frame, "_let_go", "seen == node.readers", "seen == 1")),
    mutant(
        "what waits beside a container is not withdrawn",
        (Firing, "_settle", "self.withdraw()", "self.container or self.withdraw()"),
    ),
    mutant("a container does not wait for what is in it", (Container, "_end_when_empty", "self.frames or not", "not")),
    mutant(
        "a map loses an item when it is rebuilt",
        (
            Map,
            "_fill",
            "self._next < len(self._items) and",
            "self._next < len(self._items) - (self._next > 0 and not self.program.asks.live) and",
        ),
    ),
    mutant(
        "one more item than a map has room for", (Map, "_fill", "len(self.frames) < room", "len(self.frames) <= room")
    ),
    mutant(
        "the results of a map stand as they came",
        (Map, "ended_well", "self._index_of.pop(frame)", "self._index_of.pop(frame) and self._done"),
    ),
    mutant("a lock lets everybody in", (Locks, "take_then", "if name not in self._holders:", "if True:")),
    mutant(
        "a lock is given back before its holder has ended",
        (Container, "_end_when_empty", "verdict = self._verdict\n", "self.release(); verdict = self._verdict\n"),
    ),
    mutant(
        "nodes that were done first are undone first",
        (stepwell.programs.graph.undoing.Undoing, "begin", "self._saga.calls.pop()", "self._saga.calls.pop(0)"),
    ),
    mutant(
        "a scope that ended well forgets how it is undone", (Saga, "done", "self._around.calls += self.calls", "pass")
    ),
    mutant("a run of which a scope was undone goes on", (Undone, "is_since", "min(dates) < self.begun", "False")),
    mutant(
        "a node does not wait for the child that it gives up",
        (Firing, "outlast", "self.outlasts is None or", "True or"),
    ),
    mutant(
        "graphs are not looked for in the store",
        (Graphs, "fetch", "row = await self._engine.store.definition(name, version)", "row = None"),
    ),
    mutant(
        "trouble while the graph of a claimed run is loaded loses the run",
        (Claims, "_with_graphs", "except StoreError:", "except ZeroDivisionError:"),
    ),
    mutant(
        "graphs that others start are not loaded",
        (Graphs, "prepare", "wanted = dict.fromkeys(self._started)", "wanted = {}"),
        (Graphs, "_find_missed", "if found:", "if False:"),
    ),
    mutant(
        "variables are set again by a rebuilt graph",
        (GraphProgram, "_set", "recorded is None or bytes(recorded.payload) != bytes(payload)", "True"),
    ),
    mutant(
        "a rebuilt graph publishes again",
        (
            stepwell.programs.graph.kinds,
            "_effect",
            "data = encoded(settings.data, firing.path)\n        if program.recorded.value(firing.path) is None:",
            "data = encoded(settings.data, firing.path)\n        if True:",
        ),
    ),
    mutant("a failure is taken for a skipped node", (Firing, "fail", "frame.fail(error)\n", "pass\n")),
    mutant("losers of a race go on", (Race, "_decide", "other.cancel()", "pass")),
    # -- code that changes, edits, queues, triggers -------------------------------------------------------------
    mutant(
        "runs that went by a change go back",
        (Body, "patched", "if not known and self._asks.knows_no_more:", "if not known:"),
    ),
    mutant("an edit is not seen", (VerbDesk, "_set_state", "self._runner.body.hear_of_edit(entry)", "pass")),
    mutant(
        "one more goes into a queue than may",
        (
            stepwell.stores.admission._Turnstile,
            "is_full",
            "self._under_way[key] >= limit",
            "self._under_way[key] > limit",
        ),
    ),
    mutant(
        "a full queue keeps children from their parents",
        (stepwell.stores.admission, "choose", "if limit > 0 and line.stands_still(None):", "if False:"),
    ),
    mutant("room in a queue is not noticed", (Queueing, "committed", "append.status in TERMINAL or ", "")),
    mutant("an occasion fires and starts nothing", (MemoryStore, "advance", "self._add_if_free(run)", "pass")),
    mutant("a deadline passes unseen", (Runner, "_pump", "self.waits.check_deadline(self.now)", "pass")),
)
