"""Do lists show the runs that were asked for, newest first?"""

from __future__ import annotations

from stepwell.stores.protocol import Filter, Store
from stepwell.testing.conformance.kit import Kit, appended, new_run


class IndexTests(Kit):
    """Getting, finding, counting."""

    async def test_a_run_that_does_not_exist_has_no_row(self) -> None:
        async with self.client() as store:
            assert await store.get("nobody") is None
            assert await store.mailbox("nobody") == []

    async def test_runs_are_listed_newest_first(self) -> None:
        async with self.client() as store:
            for name, created_at in (("b", 5), ("a", 9), ("c", 5), ("d", 1)):
                await store.create(new_run(name, created_at=created_at))
            assert await _names(store, Filter()) == ["a", "c", "b", "d"]

    async def test_a_list_is_read_in_pages(self) -> None:
        async with self.client() as store:
            for n in range(7):
                await store.create(new_run(f"r{n}", created_at=n))
            assert await _names(store, Filter(limit=3)) == ["r6", "r5", "r4"]
            assert await _names(store, Filter(limit=3, offset=6)) == ["r0"]
            assert await _names(store, Filter(limit=0)) == []

    async def test_lists_are_narrowed_by_each_field_and_all_together(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("top", owner="w1", created_at=10, labels={"team": "ops", "tier": "1"}))
            await store.create(new_run("top/child", root="top", parent="top", created_at=20, labels={"team": "ops"}))
            await store.create(new_run("mail-1", workflow="mail", created_at=30))
            await store.append(appended("top", 2, "x", status="failed", finished_at=11))
            expected = [
                (Filter(status=("failed",)), ["top"]),
                (Filter(status=("failed", "pending"), workflow="shop"), ["top/child", "top"]),
                (Filter(workflow="mail"), ["mail-1"]),
                (Filter(root="top"), ["top/child", "top"]),
                (Filter(parent="top"), ["top/child"]),
                (Filter(search="CHILD"), ["top/child"]),
                (Filter(search="ai"), ["mail-1"]),
                (Filter(search="%"), []),
                (Filter(search="_"), []),
                (Filter(created_after=10, created_before=30), ["top/child"]),
                (Filter(root="top", status=("pending",), search="top", created_after=1), ["top/child"]),
                (Filter(workflow="nothing"), []),
            ]
            for where, names in expected:
                assert await _names(store, where) == names, where
            assert await _names(store, Filter(labels={"team": "ops"})) == ["top/child", "top"]
            assert await _names(store, Filter(labels={"team": "ops", "tier": "1"})) == ["top"]
            assert await _names(store, Filter(labels={"team": "x"})) == []

    async def test_labels_with_any_characters_are_found_exactly(self) -> None:
        labels = {'a"b': "x'; --", "ключ": "❄", "": "", "$.x": "%"}
        async with self.client() as store:
            await store.create(new_run("a", labels=labels))
            await store.create(new_run("b", labels={"a": "b"}))
            for key, value in labels.items():
                assert await _names(store, Filter(labels={key: value})) == ["a"]
            row = await store.get("a")
            assert row is not None and row.labels == labels

    async def test_hostile_filters_find_nothing_and_break_nothing(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a"))
            for text in ("' OR 1=1 --", "x') OR ('1'='1", "\\", "a\0b", "\U0001f40d"):
                assert await _names(store, Filter(workflow=text)) == []
                assert await _names(store, Filter(search=text)) == []
                assert await _names(store, Filter(status=(text,))) == []
            assert await _names(store, Filter()) == ["a"]

    async def test_runs_are_counted_by_status(self) -> None:
        async with self.driver() as store:
            assert await store.count() == {}
            for name in ("a", "b", "c"):
                await store.create(new_run(name, owner="w1"))
            await store.append(appended("a", 2, "x"))
            assert await store.count() == {"pending": 2, "running": 1}


async def _names(store: Store, where: Filter) -> list[str]:
    return [row.run_id for row in await store.find(where)]
