"""The patterns are played as the other graphs of the tests are."""

from __future__ import annotations

import sys
from pathlib import Path

_GRAPH = Path(__file__).resolve().parents[1] / "graph"

if str(_GRAPH) not in sys.path:
    sys.path.append(str(_GRAPH))
