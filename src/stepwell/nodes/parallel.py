"""The node type `parallel`: several bodies at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepwell.nodes.parts.numbers import check_number
from stepwell.nodes.protocol import NodeType


class ParallelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many at once; with `count` or `items` the same body many times, instead of branches.

    Attributes:
        concurrency: how many branches run at once at most.
        count: the number of instances of `do`.
        items: a list, or a mapping, with an instance of `do` for each item.
    """

    concurrency: int | None = None
    count: int | None = None
    items: list[Any] | dict[str, Any] | None = None  # Any: JSON


class ParallelNode(NodeType):
    """Runs its branches at once, and goes on when all have ended. A branch that fails fails the node.

    With `count` or `items` and one body `do` it is a `map` that tolerates no failure; in the body `parallel.index`
    counts from 0 and `parallel.currentItem` is the item.

    Ports: `out`.
    Output: the branches' results by their names; with `do`, as of a `map`.

    Example:
        ```yaml
        both:
          parallel:
            branches:
              left:  {resize:   {task: resize, inputs: {image: "{{ image }}"}}}
              right: {describe: {task: describe, inputs: {image: "{{ image }}"}}}
        ```
    """

    name = "parallel"
    summary = "Run several bodies at once."
    kind = "container"
    Settings = ParallelSettings
    main = "branches"
    bodies = ("branches", "do")

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """Not both kinds at once; numbers are large enough."""
        if settings.get("count") is not None and settings.get("items") is not None:
            say("count", "give either `items` or `count`")
        check_number(settings.get("count"), "count", 0, say)
        check_number(settings.get("concurrency"), "concurrency", 1, say)


TYPE = ParallelNode()
