"""Deploying definitions: versions, labels, drafts, what serves new runs, and what may go."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwell import blocking, task, workflow
from stepwell.app import Stepwell
from stepwell.authoring.registry import Registry
from stepwell.errors import ArgumentError, LabelTaken, WorkflowNotFound
from stepwell.graph.problems import InvalidDefinition
from stepwell.model.versions import digest_of
from stepwell.stores.memory import MemoryStore
from stepwell.stores.tables import DRAFT, NewDefinition

FLOW = """\
stepwell: 1
id: shop
nodes:
  list: {noop: {}}
  done: {log: "there are {{ input.count }}", needs: list}
"""
OTHER = FLOW.replace("there are", "we found")
WRONG = FLOW.replace("needs: list", "needs: lst").replace("noop", "nop")
CALLS = "stepwell: 1\nid: calls\nnodes: {a: {task: fetch, inputs: {url: x}}}\n"

Body = Callable[[Stepwell], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite"])
def clients(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Body], None]]:
    """Runs a test's body with a client of an empty store."""

    def run(body: Body) -> None:
        store = MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path / 'runs.db'}"

        async def go() -> None:
            async with Stepwell(store, drive=False) as app:
                await body(app)

        asyncio.run(go())

    yield run


def with_client(test: Callable[[Stepwell], Awaitable[None]]) -> Callable[..., None]:
    """Let a test be given a client of an empty store, once for each kind of store."""

    @functools.wraps(test)
    def run(clients: Callable[[Body], None]) -> None:
        clients(test)

    del run.__wrapped__
    return run


# -- deploying --------------------------------------------------------------------------------------------------------


@with_client
async def test_a_definition_that_is_deployed_serves_new_runs(app: Stepwell) -> None:
    done = await app.deploy(FLOW, by="ann")
    assert (done.name, done.is_new, done.is_active, done.warnings) == ("shop", True, True, ())
    assert done.version == done.digest and len(done.digest) == 12
    definition = await app.definition_of("shop")
    assert definition.digest == done.digest
    assert list(definition.body.nodes) == ["list", "done"]
    row = await app.workflow_version("shop")
    assert (row.by, row.active, row.dialect) == ("ann", True, "stepwell")


@with_client
async def test_the_same_content_is_the_same_version_however_it_is_written(app: Stepwell) -> None:
    first = await app.deploy(FLOW)
    data = {"stepwell": 1, "id": "shop", "title": "Shop", "nodes": [{"id": "list", "type": "noop"}]}
    data["nodes"] += [{"id": "done", "log": "there are {{ input.count }}", "needs": "list"}]
    again = await app.deploy(data)
    assert (again.digest, again.is_new, again.is_active) == (first.digest, False, True)
    assert (await app.definition_of("shop")).title == "Shop"
    assert len(await app.workflow_versions("shop")) == 1


@with_client
async def test_another_content_is_another_version_and_the_old_one_stays(app: Stepwell) -> None:
    first, second = await app.deploy(FLOW), await app.deploy(OTHER)
    assert first.digest != second.digest
    assert [row.digest for row in await app.workflow_versions("shop")] == [second.digest, first.digest]
    assert (await app.definition_of("shop")).digest == second.digest
    assert (await app.definition_of("shop", first.digest)).digest == first.digest


@with_client
async def test_a_version_may_be_deployed_without_serving_runs_and_be_activated_later(app: Stepwell) -> None:
    first = await app.deploy(FLOW)
    second = await app.deploy(OTHER, activate=False)
    assert (second.is_new, second.is_active) == (True, False)
    assert (await app.workflow_version("shop")).digest == first.digest
    row = await app.activate("shop", second.digest[:6])
    assert (row.digest, row.active) == (second.digest, True)
    assert (await app.workflow_version("shop")).digest == second.digest


@with_client
async def test_files_texts_and_data_can_be_deployed(app: Stepwell) -> None:
    folder = Path(__file__).parent
    digests = {(await app.deploy(FLOW)).digest}
    with pytest.raises(InvalidDefinition, match=r"nowhere\.yaml"):
        await app.deploy("nowhere.yaml")
    with pytest.raises(InvalidDefinition, match="cannot be read"):
        await app.deploy(folder / "nowhere.yml")
    with pytest.raises(InvalidDefinition, match="JSON"):
        await app.deploy({"stepwell": 1, "id": "shop", "nodes": {"a": {"noop": {1: 2}}}})
    assert len(digests) == 1


def test_a_file_is_named_in_the_problems_of_its_definition(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(WRONG)

    async def go() -> None:
        async with Stepwell("memory://", drive=False) as app:
            for source in (path, str(path)):
                with pytest.raises(InvalidDefinition) as raised:
                    await app.deploy(source)
                assert raised.value.source == str(path)
                lines = sorted({problem.place.line for problem in raised.value.problems if not problem.warning})
                assert lines == [4, 5]
            assert await app.workflows() == []

    asyncio.run(go())


@with_client
async def test_all_problems_are_told_in_the_order_of_their_places(app: Stepwell) -> None:
    problems = await app.validate(WRONG)
    assert sorted({problem.place.line for problem in problems if not problem.warning}) == [4, 5]
    assert await app.validate(FLOW) == []
    assert [problem.code for problem in await app.validate("a: [")] == ["syntax"]
    assert await app.workflows() == []


# -- tasks ------------------------------------------------------------------------------------------------------------


@task
async def fetch(address: str) -> str:
    return address


@with_client
async def test_a_client_knows_no_tasks_and_only_warns_of_them(app: Stepwell) -> None:
    problems = await app.validate(CALLS)
    assert [(problem.code, problem.warning) for problem in problems] == [("unknown-task", True)]
    assert (await app.deploy(CALLS)).is_new


@with_client
async def test_calls_are_checked_against_the_tasks_that_are_given(app: Stepwell) -> None:
    none, some = Registry(entry_points=False), Registry([fetch], entry_points=False)
    [problem] = await app.validate(CALLS, tasks=none)
    assert (problem.code, problem.warning) == ("unknown-task", False)
    problems = [problem for problem in await app.validate(CALLS, tasks=some) if not problem.warning]
    assert problems and any("address" in str(problem) for problem in problems)
    assert await app.validate(CALLS.replace("url:", "address:"), tasks=some) == []
    with pytest.raises(InvalidDefinition):
        await app.deploy(CALLS, tasks=some)


def test_an_engine_checks_calls_against_its_own_tasks() -> None:
    async def go() -> None:
        async with Stepwell("memory://", tasks=[fetch]) as app:
            assert await app.validate(CALLS.replace("url:", "address:")) == []
            with pytest.raises(InvalidDefinition, match="ftch"):
                await app.deploy(CALLS.replace("task: fetch", "task: ftch"))

    asyncio.run(go())


# -- labels -----------------------------------------------------------------------------------------------------------


@with_client
async def test_a_label_comes_from_the_definition_or_from_who_deploys_it(app: Stepwell) -> None:
    own = await app.deploy(FLOW.replace("nodes:", 'label: "1.0"\nnodes:'))
    assert own.version == f"1.0+{own.digest}"
    given = await app.deploy(OTHER, label="2.0")
    assert (await app.workflow_version("shop", "1.0")).digest == own.digest
    assert (await app.workflow_version("shop", "2.0")).digest == given.digest
    assert (await app.workflow_version("shop", own.version)).digest == own.digest
    [summary] = await app.workflows()
    assert summary.labels == ("1.0", "2.0")


@with_client
async def test_a_label_that_stands_for_other_content_is_refused_unless_it_is_moved(app: Stepwell) -> None:
    first = await app.deploy(FLOW, label="live")
    with pytest.raises(LabelTaken, match="live"):
        await app.deploy(OTHER, label="live")
    assert len(await app.workflow_versions("shop")) == 1
    assert not (await app.deploy(FLOW, label="live")).is_new
    second = await app.deploy(OTHER, label="live", move_label=True)
    assert (await app.workflow_version("shop", "live")).digest == second.digest != first.digest


@pytest.mark.parametrize("label", [DRAFT, "0123456789ab", " x", "a\nb", "x" * 101, "\ud800"])
def test_what_looks_like_something_else_is_no_label(label: str) -> None:
    async def go() -> None:
        async with Stepwell("memory://", drive=False) as app:
            with pytest.raises(ArgumentError, match="label"):
                await app.deploy(FLOW, label=label)
            assert await app.workflows() == []

    asyncio.run(go())


# -- drafts -----------------------------------------------------------------------------------------------------------


@with_client
async def test_a_draft_is_kept_with_its_problems_and_serves_nobody(app: Stepwell) -> None:
    done = await app.deploy(WRONG, draft=True, by="ann")
    assert (done.version, done.is_new, done.is_active) == (DRAFT, True, False)
    assert len(done.warnings) >= 2
    [summary] = await app.workflows()
    assert (summary.active, summary.versions, summary.has_draft) == (None, 0, True)
    with pytest.raises(InvalidDefinition):
        await app.definition_of("shop", DRAFT)
    with pytest.raises(WorkflowNotFound, match="no active version"):
        await app.definition_of("shop")
    with pytest.raises(ArgumentError, match="deploy it"):
        await app.activate("shop", DRAFT)
    mended = await app.deploy(FLOW, draft=True)
    assert (mended.is_new, mended.warnings) == (False, ())
    assert list((await app.definition_of("shop", DRAFT)).body.nodes) == ["list", "done"]


@with_client
async def test_a_draft_that_is_deployed_is_no_draft_any_more(app: Stepwell) -> None:
    await app.deploy(FLOW, draft=True)
    await app.deploy(OTHER)
    assert [summary.has_draft for summary in await app.workflows()] == [True]
    await app.deploy(FLOW)
    assert [summary.has_draft for summary in await app.workflows()] == [False]


@with_client
async def test_a_draft_needs_a_name_and_must_be_readable(app: Stepwell) -> None:
    for text in ("stepwell: 1\nnodes: {}", "stepwell: 1\nid: a b\n", "[", "just text\n"):
        with pytest.raises(InvalidDefinition):
            await app.deploy(text, draft=True)
    assert await app.workflows() == []


# -- finding ----------------------------------------------------------------------------------------------------------


@with_client
async def test_what_is_not_there_is_told_with_what_is(app: Stepwell) -> None:
    await app.deploy(FLOW, label="1.0")
    with pytest.raises(WorkflowNotFound, match="did you mean 'shop'"):
        await app.workflow_versions("shopp")
    with pytest.raises(WorkflowNotFound, match=r"has no version '9'; it has 1\.0"):
        await app.definition_of("shop", "9")
    for name in ("a b", "'; --", "\ud800", "x" * 500, ""):
        with pytest.raises(WorkflowNotFound):
            await app.workflow_version(name)
    for version in ("\ud800", "x" * 300, "a\0b"):
        with pytest.raises(WorkflowNotFound):
            await app.workflow_version("shop", version)


@with_client
async def test_versions_are_compared(app: Stepwell) -> None:
    await app.deploy(FLOW, label="1")
    await app.deploy(OTHER)
    found = await app.diff("shop", "1")
    assert str(found).startswith("~ node done: $.nodes.done.with.message: ")
    assert not await app.diff("shop", "1", "1")


@with_client
async def test_the_event_dialect_is_deployed_as_it_is(app: Stepwell) -> None:
    data = {"workflow_id": "greet", "tasks": [{"task_id": "a", "type": "log", "inputs": {"message": "hi"}}]}
    done = await app.deploy(data)
    assert (await app.workflow_version("greet")).dialect == "events"
    assert (await app.definition_of("greet")).digest == done.digest
    draft = await app.deploy(data, draft=True)
    assert draft.name == "greet" and (await app.workflow_version("greet", DRAFT)).dialect == "events"


# -- taking away ------------------------------------------------------------------------------------------------------


@workflow
async def shop() -> str:
    return "done"


def test_versions_of_runs_that_are_kept_stay_until_those_are_deleted() -> None:
    async def go() -> None:
        async with Stepwell("memory://") as app:
            needed = await app.deploy(FLOW.replace("there are", "these are"))
            await app.run("shop", count=1)
            other = await app.deploy(FLOW, activate=False)
            done = await app.undeploy("shop")
            assert (done.dropped, done.kept) == ((other.digest,), (needed.digest,))
            assert [one.active for one in await app.workflows()] == [None]
            assert await app.gc(older_than="0s") == 1
            assert await app.workflows() == []

    asyncio.run(go())


@with_client
async def test_one_version_is_taken_away(app: Stepwell) -> None:
    first = await app.deploy(FLOW, label="1")
    second = await app.deploy(OTHER)
    await app.deploy(OTHER, draft=True)
    assert (await app.undeploy("shop", "1")).dropped == (first.digest,)
    assert (await app.workflow_version("shop")).digest == second.digest
    assert (await app.undeploy("shop", DRAFT)).dropped == (DRAFT,)
    assert (await app.undeploy("shop")).dropped == (second.digest,)
    with pytest.raises(WorkflowNotFound):
        await app.undeploy("shop")


@with_client
async def test_care_forgets_versions_that_nobody_would_miss(app: Stepwell) -> None:
    active = await app.deploy(FLOW)
    labelled = await app.deploy(OTHER, label="1", activate=False)
    await app.deploy(FLOW.replace("there are", "a third"), activate=False)
    await app.deploy(FLOW, draft=True)
    await app.store.put_cached("k", b"1", at=1)
    await app.gc(older_than="1h")
    assert len(await app.workflow_versions("shop")) == 4
    await app.gc(older_than="0s")
    kept = {row.digest for row in await app.workflow_versions("shop")}
    assert kept == {active.digest, labelled.digest, DRAFT}
    assert await app.store.cached("k", now=2) is None


# -- elsewhere --------------------------------------------------------------------------------------------------------


def test_a_snapshot_takes_the_definitions_of_its_runs_along() -> None:
    async def go() -> None:
        async with Stepwell("memory://", workflows=[shop]) as app:
            run = await app.start(shop, id="s1")
            await run.result()
            digest = digest_of(shop.version)
            await app.store.put_definition(NewDefinition(name="shop", digest=digest, body=b'{"id":"shop"}', at=1))
            await app.store.put_definition(NewDefinition(name="shop", digest="other", body=b"{}", at=1))
            data = await app.export("s1")
        async with Stepwell("memory://", drive=False) as there:
            await there.import_run(data)
            [row] = await there.workflow_versions("shop")
            assert (row.digest, row.active) == (digest, False)
            assert (await there.workflow_version("shop", digest)).body == b'{"id":"shop"}'

    asyncio.run(go())


def test_synchronous_programs_deploy_too(tmp_path: Path) -> None:
    with blocking.Stepwell(tmp_path / "runs.db", drive=False) as app:
        done = app.deploy(FLOW)
        assert app.workflow_version("shop").digest == done.digest
        assert [one.name for one in app.workflows()] == ["shop"]
        found: Any = app.validate(WRONG)
        assert len(found) >= 2
