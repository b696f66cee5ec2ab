"""The counterparts of what other engines' tests prove play in the same theatre as our own scenarios."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
sys.path.append(str(_SCENARIOS))

_spec = importlib.util.spec_from_file_location("scenario_fixtures", _SCENARIOS / "conftest.py")
assert _spec is not None and _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

play = _fixtures.play
