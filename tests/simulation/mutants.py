"""Broken engines: each mutant changes a few words of the real one, and the simulator must notice."""

from __future__ import annotations

import contextlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import stepwell.model.decide
import stepwell.programs.matching
from stepwell.app import Stepwell
from stepwell.authoring.context import AttemptContext
from stepwell.engine.children import ChildDesk
from stepwell.engine.claiming import Claims
from stepwell.engine.inbox import Inbox
from stepwell.engine.ledger import Ledger
from stepwell.engine.mailboxes import Mailboxes
from stepwell.engine.runner import Runner
from stepwell.engine.steps import StepDesk
from stepwell.engine.verbs import VerbDesk
from stepwell.engine.waits import WaitDesk
from stepwell.engine.worker import Engine
from stepwell.programs.matching import Records
from stepwell.stores.memory import MemoryStore
from stepwell.testing.simulation import simulate


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
        (Runner, "_go_on", "if self._sync:", "if False:"),
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
            "children=tuple(self.new_runs)",
            "children=tuple(one for one in self.new_runs if self._store.create(one) is None)",
        ),
    ),
    mutant(
        "exit runs keep their children to themselves",
        (Ledger, "reaches_out", "bool(self.new_runs or self.posts)", "False"),
    ),
    # -- messages -----------------------------------------------------------------------------------------------
    mutant("what was seen is ignored", (Runner, "_append", "self.inbox.seen() if release else 0", "1 << 60")),
    mutant(
        "messages still being fetched count as seen",
        (
            Inbox,
            "seen",
            "*self._fetching, *(message.id for message in self._waiting)",
            "*[m.id for m in self._waiting],",
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
    mutant("a taken signal is not consumed", (WaitDesk, "_give", "self._runner.consume(message)", "pass")),
    mutant("the last signal is taken first", (WaitDesk, "_match", "kept.popleft()", "kept.pop()")),
    # -- claiming -----------------------------------------------------------------------------------------------
    mutant(
        "a caller that gives up waiting keeps the engine from its new run",
        (
            Stepwell,
            "_create",
            "await asyncio.shield(self._engine.claims.start(new, workflow, volatile))",
            "await self._engine.claims.start(new, workflow, volatile)",
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
    mutant("a child's end is not told", (ChildDesk, "tell_parent", "runner.ledger.posts.append(", "(lambda _: None)(")),
    mutant("cancelling does not reach children", (ChildDesk, "cancel", "self._post(", "(lambda *_: None)(")),
    mutant(
        "a completed child is silent to a parent that is retried",
        (VerbDesk, "take", "runner.children.tell_parent(runner.state.output, runner.state.output_blob)", "pass"),
    ),
    mutant("resuming does not look for kept signals", (Runner, "unpause", "self.waits.match_all()", "pass")),
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
            "self._runner.deliver_later(entry, output)",
            "[self._runner.deliver_later(entry, output) for _ in range(2)]",
        ),
        survives="the program hands an outcome to the call that waits for it, and no call waits twice",
    ),
    mutant("an outcome is journaled and not delivered", (StepDesk, "_complete", "self._runner.deliver_later", "id")),
    mutant("retries do not wait", (StepDesk, "_retry_later", "if at <= self._runner.engine.clock.now():", "if True:")),
    mutant("retries are not counted", (stepwell.model.decide, "_start_attempt", "step.attempt + 1", "step.attempt")),
    mutant("slots are not given back", (StepDesk, "_ended", "self._give_back(step)", "pass")),
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
    mutant("timers are not armed after a rebuild", (WaitDesk, "begin", "else known.due", "else None")),
    mutant("timers ring early", (WaitDesk, "fire_due", "self._due[0][0] <= now", "self._due[0][0] <= now + 30_000")),
    # -- rebuilding a body --------------------------------------------------------------------------------------
    mutant(
        "outcomes are replayed in another order",
        (
            Runner,
            "_set_up",
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
)
