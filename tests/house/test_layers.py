"""Imports point downwards, and every package has its place in the layers."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from package import ROOT, SOURCE

NOT_A_LAYER = {"__main__", "__pycache__", "testing"}
"""`__main__` is the command line again; `testing` may import anything, and a contract says that nobody imports it."""


def test_the_import_contracts_are_kept() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([tool], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_every_part_of_the_package_is_in_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    parts = {p.stem for p in SOURCE.iterdir() if (p.is_dir() or p.suffix == ".py") and p.stem != "__init__"}
    missing = {f"stepwell.{part}" for part in parts - NOT_A_LAYER} - placed
    assert not missing, f"give {sorted(missing)} a place in the layers of pyproject.toml"
