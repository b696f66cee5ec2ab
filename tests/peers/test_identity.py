"""Whose work is it? What other engines prove about identity, inheritance and a run's own state holds here too."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import ctx, task, workflow
from stepwell.errors import WorkflowBodyError
from stepwell.testing import Bench

told: list[tuple[str, str, str | None, str]] = []


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.clear()


def tell(where: str) -> None:
    identity = ctx.identity
    told.append((where, identity.run_id, identity.parent, identity.root))


@task
async def leaf() -> str:
    tell("task on the loop")
    return ctx.run_id


@task
def leaf_in_a_thread() -> str:
    tell("task in a thread")
    return ctx.run_id


@workflow
async def grandchild() -> str:
    tell("grandchild")
    return await leaf()


@workflow
async def child() -> str:
    tell("child")
    await leaf_in_a_thread.aio()
    return await grandchild()


@workflow
async def top() -> list[str]:
    tell("top")
    return [await leaf(), await child()]


@workflow
async def starts_a_stranger() -> str:
    return await ctx.start_new(grandchild)


@task
async def count(name: str, so_far: int) -> int:
    return so_far + 1


@workflow
async def keeps_state(name: str, rounds: int) -> dict[str, Any]:
    seen = ctx.state.get("count")
    for _ in range(rounds):
        ctx.state["count"] = await count(name, int(str(ctx.state.get("count", 0))))
        await ctx.sleep("1h")
    ctx.state["name"] = name
    ctx.state["nothing"] = None
    ctx.state["many"] = {"a": [1, 2.5, "x", True, None]}
    ctx.state["gone"] = 1
    del ctx.state["gone"]
    return {"before": seen, "after": dict(ctx.state), "default": ctx.state.get("never", "absent")}


@workflow
async def writes_in_a_child() -> str:
    ctx.state["mine"] = "the child's"
    return "done"


@workflow
async def keeps_apart() -> dict[str, object]:
    ctx.state["mine"] = "the parent's"
    await writes_in_a_child()
    return dict(ctx.state)


@workflow
async def says_the_same_twice() -> list[int]:
    return [await count("a", 1), await count("a", 1)]


def test_a_tree_of_three_generations_has_one_root_and_each_knows_its_parent() -> None:
    with Bench() as bench:
        bench.start(top, id="t").result()
        by_place = {where: rest for where, *rest in told}
        (below,) = [run.id for run in bench.runs if run.row.parent == "t"]
        (lowest,) = [run.id for run in bench.runs if run.row.parent == below]
        assert by_place["top"] == ["t", None, "t"]
        assert by_place["child"] == by_place["task in a thread"] == [below, "t", "t"]
        assert by_place["grandchild"] == by_place["task on the loop"] == [lowest, below, "t"]
        assert {run.row.root for run in bench.runs} == {"t"}


def test_runs_one_after_another_in_one_process_have_identities_of_their_own() -> None:
    with Bench() as bench:
        runs = [bench.start(top, id=name) for name in ("first", "second")]
        assert [run.result()[0] for run in runs] == ["first", "second"]
        assert [who for where, who, _, _ in told if where == "top"] == ["first", "second"]


def test_a_run_with_an_identity_of_its_own_has_no_parent_though_another_one_started_it() -> None:
    with Bench() as bench:
        stranger = bench.handle(bench.run(starts_a_stranger))
        stranger.result()
        assert (stranger.row.parent, stranger.row.root) == (None, stranger.id)


def test_the_state_of_a_run_holds_any_json_and_begins_empty_in_every_run() -> None:
    with Bench() as bench:
        for name in ("first", "second"):
            found = bench.run(keeps_state, name, 2)
            assert found["before"] is None and found["default"] == "absent"
            assert found["after"] == {
                "count": 2,
                "name": name,
                "nothing": None,
                "many": {"a": [1, 2.5, "x", True, None]},
            }


def test_runs_side_by_side_keep_their_state_apart_also_across_a_crash() -> None:
    with Bench() as bench:
        runs = [bench.start(keeps_state, name, rounds) for name, rounds in (("a", 2), ("b", 3), ("c", 4))]
        bench.advance("90m")
        bench.crash()
        assert [run.result()["after"]["count"] for run in runs] == [2, 3, 4]


def test_a_child_run_has_a_state_of_its_own() -> None:
    with Bench() as bench:
        assert bench.run(keeps_apart) == {"mine": "the parent's"}


def test_two_calls_that_are_equal_are_two_steps() -> None:
    with Bench() as bench:
        run = bench.start(says_the_same_twice)
        assert run.result() == [2, 2]
        assert [step.path for step in run.ran(count, times=2)] == ["count#1", "count#2"]
        assert len({call.key for call in bench.calls(count)}) == 2


def test_what_belongs_in_a_workflow_is_refused_in_a_task_and_outside_with_the_reason() -> None:
    @task
    async def looks() -> object:
        return ctx.state

    @workflow
    async def lets_look() -> str:
        try:
            await looks()
        except WorkflowBodyError as error:
            return str(error)
        return "allowed"

    with Bench() as bench:
        assert "belongs in a workflow body; this is a task" in bench.run(lets_look)
    with pytest.raises(WorkflowBodyError, match="here nothing runs"):
        _ = ctx.state
