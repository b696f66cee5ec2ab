"""The public names are the ones written here: a new one is a decision, a lost one breaks somebody's program."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys

from package import SOURCE

import stepwell
from stepwell import blocking
from stepwell.app import Stepwell
from stepwell.authoring.ctx import ctx
from stepwell.handle import Run

PUBLIC = {
    "Answer",
    "Ask",
    "CloudEvent",
    "Expand",
    "InputWithdrawn",
    "InvalidDefinition",
    "Limits",
    "NodeType",
    "Outcome",
    "Queue",
    "Retry",
    "Run",
    "StepFailed",
    "Stepwell",
    "StepwellError",
    "ctx",
    "graph_workflow",
    "task",
    "workflow",
}

CTX = {
    "ask",
    "attempt",
    "cancelled",
    "compensate",
    "connection",
    "emit",
    "event",
    "heartbeat",
    "idempotency_key",
    "identity",
    "log",
    "map",
    "now",
    "patched",
    "progress",
    "publish",
    "random",
    "run_id",
    "saga",
    "select",
    "signal",
    "sleep",
    "start",
    "start_new",
    "state",
    "step",
    "sync",
    "timer",
    "uuid",
}

VERBS = {"pause", "resume", "cancel", "retry", "signal"}


def test_the_package_exports_exactly_its_public_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    exported = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert exported - {None} == PUBLIC


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(stepwell, name) is not None for name in PUBLIC)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", stepwell.__version__)


def test_the_version_is_the_distribution_s() -> None:
    settings = (SOURCE.parents[1] / "pyproject.toml").read_text("utf-8")
    assert f'version = "{stepwell.__version__}"' in settings


def test_ctx_offers_exactly_its_verbs() -> None:
    assert {name for name in dir(type(ctx)) if not name.startswith("_")} == CTX


def test_a_run_s_handle_has_the_verbs_of_the_app() -> None:
    for verb in VERBS:
        assert callable(getattr(Stepwell, verb))
        assert callable(getattr(Run, verb))
        assert callable(getattr(blocking.Run, verb))


FOR_LOOPS_ONLY = {"engine", "listening", "matching", "every", "start_encoded", "schedule_encoded"}
"""What is for those who have the loop: nothing that a script would do."""


def test_the_blocking_facade_has_what_the_app_has_with_the_same_parameters() -> None:
    assert public(blocking.Stepwell) - {"app", "inner", "wait_for"} == public(Stepwell) - FOR_LOOPS_ONLY
    assert public(blocking.Run) - {"wait_for"} == public(Run)
    for kind, inner in ((blocking.Stepwell, Stepwell), (blocking.Run, Run)):
        for name in sorted(public(kind) & public(inner)):
            theirs, ours = (inspect.signature(getattr(one, name)).parameters for one in (inner, kind))
            takes_all = any(one.kind is one.VAR_KEYWORD for one in ours.values())
            assert takes_all or set(ours) - {"self"} == set(theirs) - {"self"}, f"{kind.__name__}.{name}"


def public(kind: type) -> set[str]:
    return {name for one in kind.__mro__ for name in vars(one) if not name.startswith("_")}


def test_importing_stepwell_loads_no_engine() -> None:
    heavy = ("stepwell.engine", "stepwell.stores", "stepwell.cli", "sqlite3", "click")
    code = f"import sys, stepwell; print([name for name in sys.modules if name.startswith({heavy})])"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
