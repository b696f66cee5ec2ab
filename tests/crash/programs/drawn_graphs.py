"""Runs of many graphs, to be killed at any moment; `python drawn_graphs.py STORE SIDE FILE`.

FILE is a JSON list of `[run, definition, input]`. Says `driving` when the engine is open, `done` when all has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

from mix import SIDE, await_ends, note, say

from stepwell import Stepwell, ctx, task
from stepwell.authoring.graph import graph_workflow
from stepwell.authoring.task import Task
from stepwell.errors import WrongStatus
from stepwell.stores.protocol import Filter

sys.path.insert(0, str(Path(__file__).parents[2] / "graph"))

from driving import scripted


def named(name: str) -> Task[..., Any]:
    """A task that does what its script says, in a few milliseconds that differ from step to step."""

    @task(name=name)
    async def work(**inputs: Any) -> Any:
        note()
        await asyncio.sleep(zlib.crc32(ctx.step.encode()) % 8 / 1000)
        return scripted(name, inputs)

    return work


TASKS = [named("work"), named("flaky"), named("undo")]


async def main(store: str, file: Path) -> None:
    plays = json.loads(file.read_text("utf-8"))
    graphs = [graph_workflow(definition, tasks=TASKS) for _, definition, _ in plays]
    # Bodies are dropped at once, so that rebuilding is part of everything.
    async with Stepwell(f"sqlite:///{store}", workflows=graphs, tasks=TASKS, warm_wait=0) as app:
        say("driving")
        for (run, _, input), graph in zip(plays, graphs, strict=True):
            await app.start(graph, input, id=run)
        waiting = asyncio.create_task(await_ends(app, [run for run, _, _ in plays]))
        while not (await asyncio.wait((waiting,), timeout=0.05))[0]:
            for row in await app.runs(Filter(status=("stuck",))):
                # Lives too short for any progress look like a crash loop: somebody has to say that it was not one.
                say("stuck", row.run_id)
                with contextlib.suppress(WrongStatus):  # resumed already, by the message that was sent last time
                    await app.resume(row.run_id)
        waiting.result()
        say("done")


if __name__ == "__main__":
    os.environ[SIDE] = sys.argv[2]
    asyncio.run(main(sys.argv[1], Path(sys.argv[3])))
