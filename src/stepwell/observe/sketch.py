"""A picture as lines of text: one row a node in the order in which they began, and lanes that show what followed what.

It is drawn as `git log --graph` draws commits: a lane leads from a node down to the one that follows it; a fork opens
lanes to the right, a join closes them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stepwell.observe.picture import Node, Picture, successors

GLYPHS: Final[dict[str, str]] = {
    "begin": "○",
    "end": "◉",
    "join": "•",
    "task": "●",
    "compensation": "◁",
    "child": "▣",
    "start": "▷",
    "choice": "◆",
    "container": "▼",
    "pure": "▪",
    "stop": "■",
}
WAIT_GLYPH: Final = "◇"

_PLAIN: Final = str.maketrans("○◉•●◁▣▷◇◆▼▪■│─├╮┬╯┴┼×…→", "oO+*<#>~?v:@|-++++++x.>")


class Row(msgspec.Struct):
    """One line: its lanes, and the node that stands in it, if it is not only lanes."""

    lanes: str
    node: Node | None


def sketch(drawn: Picture) -> list[Row]:
    """The rows of a picture, from the run's beginning on."""
    followers = successors(drawn)
    lanes: list[str | None] = []
    rows: list[Row] = []
    for node in drawn.nodes:
        into = [lane for lane, target in enumerate(lanes) if target == node.id]
        own = into[0] if into else _free(lanes, 0)
        if len(into) > 1:
            rows.append(Row(_bend(lanes, own, into[1:], "┴", "╯"), None))
            for lane in into[1:]:
                lanes[lane] = None
        lanes[own] = node.id
        rows.append(Row(_straight(lanes, own, GLYPHS.get(node.kind, WAIT_GLYPH)), node))
        targets = followers(node.id)
        lanes[own] = targets[0] if targets else None
        opened = []
        for target in targets[1:]:
            lane = _free(lanes, own + 1)
            lanes[lane] = target
            opened.append(lane)
        if opened:
            rows.append(Row(_bend(lanes, own, opened, "┬", "╮"), None))
        while lanes and lanes[-1] is None:
            lanes.pop()
    return rows


def plain(text: str) -> str:
    """The same drawing in ASCII, for terminals that know nothing else."""
    return text.translate(_PLAIN)


def _free(lanes: list[str | None], least: int) -> int:
    """The first lane from `least` on that leads nowhere; a new one if need be."""
    for lane in range(least, len(lanes)):
        if lanes[lane] is None:
            return lane
    lanes += [None] * (max(0, least - len(lanes)) + 1)
    return len(lanes) - 1


def _straight(lanes: list[str | None], own: int, glyph: str) -> str:
    marks = [glyph if lane == own else " " if target is None else "│" for lane, target in enumerate(lanes)]
    return " ".join(marks).rstrip()


def _bend(lanes: list[str | None], own: int, others: list[int], middle: str, corner: str) -> str:
    """A line from lane `own` to the lanes `others`, all to its right, across those between."""
    last = max(others)
    text = ""
    for lane, target in enumerate(lanes):
        if lane == own:
            mark = "├"
        elif lane in others:
            mark = corner if lane == last else middle
        elif own < lane < last:
            mark = "─" if target is None else "┼"
        else:
            mark = " " if target is None else "│"
        text += mark + ("─" if own <= lane < last else " ")
    return text.rstrip()
