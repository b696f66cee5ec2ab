"""What `stepwell demo` calls: `prepare` the shop, make the workflow's input, `describe` how it went.

    shop = prepare(folder, items=10_000, seed=1, run=run_id)
    … run `workflow.catalogue` with `order(shop)` under `run_id`, on any store …
    print(describe(report, shop.stats()))

Call `prepare` in every process that starts or resumes the run: it finds the shop that is there or starts one, and
what the shop has counted for this run goes on.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from stepwell.errors import RequestRefused
from stepwell.examples.catalogue.records import CatalogueInput, Report
from stepwell.examples.catalogue.where import RESULTS, ask, read_port_file

_NEEDED: Final = {"httpx2": "httpx2", "numpy": "numpy", "PIL": "pillow"}
_START_SECONDS: Final = 60.0
_LOG: Final = "shop.log"


class ShopNotStarted(RequestRefused):
    """The shop could not be started; the text says why and where its log is."""

    code = "shop_not_started"


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that answers. `pictures` says where its pictures come from, `found` that it was running already."""

    url: str
    folder: Path
    items: int
    seed: int
    pid: int
    pictures: str
    found: bool

    @property
    def results(self) -> Path:
        """Where the workflow puts its files."""
        return self.folder / RESULTS

    def stats(self) -> dict[str, Any]:  # Any: JSON, see `counter.Counter.stats`
        """What the shop has counted for the current run; empty when it does not answer."""
        return ask(self.url, "/stats") or {}

    def stop(self) -> None:
        """End the shop. Its counts stay on disk. Left alone it ends by itself when nobody asks for two minutes."""
        ask(self.url, "/end", method="POST")


def prepare(data_dir: Path, items: int = 10_000, seed: int = 1, *, run: str = "demo") -> Shop:
    """Find the shop of `data_dir`, or start it, and let it count for `run`; blocks until it answers (1 to 3 s).

    A running shop of another size or seed is ended first. Counting begins anew for a run that the shop was not
    counting before, and goes on for the same one. The shop is a detached process: ending or killing the caller
    leaves it alone.

    Raises:
        ShopNotStarted: the demo's dependencies are missing, or the shop ended before it answered.
    """
    missing = sorted(package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None)
    if missing:
        raise ShopNotStarted(f"the demo needs {', '.join(missing)}: pip install 'stepwell[demo]'")
    if items < 1:
        raise ShopNotStarted(f"a shop of {items} items cannot be opened: give a number from 1")
    folder = data_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shop = _find(folder)
    if shop is not None and (shop.items, shop.seed) != (items, seed):
        shop.stop()
        _until(lambda: _find(folder) is None, "the former shop does not end", folder)
        shop = None
    if shop is None:
        shop = _start(folder, items, seed)
    ask(shop.url, f"/run?id={quote(f'{run}, {items} items, seed {seed}')}", method="POST")
    return shop


def order(shop: Shop, *, concurrency: int = 32) -> CatalogueInput:
    """The workflow's input for this shop. The same for every start of the same shop."""
    return CatalogueInput(folder=str(shop.folder), concurrency=concurrency)


def describe(report: Report, stats: Mapping[str, Any]) -> str:  # Any: JSON
    """How it went, in a few lines for a terminal."""
    lost = ", ".join(f"{count} {name}" for name, count in sorted(report.dropped.items())) or "none"
    lines = [
        f"{report.processed:,} of {report.listed:,} products processed; could not be: {lost}",
        f"{report.groups:,} groups of products that look alike, {report.grouped:,} products in them",
        f"against the shop's own groups: precision {report.score.precision:.3f}, recall {report.score.recall:.3f}",
    ]
    if stats:
        kinds = stats["kinds"]
        requests = sum(kind["requests"] for kind in kinds.values())
        refused = sum(kind["refused"] for kind in kinds.values())
        again = stats["pages_fetched_again"]
        lines += [
            f"the shop was asked {requests:,} times and failed or refused {refused:,} of them on purpose",
            f"product pages fetched more than once: {again}" + ("" if again else " (nothing finished was done twice)"),
            f"pictures: {stats['pictures']}",
        ]
    return "\n".join(lines)


def _find(folder: Path) -> Shop | None:
    """The shop that answers for this folder, or None."""
    place = read_port_file(folder)
    health = None if place is None else ask(place.url, "/health")
    if place is None or health is None or health.get("folder") != str(folder):
        return None
    return Shop(place.url, folder, health["items"], health["seed"], health["pid"], health["pictures"], found=True)


def _start(folder: Path, items: int, seed: int) -> Shop:
    source = str(Path(__file__).resolve().parents[3])  # so that a clone works without being installed
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", "stepwell.examples.catalogue.shop", str(folder)]
    command += ["--items", str(items), "--seed", str(seed)]
    with open(folder / _LOG, "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder, **_detached()
        )
    shop: Shop | None = None

    def ready() -> bool:
        nonlocal shop
        if process.poll() is not None:
            raise ShopNotStarted(f"the shop ended at once (exit code {process.returncode}); see {folder / _LOG}")
        shop = _find(folder)
        return shop is not None

    _until(ready, "the shop does not answer", folder)
    assert shop is not None
    process.returncode = 0  # it is not ours to wait for: without this its handle complains when it is collected
    return Shop(shop.url, folder, items, seed, shop.pid, shop.pictures, found=False)


def _detached() -> dict[str, Any]:  # Any: the options differ by system
    """Options that keep the shop alive when the caller's terminal, process group or job ends."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _until(holds: Callable[[], bool], complaint: str, folder: Path) -> None:
    """Wait until it holds; raises `ShopNotStarted` after a minute."""
    deadline = time.monotonic() + _START_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise ShopNotStarted(f"{complaint} after {_START_SECONDS:.0f} s; see {folder / _LOG}")
        time.sleep(0.03)
