"""Patterns 23 and 24: whether a trigger that comes too early is lost or kept."""

from __future__ import annotations

from playing import lasts, pattern, play


def test_pattern_23_a_trigger_that_comes_when_nobody_waits_is_lost() -> None:
    played = play(pattern(23), {"sit_down": lasts(5)}, then=[("2s", lambda run: run.publish("doorbell"))], until="1h")
    assert played.order == ["sit_down"]
    assert played.status == "waiting"


def test_pattern_23_a_trigger_that_comes_while_the_run_waits_starts_what_follows() -> None:
    played = play(
        pattern(23),
        {"sit_down": lasts(5)},
        then=[
            ("2s", lambda run: run.publish("doorbell", transient=True)),
            ("7s", lambda run: run.publish("doorbell", transient=True)),
            ("9s", lambda run: run.publish("doorbell")),
        ],
    )
    assert played.began("open") == [7]
    assert played.status == "completed"


def test_pattern_24_a_trigger_that_comes_too_early_is_kept_until_it_is_needed() -> None:
    played = play(
        pattern(24),
        {"sit_down": lasts(5)},
        then=[("1s", lambda run: run.signal("letter", "hello")), ("2s", lambda run: run.publish("news"))],
    )
    assert played.inputs("read") == [{"text": "hello"}]
    assert played.began("read") == [5]
    assert played.began("discuss") == [6]


def test_pattern_24_a_trigger_that_comes_late_is_waited_for() -> None:
    played = play(
        pattern(24),
        then=[("1h", lambda run: run.signal("letter", "hello")), ("2h", lambda run: run.publish("news"))],
    )
    assert played.began("read") == [3600]
    assert played.began("discuss") == [7200]
