"""The node type `map`: a body for each item, many at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from stepwell.errors import DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.nodes.parts import rules
from stepwell.nodes.parts.numbers import check_number
from stepwell.nodes.protocol import NodeType

OWN = ("map", "parallel", "item", "loop")
"""Roots that the map itself provides to its body, its key and its condition."""

_PERCENT = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*")
_COUNTS = ("done", "succeeded")


class MapSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Over what, how many at once, and what may go wrong: either `items` or `count` is given.

    Attributes:
        items: a list, or a mapping, whose items are `{key, value}`.
        count: a number of instances; the items are 0, 1, 2 and so on.
        concurrency: how many instances run at once at most.
        tolerate: how many items may fail: a number, or a share of all such as `5%`.
        complete_when: the map is done when this holds: `{done: n}`, `{succeeded: n}`, or a condition over `map.done`,
            `map.succeeded`, `map.failed`, `map.total` and `map.results`.
        rest: what becomes of the instances that are under way then: they run on and are ignored, or are cancelled.
        accept: the name of a signal whose payloads, an item or a list of items, are added while the map runs.
        stay_open: the map is not done when all items are, but waits for more until `complete_when` holds.
        sync: whether the node waits for its instances; otherwise it is left at once, and they go on.
        key: a template over `item` that names each instance, so that it keeps its place when items change.
    """

    items: list[Any] | dict[str, Any] | None = None  # Any: JSON
    count: int | None = None
    concurrency: int | None = None
    tolerate: int | str = 0
    complete_when: Any = None  # Any: a condition, or one of the two counts
    rest: Literal["ignore", "cancel"] = "ignore"
    accept: str = ""
    stay_open: bool = False
    sync: bool = True
    key: Any = None  # Any: a template, rendered for each item

    def elements(self) -> list[Any]:  # Any: JSON
        """The items that it begins with, in order: of the list, of the mapping, or numbers.

        Raises:
            DefinitionError: neither or both of `items` and `count` are given, or the count is negative.
        """
        if (self.items is None) == (self.count is None) and not (self.items is None and self.accept):
            raise DefinitionError("map: give either `items`, a list or a mapping, or `count`")
        if self.count is not None and self.count < 0:
            raise DefinitionError(f"map.count: found {self.count}; give a whole number from 0 on")
        if isinstance(self.items, dict):
            return [{"key": key, "value": value} for key, value in self.items.items()]
        return list(self.items or range(self.count or 0))

    def tolerated(self, total: int) -> int:
        """How many of `total` items may fail.

        Raises:
            DefinitionError: `tolerate` is neither a number nor a share.
        """
        return tolerance(self.tolerate, total)


class MapNode(NodeType):
    """Runs its body once for each item, as many at once as `concurrency` allows; when one ends the next begins.

    In the body `item` is the item; `map.index` counts from 0 and `map.total` is how many there are
    (`parallel.currentItem` and `parallel.index` are the same). Each item is in the journal by itself: after a crash
    only those that were under way begin again.

    Ports: `out`; `error` when more items failed than are tolerated.
    Output: `{results, errors, total, succeeded, failed}`; `results` in the order of the items, null where one failed,
    `errors` a list of `{index, error}`.

    Example:
        ```yaml
        each:
          map: "{{ list.urls }}"
          concurrency: 32
          tolerate: 5%
          do:
            page:  {task: fetch, inputs: {url: "{{ item }}"}}
            image: {task: process_image, inputs: {page: "{{ page }}"}, needs: page}
        ```
    """

    name = "map"
    summary = "Run a body for each item, many at once."
    kind = "container"
    Settings = MapSettings
    main = "items"
    fields = ("results", "errors", "total", "succeeded", "failed")
    raw = ("complete_when", "key")
    bodies = ("do",)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """It has items and an end; numbers and the condition are some."""
        given = [name for name in ("items", "count") if settings.get(name) is not None]
        if len(given) != 1 and not (not given and settings.get("accept")):
            say("items", "give either `items`, a list or a mapping, or `count`")
        check_number(settings.get("count"), "count", 0, say)
        check_number(settings.get("concurrency"), "concurrency", 1, say)
        if not is_template(settings.get("tolerate", 0)):
            try:
                tolerance(settings.get("tolerate", 0), 100)
            except DefinitionError as error:
                say("tolerate", str(error))
        if settings.get("complete_when") is not None:
            try:
                completion(settings["complete_when"])
            except DefinitionError as error:
                say("complete_when", str(error))
        elif settings.get("stay_open") is True and not settings.get("accept"):
            say("stay_open", "a map that stays open needs `complete_when`, or a signal to `accept` that can end it")
        if settings.get("key") is not None:
            rules.check_value(settings["key"], "key", say)

    def references(self, settings: Mapping[str, Any]) -> list[Any]:  # Any: JSON in, references out
        """What the condition and the key refer to outside the map."""
        when, key = settings.get("complete_when"), settings.get("key")
        return list(rules.references([] if when is None else [_rule(when)], [] if key is None else [key], own=OWN))


def tolerance(found: object, total: int) -> int:
    """How many of `total` items may fail by a number, or by a share such as `5%` (rounded down).

    Raises:
        DefinitionError: it is neither.
    """
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    share = _PERCENT.fullmatch(found) if isinstance(found, str) else None
    if share is None or float(share[1]) > 100:
        raise DefinitionError(f"map.tolerate: {found!r} is neither a whole number from 0 on nor a share such as 5%")
    return int(float(share[1]) * total / 100)


def completion(source: Any) -> Any:  # Any: JSON in, an `expressions.conditions.Condition` out
    """The condition under which a map is done, over `map.…`: of a count of items, or as it is written.

    Raises:
        DefinitionError: it is no condition.
    """
    return rules.condition(_rule(source))


def _rule(source: Any) -> Any:  # Any: JSON
    if isinstance(source, dict) and len(source) == 1:
        (name, count), *_ = source.items()
        if name in _COUNTS:
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise DefinitionError(f"map.complete_when.{name}: found {count!r}; give a whole number from 0 on")
            return {">=": [{"var": f"map.{name}"}, count]}
    return source


TYPE = MapNode()
