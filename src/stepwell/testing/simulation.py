"""The real engine, crashed, frozen and starved at drawn moments, must keep every promise: `simulate(seed)`.

One seed decides a plan (`drawing`): runs that play drawn scripts (`scripts`), people's commands, limits, and faults.
Real `Stepwell` objects live in simulated processes (`world`) on virtual time (`virtual`) over a store that answers late
and fails (`unreliable`). When the faults have stopped, an engine that is left in peace must bring everything to rest,
and the journals must agree with what the world saw (`invariants`) and replay (`replaying`).

    python -m stepwell.testing.simulation --seeds 1000 --start 0 --jobs 2
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import gc
import multiprocessing
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

from stepwell.app import Stepwell
from stepwell.errors import RequestRefused, StoreError
from stepwell.model.ids import SECOND
from stepwell.model.lifecycle import MEANING, RETRYABLE, SET_ASIDE, TERMINAL
from stepwell.stores.protocol import RunRow
from stepwell.testing import world
from stepwell.testing.crowd import Wish, bring, deed, listen, set_up
from stepwell.testing.drawing import Fault, Listener, Plan, Standing, Start, Visit, draw_plan
from stepwell.testing.facts import check_facts
from stepwell.testing.flowing import check_flow
from stepwell.testing.hearing import hearing
from stepwell.testing.invariants import Violation, check_history
from stepwell.testing.plans import compiled_once
from stepwell.testing.promises import check_promises
from stepwell.testing.replaying import check_replays
from stepwell.testing.reports import Report as Report
from stepwell.testing.resting import Rest, look
from stepwell.testing.scripts import play
from stepwell.testing.unreliable import MILLISECOND, Faults
from stepwell.testing.virtual import NeverAtRest, OutOfTime
from stepwell.testing.world import Accepted, Effect, Process, ProcessDied, World, run_coroutine

T = TypeVar("T")

PATIENCE = 7 * SECOND
"""How long, with no commit at all, something may be owed before it counts as lost; over the engine's longest nap."""

ABOUT_QUESTIONS = frozenset({"answer", "answer twice", "answer as a stranger", "withdraw", "reassign"})

LIMIT = 900 * SECOND
"""Virtual time after which a simulation is given up."""


def simulate(seed: int) -> Report:
    """Simulate one seed.

    Raises:
        AssertionError: a promise was broken; the text names the seed, the promise and what led to it.
    """
    simulation = _Simulation(draw_plan(seed))
    try:
        with hearing(simulation.world), compiled_once():
            simulation.play()
            check_history(simulation.world, simulation.plan)
            calls = check_replays(simulation.world, simulation.plan)
            check_promises(simulation.world, simulation.plan, calls)
            check_facts(simulation.world)
            check_flow(simulation.world, simulation.plan)
    except (Violation, NeverAtRest, OutOfTime) as broken:
        raise AssertionError(
            f"seed {seed}: {broken}\n{simulation.world.trace()}\nseed {seed}: {broken}\n"
            f"again: python -m stepwell.testing.simulation --start {seed} --seeds 1"
        ) from broken
    finally:
        simulation.end()
    return simulation.report()


class _Simulation:
    """One plan being played."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World(plan.seed, dawdle=plan.dawdle)
        self.world.disk.faults = plan.weather
        self._people = self.world.time.loop("people")
        self._engines: list[Process] = []
        self._clients: list[Process] = []
        self._number = 1000
        self._is_final = False
        self._jobs: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []

    def play(self) -> None:
        """Play it to the end."""
        run_coroutine(self.world, self._people, self._play(), LIMIT)

    def end(self) -> None:
        """Let go of everything, whatever state it is in."""
        for process in self.world.processes:
            process.kill("swept away")
            process.loop.kill()
        self._people.kill()
        self.world.disk.loop.kill()
        database = self.world.disk.content.database
        if database is not None:
            database.close()

    def report(self) -> Report:
        """What it came to."""
        journals = self.world.disk.content.journals
        return Report(
            seed=self.plan.seed,
            runs=len(journals),
            entries=sum(len(journal) for journal in journals.values()),
            attempts=sum(isinstance(event, Effect) for event in self.world.history),
            commits=self.world.commits,
            processes=len(self.world.processes),
            batches=self.world.time.batches,
            seconds=self.world.time.micros / SECOND,
            digest=hash(tuple(self.world.stamps)),
        )

    # -- what happens -------------------------------------------------------------------------------------------

    async def _play(self) -> None:
        self._clients = [self._boot(drive=False) for _ in range(2)]
        self._boot()
        for fault in self.plan.faults:
            if fault.commit is None:
                self._job(fault.at, self._befall, fault)
            else:
                table = self.world.before_commit if fault.before else self.world.after_commit
                table[fault.commit] = self._kill_driver
        for start in self.plan.starts:
            self._job(start.at, self._start, start)
            for at in start.again:
                self._job(at, self._start, dataclasses.replace(start, inside=True, patience=None))
        for visit in self.plan.visits:
            self._job(visit.at, self._visit, visit)
        for standing in self.plan.triggers:
            self._job(standing.at, self._set_up, standing)
        for listener in self.plan.listeners:
            self._job(listener.at, self._listen, listener)
        await asyncio.gather(*self._jobs)
        await self._end_in_peace()

    def _job(self, at: int, work: Callable[[T], Coroutine[Any, Any, None]], what: T) -> None:
        async def later() -> None:
            await asyncio.sleep(at / SECOND)
            await work(what)

        self._jobs.append(self._people.create_task(later()))

    def _boot(self, *, drive: bool = True) -> Process:
        number = sum(process.drive is drive for process in self.world.processes) + 1
        process = Process(
            self.world,
            f"engine-{number}" if drive else f"client-{number}",
            drive=drive,
            limits=self.plan.limits,
            warm_wait=self.plan.warm_wait,
            grace=self.plan.grace,
            is_new=number >= self.plan.deploy_at,
        )
        if drive:
            self._engines.append(process)
        process.start()
        return process

    def _driver(self) -> Process | None:
        return next((each for each in reversed(self._engines) if each.is_up and not each.has_lost), None)

    # -- people -------------------------------------------------------------------------------------------------

    async def _asked(self, via: str) -> Process:
        driver = self._driver() if via == "driver" else None
        client = driver or self._clients[via == "other"]
        while not client.is_up:  # noqa: ASYNC110  # virtual time: it costs nothing
            await asyncio.sleep(0.01)
        return client

    async def _start(self, start: Start) -> None:
        for _ in range(40):
            process = await self._asked("driver" if start.inside else "client")
            try:
                await process.ask(lambda app: self._start_at(app, start))
            except (StoreError, ProcessDied):
                await asyncio.sleep(0.15)
            except TimeoutError:
                self.world.tell(f"{process.name}: nobody waits any longer for the start of {start.run_id}")
                return
            else:
                self.world.accepted("start", start.run_id)
                return

    async def _start_at(self, app: Stepwell, start: Start) -> None:
        async with asyncio.timeout(None if start.patience is None else start.patience / SECOND):
            target, given = (play, (start.script, start.token)) if start.graph is None else await bring(app, start)
            await app.start(
                target,
                *given,
                id=start.run_id,
                durability=start.durability,
                priority=start.priority,
                queue=start.queue or None,
                queue_key=start.queue_key if start.queue else "",
                delay=start.delay / SECOND if start.delay else None,
                deadline=None if start.deadline is None else start.deadline / SECOND,
            )

    async def _set_up(self, standing: Standing) -> None:
        while True:
            process = await self._asked(standing.via)
            try:
                await process.ask(lambda app: set_up(app, standing, 7))
            except (StoreError, ProcessDied):
                await asyncio.sleep(0.15)
            else:
                self.world.accepted("trigger", "", standing.name)
                return

    async def _visit(self, visit: Visit) -> None:
        rows = self.world.disk.content.runs
        waits = {"resume": SET_ASIDE, "retry": RETRYABLE}
        alive = await self._until(lambda: [row.run_id for row in rows.values() if row.status not in TERMINAL])
        if not alive:
            return
        run_id = alive[visit.run % len(alive)]
        if visit.wants and visit.wants[0].verb in ABOUT_QUESTIONS:
            asking = await self._until(self._who_asks)
            run_id = asking[visit.run % len(asking)] if asking else run_id
        for want in visit.wants:
            await asyncio.sleep(want.after / SECOND)
            if want.verb in ABOUT_QUESTIONS:
                await self._until(lambda: run_id in self._who_asks())
            fitting = waits.get(want.verb, frozenset(MEANING))
            if await self._until(functools.partial(_is_in, rows, run_id, fitting)):
                name = "" if want.verb in ABOUT_QUESTIONS else want.name
                await self._want(Wish(want.verb, run_id, name, choice=want.choice), want.via)

    def _who_asks(self) -> list[str]:
        """Runs with an open question."""
        return [wait.run_id for wait in self.world.disk.content.waits.values() if wait.kind == "input"]

    async def _until(self, holds: Callable[[], T]) -> T:
        """Wait up to two seconds for something to be there; what it was then."""
        for _ in range(40):
            if found := holds():
                return found
            await asyncio.sleep(0.05)
        return holds()

    async def _want(self, wish: Wish, via: str = "driver") -> None:
        process = await self._asked(via)
        self._number += 1
        wish = dataclasses.replace(wish, number=self._number)
        what = f"{wish.verb} {wish.name} {wish.number} of {wish.run_id}"
        try:
            done = await process.ask(deed(wish))
        except (RequestRefused, StoreError) as refused:
            self.world.tell(f"refused: {what}: {type(refused).__name__}")
        except ProcessDied:
            self.world.tell(f"unknown: {what}")
        else:
            if done.note and not done.note == "known":
                raise Violation(f"accepted {done.note}: {what}")
            verb = "known" if done.note else wish.verb
            self.world.accepted(verb, wish.run_id, done.name, done.payload)

    async def _listen(self, listener: Listener) -> None:
        runs = await self._until(lambda: list(self.world.disk.content.runs))
        if runs:
            self._read(runs[listener.run % len(runs)], listener.via)

    def _read(self, run_id: str, via: str) -> None:
        """Read a run's stream, and come back when the process that reads it is gone."""

        async def session(process: Process, done: asyncio.Future[bool], app: Stepwell) -> None:
            session = self.world.session(run_id, process.name)
            try:
                await listen(app, run_id, lambda *chunk: session.chunks.append(chunk))
            except StoreError as error:
                self.world.tell(f"{process.name}: can read no more of {run_id}: {type(error).__name__}")
            else:
                session.ended = len(self.world.history)
                self.world.tell(f"{process.name}: has read the stream of {run_id}")
            self._people.call_soon(lambda: None if done.done() else done.set_result(session.ended is not None))

        async def reader() -> None:
            while True:
                process = await self._asked(via)
                done: asyncio.Future[bool] = self._people.create_future()
                process.read(functools.partial(session, process, done))
                while not done.done() and process.is_up:  # noqa: ASYNC110  # virtual time
                    await asyncio.sleep(0.05)
                if done.done() and done.result():
                    return
                await asyncio.sleep(0.05)

        self._readers.append(self._people.create_task(reader()))

    # -- faults -------------------------------------------------------------------------------------------------

    async def _befall(self, fault: Fault) -> None:
        driver = self._driver()
        match fault.kind:
            case "trouble":
                weather = self.world.disk.faults
                weather.full, weather.busy = 0.4, 0.2
                await asyncio.sleep(fault.amount / SECOND)
                weather.full = weather.busy = 0.0
            case "kill":
                self._kill_driver()
            case "jump" if driver is not None:
                self.world.tell(f"{driver.name}: its clock jumps by {fault.amount} µs")
                driver.clock.jump(fault.amount)
            case "restart" if driver is not None and not driver.loop.frozen:
                await self._close(driver)
                self._boot()
            case "nap" | "freeze" if driver is not None and not driver.loop.frozen:
                await self._freeze(driver, fault.amount)
            case _:
                pass

    def _kill_driver(self) -> None:
        if self._is_final:
            return
        driver = self._driver()
        if driver is None:
            return
        driver.kill()
        if not any(each.is_up or not (each.dead or each.closed or each.is_open) for each in self._engines):
            self._boot()

    async def _freeze(self, process: Process, amount: int) -> None:
        process.freeze(disk_goes_on=self.world.chance.random() < 0.5)
        standby = self._boot()
        await asyncio.sleep(amount / SECOND)
        process.thaw()
        await asyncio.sleep(0.5)
        if not standby.is_open and process.is_up:
            standby.kill("not needed")

    async def _close(self, process: Process) -> None:
        try:
            await process.close()
        except ProcessDied:
            return
        self._check_leftovers(process)

    def _check_leftovers(self, process: Process) -> None:
        left = process.leftovers()
        if left:
            raise Violation(f"{process.name} has closed and leaves behind: {'; '.join(left)}")

    # -- peace --------------------------------------------------------------------------------------------------

    async def _end_in_peace(self) -> None:
        self._is_final = True
        self.world.tell("the faults have stopped")
        self.world.disk.faults = Faults(delay=MILLISECOND // 2)
        for process in self._engines:
            process.thaw()
        if self.plan.fresh_end:
            for process in self._engines:
                process.kill()
        driver = await self._one_driver()
        await self._bring_to_rest(driver)
        self._check_alive(driver)
        await self._end_reading()
        await self._close(driver)
        for client in self._clients:
            await self._close(client)
        self._check_restraint()

    async def _end_reading(self) -> None:
        """All runs have ended, and so do their streams, within a look at the store."""
        if self._readers:
            _, waiting = await asyncio.wait(self._readers, timeout=PATIENCE / SECOND)
            if waiting:
                raise Violation("all runs have ended, and somebody still waits for the end of a stream")
            for reader in self._readers:
                reader.result()

    def _check_restraint(self) -> None:
        """No engine asks the store much more often than things happen in it; measured: less than half of this."""
        usual = 50 + 4 * self.world.commits + 10 * self.world.time.micros // SECOND
        for process in self._engines:
            if process.is_open and process.store.calls > usual:
                raise Violation(f"{process.name} asked the store {process.store.calls} times; {usual} would be many")

    async def _one_driver(self) -> Process:
        """Wait until exactly one engine is up; those that were taken over must notice by themselves."""
        for _ in range(300):
            for process in self._engines:
                if process.has_lost:
                    await self._close(process)
            up = [each for each in self._engines if each.is_up]
            rising = [each for each in self._engines if not (each.is_open or each.dead or each.closed)]
            if len(up) == 1:
                for each in rising:
                    each.kill("not needed")
                return up[0]
            if not up and not rising:
                self._boot()
            await asyncio.sleep(0.1)
        raise Violation("no engine, or more than one, is up long after the faults have stopped")

    async def _bring_to_rest(self, driver: Process) -> None:
        waited_since = self.world.time.micros
        while True:
            rest = look(driver)
            if rest.owed:
                since = max(self.world.last_change, waited_since)
                if self.world.time.micros - since > PATIENCE:
                    raise Violation("nothing moves, but " + "; ".join(rest.owed))
                await asyncio.sleep(0.05)
            elif rest.wishes:
                await self._fulfil(rest)
                await asyncio.sleep(0.02)
                waited_since = self.world.time.micros
            elif any(process.store.is_at_work for process in self.world.processes):
                await asyncio.sleep(0.01)  # somebody may have given up waiting for it, and it is done all the same
            elif rest.due is not None:
                await asyncio.sleep(max(0, rest.due - driver.clock.now()) / SECOND + 0.001)
                waited_since = self.world.time.micros
            else:
                return

    async def _fulfil(self, rest: Rest) -> None:
        for wish in rest.wishes:
            await self._want(dataclasses.replace(wish, choice=self.world.chance.getrandbits(16)))

    def _check_alive(self, driver: Process) -> None:
        for task in driver.app.engine._tasks:
            if task.done():
                raise Violation(f"{driver.name}: its loop {task.get_coro()} has ended: {task.exception()!r}")
        if driver.app.engine.slots.used("attempts"):
            raise Violation(f"{driver.name} counts attempts in flight, and there are none")
        unfinished = [row.run_id for row in self.world.disk.content.runs.values() if row.status not in TERMINAL]
        accepted = {event.run_id for event in self.world.history if isinstance(event, Accepted) and event.run_id}
        lost = accepted - self.world.disk.content.runs.keys()
        if unfinished or lost:
            raise Violation(f"runs {unfinished} have not ended, accepted runs {sorted(lost)} are not in the store")


def _is_in(rows: Mapping[str, RunRow], run_id: str, fitting: Collection[str]) -> bool:
    return rows[run_id].status in fitting


# -- many seeds ---------------------------------------------------------------------------------------------------


def simulate_many(seeds: range) -> list[str]:
    """Simulate these seeds; returns the text of every violation."""
    failures = []
    gc.collect()
    gc.freeze()
    for seed in seeds:
        try:
            simulate(seed)
        except AssertionError as broken:
            failures.append(str(broken))
    return failures


def main(arguments: list[str] | None = None) -> int:
    """Simulate many seeds; exit code 1 when any of them breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m stepwell.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--trace", type=int, default=world.TRACE, help="events to show of a failed seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    asked = parser.parse_args(arguments)
    world.TRACE = asked.trace
    seeds = range(asked.start, asked.start + asked.seeds)
    if asked.jobs > 1:
        size = max(1, len(seeds) // (asked.jobs * 4))
        chunks = [seeds[at : at + size] for at in range(0, len(seeds), size)]
        with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
            failures = [text for found in pool.map(simulate_many, chunks) for text in found]
    else:
        failures = simulate_many(seeds)
    for text in failures[:3]:
        sys.stdout.write(text + "\n\n")
    for text in failures:
        sys.stdout.write(text.partition("\n")[0][:300] + "\n")
    failed = [text.partition(":")[0].removeprefix("seed ") for text in failures]
    sys.stdout.write(f"{len(seeds)} seeds, {len(failures)} failed{': ' + ' '.join(failed) if failed else ''}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
