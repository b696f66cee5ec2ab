"""The rows about graphs; `python -m benchmarks graphs` measures them beside `chain` and `many`, their yardsticks."""

from __future__ import annotations

from benchmarks.budgets import PEAK, Budget, Row, figure

YARDSTICKS = ("chain", "many")
"""What functions do in the same minute on the same machine."""


FLAT = Budget("linear: a node costs the same in any graph", lambda _: 0.0, 0.0)
"""Nothing is promised of the time itself: what can fail is `Row.linearity`, the largest size beside the smallest."""


def _shape(name: str, title: str) -> Row:
    return Row(
        name=name,
        title=title,
        function=name.replace("-", "_"),
        sizes=(100, 1000, 10_000),
        shown=figure("seconds"),
        unit="s",
        budget=FLAT,
        notes=(
            ("nodes", figure("nodes_per_second"), "{:,.0f} a second"),
            ("compiled in", figure("compile_seconds", 1e3), "{:,.0f} ms"),
            ("of that a node", figure("compile_node_seconds", 1e6), "{:.0f} µs"),
            PEAK,
        ),
        repeats=3,
    )


def _messages(name: str, title: str) -> Row:
    return Row(
        name=name,
        title=title,
        function=name.replace("-", "_"),
        sizes=(20_000,),
        shown=figure("messages_per_second"),
        unit="messages/s",
        notes=(PEAK,),
        repeats=3,
    )


GRAPH_ROWS: tuple[Row, ...] = (
    _shape("graph-chain", "chain of 10,000 nodes, memory store"),
    _shape("graph-chain-sqlite", "… SQLite FULL"),
    _shape("graph-fan", "one node, then 9,999 at once, memory store"),
    _shape("graph-fan-sqlite", "… SQLite FULL"),
    _shape("graph-random", "random graph of 10,000 nodes, memory store"),
    _shape("graph-random-sqlite", "… SQLite FULL"),
    _messages("graph-pipeline", '20,000 messages through four pure nodes each, `durability="memory"`'),
    _messages("graph-evaluate", "… by `app.evaluate`, without runs"),
    Row(
        name="graph-map",
        title="map of three nodes over 10,000 items in one run, SQLite FULL",
        function="graph_map",
        sizes=(2500, 10_000),
        shown=figure("seconds"),
        unit="s",
        budget=Budget("linear; < 100 MB", figure("peak_megabytes"), 100.0),
        notes=(
            ("nodes", figure("nodes_per_second"), "{:,.0f} a second"),
            PEAK,
        ),
        repeats=3,
    ),
    Row(
        name="graph-instances",
        title="56 scientific workflows (WfInstances) at once, SQLite FULL",
        function="graph_instances",
        sizes=(56,),
        shown=figure("tasks_per_second"),
        unit="tasks/s",
        notes=(
            ("tasks", figure("tasks"), "{:,.0f}"),
            ("compiled in", figure("compile_seconds"), "{:.1f} s"),
            PEAK,
        ),
        repeats=3,
    ),
)
