"""What becomes of a run whose code was edited between a crash and recovery: a table, one row an edit.

Each row is a function that gives the workflow before and after the edit, and what is expected of a run that began with
the one and is recovered with the other by a new engine on the same store: its result and which tasks ran again or anew,
or that it is paused with a difference that names both calls and the line, or fails; and which records are left over.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stepwell import ctx, task, workflow
from stepwell.app import Stepwell
from stepwell.authoring.workflow import Workflow
from stepwell.errors import StepwellError
from stepwell.model.entries import OnChange
from stepwell.stores.memory import MemoryData, MemoryStore
from stepwell.usecases.replaying import Outcome

HERE = f"{Path(__file__).name}:"

ran: list[str] = []
"""The attempts that began since the engine was opened last."""

lives = [0]


@task
async def fetch(item: str) -> str:
    ran.append(f"fetch {item}")
    return f"got {item}"


@task
async def other(item: str) -> str:
    ran.append(f"other {item}")
    return f"other {item}"


@task
async def hold(item: str) -> str:
    """In flight when the engine ends for the first time."""
    ran.append(f"hold {item}")
    if lives[0] == 1:
        await asyncio.Event().wait()
    return f"held {item}"


@dataclass(frozen=True)
class Row:
    """An edit, and what is expected of it.

    The crash comes when the run waits for something from outside, or with `in_flight` or `children` when so many
    attempts or child runs are under way. `go` says whether a signal of that name is sent after recovery. `paused` are
    parts of the difference with which the run is paused; it is then resumed with `resume`. `failed` are parts of the
    error that the run fails with. `orphans` are records that are left over in the end (open ones are cancelled when the
    run ends). `replayed` is what a replay said before recovery.
    """

    before: Workflow[..., Any]
    after: Workflow[..., Any]
    args: tuple[object, ...] = ()
    others: tuple[Workflow[..., Any], ...] = ()
    in_flight: int = 0
    children: int = 0
    go: bool = True
    result: object = None
    ran: Sequence[str] = ()
    paused: Sequence[str] = ()
    resume: OnChange | None = None
    failed: Sequence[str] = ()
    orphans: Sequence[str] = ()
    replayed: Outcome = "ok"
    upgrade: str | None = None


ROWS: list[Callable[[], Row]] = []


def edit(row: Callable[[], Row]) -> Callable[[], Row]:
    ROWS.append(row)
    return row


def flow(body: Callable[..., Any]) -> Workflow[..., Any]:
    return workflow(name="flow")(body)


@flow
async def in_a_row() -> list[str]:
    found = [await fetch(item) for item in "AB"]
    await ctx.signal("go")
    return found


@flow
async def at_once() -> list[str]:
    found = await asyncio.gather(fetch("A"), fetch("B"))
    await ctx.signal("go")
    return list(found)


# -- steps that are new, moved, or gone -------------------------------------------------------------------------------


@edit
def the_same_code() -> Row:
    return Row(in_a_row, in_a_row, result=["got A", "got B"])


@edit
def a_step_of_another_task_is_inserted_in_front() -> Row:
    @flow
    async def after() -> list[str]:
        first = await other("new")
        found = [await fetch(item) for item in "AB"]
        await ctx.signal("go")
        return [first, *found]

    return Row(in_a_row, after, result=["other new", "got A", "got B"], ran=["other new"])


@edit
def a_step_is_inserted_behind_those_recorded() -> Row:
    @flow
    async def after() -> list[str]:
        found = [await fetch(item) for item in "ABC"]
        await ctx.signal("go")
        return found

    return Row(in_a_row, after, result=["got A", "got B", "got C"], ran=["fetch C"])


@edit
def a_step_is_moved_behind_the_wait() -> Row:
    @flow
    async def before() -> list[str]:
        first = await other("X")
        second = await fetch("A")
        await ctx.signal("go")
        return [first, second]

    @flow
    async def after() -> list[str]:
        second = await fetch("A")
        await ctx.signal("go")
        first = await other("X")
        return [first, second]

    return Row(before, after, result=["other X", "got A"])


@edit
def a_step_is_taken_out() -> Row:
    @flow
    async def after() -> list[str]:
        found = [await fetch("B")]
        await ctx.signal("go")
        return found

    return Row(in_a_row, after, result=["got B"], orphans=["fetch#1"])


@edit
def all_recorded_steps_are_taken_out() -> Row:
    @flow
    async def after() -> str:
        await ctx.signal("go")
        return "nothing"

    return Row(in_a_row, after, result="nothing", orphans=["fetch#1", "fetch#2"])


@edit
def a_step_in_flight_is_taken_out() -> Row:
    @flow
    async def before() -> str:
        return await hold("A")

    @flow
    async def after() -> str:
        return await other("A")

    return Row(before, after, in_flight=1, result="other A", ran=["other A"])


@edit
def a_step_moves_into_a_function_of_its_own() -> Row:
    async def get(item: str) -> str:
        return await fetch(item)

    @flow
    async def after() -> list[str]:
        found = [await get(item) for item in "AB"]
        await ctx.signal("go")
        return found

    return Row(in_a_row, after, result=["got A", "got B"])


@edit
def a_step_moves_into_a_task_of_asyncio() -> Row:
    @flow
    async def after() -> list[str]:
        async def get(item: str) -> str:
            return await fetch(item)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get(item)) for item in "AB"]
        await ctx.signal("go")
        return [one.result() for one in tasks]

    return Row(in_a_row, after, result=["got A", "got B"])


@edit
def steps_move_into_a_gather() -> Row:
    return Row(in_a_row, at_once, result=["got A", "got B"])


@edit
def steps_move_out_of_a_gather() -> Row:
    return Row(at_once, in_a_row, result=["got A", "got B"])


@edit
def steps_move_into_a_map() -> Row:
    @flow
    async def after() -> list[str]:
        found = await fetch.map("AB")
        await ctx.signal("go")
        return found

    return Row(in_a_row, after, result=["got A", "got B"])


@edit
def a_step_in_flight_moves_into_a_gather() -> Row:
    @flow
    async def before() -> list[str]:
        return [await fetch("A"), await hold("B")]

    @flow
    async def after() -> list[str]:
        return list(await asyncio.gather(hold("B"), fetch("A"), other("C")))

    return Row(before, after, in_flight=1, result=["held B", "got A", "other C"], ran=["hold B", "other C"])


@edit
def a_step_is_wrapped_in_a_time_limit() -> Row:
    @flow
    async def before() -> list[str]:
        first = await fetch("A")
        await ctx.sleep(0.001)
        second = await fetch("B")
        await ctx.signal("go")
        return [first, second]

    @flow
    async def after() -> list[str]:
        async with asyncio.timeout(3600):
            first = await fetch("A")
            await ctx.sleep(0.001)
        second = await asyncio.wait_for(fetch("B"), 3600)
        await ctx.signal("go")
        return [first, second]

    return Row(before, after, result=["got A", "got B"])


@edit
def a_wait_is_wrapped_in_a_time_limit_that_is_over() -> Row:
    @flow
    async def before() -> str:
        await fetch("A")
        await ctx.signal("never")
        return "came"

    @flow
    async def after() -> str:
        await fetch("A")
        try:
            async with asyncio.timeout(0.000_001):
                await ctx.signal("never")
        except TimeoutError:
            return await other("late")
        return "came"

    return Row(before, after, result="other late", ran=["other late"])


# -- loops and lists --------------------------------------------------------------------------------------------------


def looping(items: str) -> Workflow[..., Any]:
    @flow
    async def body() -> list[str]:
        found = [await fetch(item) for item in items]
        await ctx.signal("go")
        return found

    return body


@edit
def a_loop_is_reordered() -> Row:
    return Row(looping("ABC"), looping("CAB"), result=["got C", "got A", "got B"])


@edit
def a_list_is_shortened() -> Row:
    return Row(looping("ABC"), looping("AC"), result=["got A", "got C"], orphans=["fetch#2"])


@edit
def a_list_is_lengthened_at_its_end() -> Row:
    return Row(looping("AB"), looping("ABCD"), result=["got A", "got B", "got C", "got D"], ran=["fetch C", "fetch D"])


@edit
def an_item_is_inserted_in_front_of_a_loop() -> Row:
    return Row(
        looping("AB"),
        looping("XAB"),
        paused=['{"item":"A"}', '{"item":"X"}', HERE],
        resume="rerun",
        result=["got X", "got A", "got B"],
        ran=["fetch X"],
        replayed="diverged",
    )


@edit
def an_item_of_a_loop_is_exchanged_and_the_record_reused() -> Row:
    return Row(
        looping("AB"),
        looping("AX"),
        paused=["fetch#2", '{"item":"B"}', '{"item":"X"}', HERE],
        resume="reuse",
        result=["got A", "got B"],
        replayed="diverged",
    )


@edit
def an_item_of_a_loop_is_exchanged_and_the_run_told_to_fail() -> Row:
    return Row(
        looping("AB"),
        looping("AX"),
        paused=["fetch#2"],
        resume="fail",
        failed=['{"item":"B"}', '{"item":"X"}'],
        orphans=["fetch#2"],
        replayed="diverged",
    )


@edit
def a_map_with_keys_is_reordered_and_one_inserted() -> Row:
    def mapping(items: str) -> Workflow[..., Any]:
        @flow
        async def body() -> list[str]:
            found = await fetch.map(items, key=str, concurrency=1)
            await ctx.signal("go")
            return found

        return body

    return Row(mapping("ABC"), mapping("XCBA"), result=["got X", "got C", "got B", "got A"], ran=["fetch X"])


@edit
def two_equal_calls_change_places() -> Row:
    @task
    async def counted(item: str) -> int:
        ran.append(f"counted {item}")
        return len(ran)

    @flow
    async def before() -> list[int]:
        left, right = counted("A"), counted("A")
        found = [await left, await right]
        await ctx.signal("go")
        return found

    @flow
    async def after() -> list[int]:
        left, right = counted("A"), counted("A")
        found = [await right, await left]
        await ctx.signal("go")
        return found

    return Row(before, after, result=[2, 1])


# -- inputs, names, types ---------------------------------------------------------------------------------------------


def paying(charge: Any, *args: object) -> Workflow[..., Any]:
    @flow
    async def body() -> object:
        paid = await charge(*args)
        await ctx.signal("go")
        return paid

    return body


@task
async def charge(cents: int) -> str:
    ran.append(f"charge {cents}")
    return f"paid {cents}"


@edit
def an_input_is_changed_and_the_step_run_again() -> Row:
    return Row(
        paying(charge, 5),
        paying(charge, 6),
        paused=["charge#1", '{"cents":5}', '{"cents":6}', HERE],
        resume="rerun",
        result="paid 6",
        ran=["charge 6"],
        orphans=["charge#1"],
        replayed="diverged",
    )


@edit
def an_input_is_changed_of_a_task_that_says_reuse() -> Row:
    return Row(paying(charge, 5), paying(charge.with_options(on_change="reuse"), 6), result="paid 5")


@edit
def an_input_is_changed_of_a_task_that_says_rerun() -> Row:
    return Row(
        paying(charge, 5),
        paying(charge.with_options(on_change="rerun"), 6),
        result="paid 6",
        ran=["charge 6"],
        orphans=["charge#1"],
    )


@edit
def an_input_is_changed_of_a_task_that_says_fail() -> Row:
    return Row(
        paying(charge, 5),
        paying(charge.with_options(on_change="fail"), 6),
        failed=['{"cents":5}', '{"cents":6}', HERE],
        orphans=["charge#1"],
        replayed="diverged",
    )


@edit
def an_input_is_changed_of_a_step_in_flight() -> Row:
    @flow
    async def before() -> str:
        return await hold("A")

    @flow
    async def after() -> str:
        return await hold("B")

    return Row(
        before,
        after,
        in_flight=1,
        paused=["hold#1", '{"item":"A"}', '{"item":"B"}', HERE],
        resume="rerun",
        result="held B",
        ran=["hold B"],
        replayed="diverged",
    )


@edit
def a_parameter_is_renamed() -> Row:
    @task(name="charge")
    async def renamed(amount: int) -> str:
        ran.append(f"charge {amount}")
        return f"paid {amount}"

    return Row(
        paying(charge, 5),
        paying(renamed, 5),
        paused=['{"cents":5}', '{"amount":5}'],
        resume="reuse",
        result="paid 5",
        replayed="diverged",
    )


@edit
def a_parameter_with_a_default_is_added() -> Row:
    @task(name="charge")
    async def longer(cents: int, currency: str = "EUR") -> str:
        ran.append(f"charge {cents} {currency}")
        return f"paid {cents} {currency}"

    return Row(paying(charge, 5), paying(longer, 5), result="paid 5")


@edit
def a_task_is_renamed_with_an_alias() -> Row:
    @task(aliases=("charge",))
    async def bill(cents: int) -> str:
        ran.append(f"bill {cents}")
        return f"billed {cents}"

    return Row(paying(charge, 5), paying(bill, 5), result="paid 5")


@edit
def a_task_is_renamed_without_an_alias() -> Row:
    @task
    async def bill(cents: int) -> str:
        ran.append(f"bill {cents}")
        return f"billed {cents}"

    return Row(paying(charge, 5), paying(bill, 5), result="billed 5", ran=["bill 5"], orphans=["charge#1"])


@edit
def what_a_task_does_is_changed() -> Row:
    @task(name="charge")
    async def otherwise(cents: int) -> str:
        ran.append(f"otherwise {cents}")
        return f"otherwise {cents}"

    return Row(paying(charge, 5), paying(otherwise, 5), result="paid 5")


@edit
def a_return_type_is_widened() -> Row:
    @task(name="charge")
    async def wider(cents: int) -> str | int | None:
        ran.append(f"charge {cents}")
        return None

    return Row(paying(charge, 5), paying(wider, 5), result="paid 5")


@dataclass
class Receipt:
    text: str
    cents: int = 0


@edit
def a_return_type_is_narrowed_so_that_the_record_cannot_be_read() -> Row:
    @task(name="charge")
    async def narrower(cents: int) -> Receipt:
        ran.append(f"charge {cents}")
        return Receipt(f"paid {cents}", cents)

    return Row(
        paying(charge, 5),
        paying(narrower, 5),
        paused=["charge#1", '"paid 5"', "upgrade="],
        replayed="diverged",
    )


@edit
def a_return_type_is_changed_and_old_results_are_upgraded() -> Row:
    @task(name="charge", upgrade=lambda old: Receipt(str(old)))
    async def upgraded(cents: int) -> Receipt:
        ran.append(f"charge {cents}")
        return Receipt(f"paid {cents}", cents)

    @flow
    async def after() -> str:
        receipt = await upgraded(5)
        await ctx.signal("go")
        return f"{receipt.text}, {receipt.cents} known"

    return Row(paying(charge, 5), after, result="paid 5, 0 known")


@edit
def a_return_type_is_changed_and_its_upgrade_raises() -> Row:
    def refuse(old: object) -> Receipt:
        raise LookupError(f"what is {old}?")

    @task(name="charge", upgrade=refuse)
    async def upgraded(cents: int) -> Receipt:
        return Receipt(f"paid {cents}", cents)

    return Row(paying(charge, 5), paying(upgraded, 5), paused=["charge#1", "what is paid 5?"], replayed="diverged")


@edit
def a_parameter_of_the_workflow_itself_is_renamed() -> Row:
    @flow
    async def before(item: str) -> str:
        found = await fetch(item)
        await ctx.signal("go")
        return found

    @flow
    async def after(thing: str) -> str:
        found = await fetch(thing)
        await ctx.signal("go")
        return found

    return Row(
        before,
        after,
        ("A",),
        failed=["no parameter 'item'"],
        orphans=["fetch#1"],
        replayed="diverged",
    )


@edit
def a_key_of_the_state_is_renamed() -> Row:
    @flow
    async def before() -> object:
        ctx.state["stage"] = await fetch("A")
        await ctx.signal("go")
        return dict(ctx.state)

    @flow
    async def after() -> object:
        ctx.state["phase"] = await fetch("A")
        await ctx.signal("go")
        return dict(ctx.state)

    return Row(before, after, result={"phase": "got A"})


# -- waits, timers, child runs ----------------------------------------------------------------------------------------


@edit
def a_signal_moves_in_front_of_a_step() -> Row:
    @flow
    async def before() -> list[object]:
        found = await fetch("A")
        return [found, await ctx.signal("go")]

    @flow
    async def after() -> list[object]:
        taken = await ctx.signal("go")
        return [await fetch("A"), taken]

    return Row(before, after, result=["got A", None])


@edit
def a_signal_gets_another_name() -> Row:
    @flow
    async def before() -> object:
        await fetch("A")
        return await ctx.signal("old name")

    @flow
    async def after() -> object:
        await fetch("A")
        return await ctx.signal("go")

    return Row(before, after, result=None)


def sleeping(seconds: float) -> Workflow[..., Any]:
    @flow
    async def body() -> str:
        await fetch("A")
        await ctx.sleep(seconds)
        await ctx.signal("go")
        return "awake"

    return body


@edit
def a_timer_that_has_rung_is_made_longer() -> Row:
    return Row(sleeping(0.001), sleeping(3600), result="awake")


@edit
def a_timer_that_runs_is_made_longer() -> Row:
    @flow
    async def before() -> str:
        await ctx.sleep(0.4)
        return "awake"

    @flow
    async def after() -> str:
        await ctx.sleep(3600)
        return "awake"

    return Row(before, after, go=False, result="awake")


@edit
def a_timer_is_taken_out_in_front_of_another() -> Row:
    @flow
    async def before() -> str:
        await ctx.sleep(0.001)
        await ctx.sleep(0.3)
        await ctx.signal("go")
        return "awake"

    @flow
    async def after() -> str:
        await ctx.sleep(0.3)
        await ctx.signal("go")
        return "awake"

    return Row(before, after, result="awake", orphans=["timer#1"])


@edit
def a_child_workflow_is_renamed() -> Row:
    @workflow
    async def child() -> str:
        return await fetch("A")

    @workflow
    async def child_by_another_name() -> str:
        return await fetch("A")

    @flow
    async def before() -> str:
        found = await child()
        await ctx.signal("go")
        return found

    @flow
    async def after() -> str:
        found = await child_by_another_name()
        await ctx.signal("go")
        return found

    return Row(before, after, result="got A", ran=["fetch A"], orphans=["child#1"])


@edit
def a_child_run_gets_another_input() -> Row:
    @workflow
    async def child(item: str) -> str:
        return await fetch(item)

    def calling(item: str) -> Workflow[..., Any]:
        @flow
        async def body() -> str:
            found = await child(item)
            await ctx.signal("go")
            return found

        return body

    return Row(
        calling("A"),
        calling("B"),
        paused=["child#1", '{"item":"A"}', '{"item":"B"}', HERE],
        resume="rerun",
        result="got B",
        ran=["fetch B"],
        orphans=["child#1"],
        replayed="diverged",
    )


@edit
def a_child_run_under_way_moves_into_a_gather() -> Row:
    @workflow
    async def child() -> str:
        found = await hold("A")
        return found

    @flow
    async def before() -> list[str]:
        return [await fetch("A"), await child()]

    @flow
    async def after() -> list[str]:
        async def get() -> str:
            return await child()

        return list(await asyncio.gather(get(), fetch("A")))

    return Row(before, after, children=1, result=["held A", "got A"], ran=["hold A"])


# -- the body as a whole ----------------------------------------------------------------------------------------------


@edit
def the_body_was_synchronous_and_is_async_now() -> Row:
    @task
    def double(number: int) -> int:
        ran.append(f"double {number}")
        return 2 * number

    @workflow(name="flow")
    def before() -> int:
        found = double(2) + double(3)
        ctx.sync.signal("go")
        return found

    @flow
    async def after() -> int:
        found = await double.aio(2) + await double.aio(3)
        await ctx.signal("go")
        return found

    return Row(before, after, result=10)


@edit
def the_body_was_async_and_is_synchronous_now() -> Row:
    @task
    def double(number: int) -> int:
        ran.append(f"double {number}")
        return 2 * number

    @flow
    async def before() -> int:
        found = await double.aio(2) + await double.aio(3)
        await ctx.signal("go")
        return found

    @workflow(name="flow")
    def after() -> int:
        found = double(2) + double(3)
        ctx.sync.signal("go")
        return found

    return Row(before, after, result=10)


@edit
def a_bug_in_the_body_that_nobody_met_yet_is_mended() -> Row:
    @flow
    async def before() -> str:
        found = await fetch("A")
        await ctx.signal("go")
        raise ValueError(found)

    @flow
    async def after() -> str:
        found = await fetch("A")
        await ctx.signal("go")
        return found.upper()

    return Row(before, after, result="GOT A")


@edit
def a_bug_comes_into_the_body() -> Row:
    @flow
    async def after() -> str:
        found = await fetch("A")
        raise ValueError(f"cannot use {found}")

    return Row(in_a_row, after, failed=["cannot use got A"], orphans=["fetch#2"], replayed="diverged")


@edit
def a_change_is_kept_from_runs_that_began_before_it() -> Row:
    @flow
    async def after() -> list[str]:
        first = await (other("A") if ctx.patched("other shop") else fetch("A"))
        second = await fetch("B")
        await ctx.signal("go")
        return [first, second]

    return Row(in_a_row, after, result=["got A", "got B"])


@edit
def a_change_reaches_runs_that_had_not_come_to_it() -> Row:
    @flow
    async def after() -> list[str]:
        found = [await fetch(item) for item in "AB"]
        await ctx.signal("go")
        if ctx.patched("card"):
            found.append(await other("card"))
        return found

    return Row(in_a_row, after, result=["got A", "got B", "other card"], ran=["other card"])


@edit
def versions_stand_side_by_side() -> Row:
    @workflow(name="flow", version="1")
    async def one() -> str:
        found = await charge(5)
        await ctx.signal("go")
        return f"one {found}"

    @workflow(name="flow", version="2")
    async def two() -> str:
        found = await charge(6)
        await ctx.signal("go")
        return f"two {found}"

    return Row(one, two, others=(one,), result="one paid 5", replayed="diverged")


@edit
def a_run_is_upgraded_to_another_version() -> Row:
    @workflow(name="flow", version="1")
    async def one() -> str:
        found = await charge(5)
        await ctx.signal("go")
        return f"one {found}"

    @workflow(name="flow", version="2")
    async def two() -> str:
        found = await charge(5)
        await ctx.signal("go")
        return f"two {found}, {await other('card')}"

    return Row(one, two, others=(one,), upgrade="2", result="two paid 5, other card", ran=["other card"])


@edit
def a_version_is_not_there_any_more() -> Row:
    @workflow(name="flow", version="1")
    async def one() -> str:
        await ctx.signal("go")
        return "one"

    @workflow(name="flow", version="2")
    async def two() -> str:
        await ctx.signal("go")
        return "two"

    return Row(one, two, paused=["version '1'", "upgrade run --to 2"])


# -- how a row is played ----------------------------------------------------------------------------------------------


def test_the_table_has_many_rows() -> None:
    assert len(ROWS) >= 25
    assert len({row.__name__ for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_an_edit_between_a_crash_and_recovery(row: Callable[[], Row], store: str, tmp_path: Path) -> None:
    lives[0] = 0
    asyncio.run(asyncio.wait_for(Play(row(), store, tmp_path).run(), 15))


@dataclass
class Play:
    """One row, on one kind of store."""

    row: Row
    store: str
    folder: Path
    data: MemoryData = field(default_factory=MemoryData)

    async def run(self) -> None:
        await self._begin_and_crash()
        await self._replay()
        app = self._open(self.row.after)
        async with app:
            await self._recover(app)

    def _open(self, *workflows: Workflow[..., Any]) -> Stepwell:
        lives[0] += 1
        ran.clear()
        return Stepwell(self._store(), workflows=[*self.row.others, *workflows], grace=0)

    def _store(self) -> str | MemoryStore:
        return MemoryStore(self.data) if self.store == "memory" else f"sqlite:///{self.folder / 'runs.db'}"

    async def _begin_and_crash(self) -> None:
        async with self._open() as app:
            await app.start(self.row.before, *self.row.args, id="run")
            for turn in itertools.count():
                if await self._has_come_to_rest(app):
                    break
                await asyncio.sleep(0 if turn < 50 else 0.005)

    async def _has_come_to_rest(self, app: Stepwell) -> bool:
        state = await app.state("run")
        if self.row.children:
            return len(state.steps) >= self.row.children and "hold A" in ran
        if self.row.in_flight:
            return state.attempts_in_flight >= self.row.in_flight
        is_short = any(wait.due is not None and wait.due - wait.at < 100_000 for wait in state.waits.values())
        return state.status == "waiting" and bool(state.waits) and not is_short

    async def _replay(self) -> None:
        async with Stepwell(self._store(), drive=False) as client:
            before, begun = await client.entries("run"), list(ran)
            found = await client.replay("run", self.row.after)
            assert found.outcome == self.row.replayed, found
            assert (await client.entries("run"), ran) == (before, begun), "a replay has no effect"

    async def _recover(self, app: Stepwell) -> None:
        row = self.row
        if row.upgrade is not None:
            await app.upgrade("run", to=row.upgrade)
        if row.go:
            await app.signal("run", "go")
        after = await app.wait("run")
        if row.paused:
            assert after.status == "paused"
            pause = (await app.state("run")).pause
            assert pause is not None and pause.cause == "code_change"
            assert all(part in pause.reason for part in row.paused), pause.reason
            assert ran == [], "nothing is run before the difference is settled"
            if row.resume is None:
                return
            await app.resume("run", on_change=row.resume)
        if row.failed:
            with pytest.raises(StepwellError) as failure:
                await app.handle("run").result()
            assert all(part in str(failure.value) for part in row.failed), str(failure.value)
        else:
            assert await app.handle("run").result() == row.result
        assert ran == list(row.ran)
        code = row.before if row.others and row.upgrade is None else row.after
        assert list((await app.replay("run", code)).orphans) == list(row.orphans)
