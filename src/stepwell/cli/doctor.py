"""Look the store and this installation over."""

from __future__ import annotations

import platform
import sqlite3
import sys

import click

from stepwell import __version__
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import FAILED, OK
from stepwell.cli.parts.opening import client, data_folder, driver_of, run
from stepwell.stores.protocol import Finding


@cli_command
def command(call: Call) -> int:
    """Look the store over: file, schema, checksums, gaps, room, and who drives.

    Exits with 1 when something is wrong.
    """
    return run(_look(call))


async def _look(call: Call) -> int:
    findings = [
        Finding(True, "stepwell", f"{__version__}, Python {platform.python_version()} on {sys.platform}"),
        Finding(True, "sqlite", sqlite3.sqlite_version),
    ]
    async with client(call) as app:
        findings += await app.check()
        counts = await app.counts()
    driver = await driver_of(call)
    findings.append(Finding(True, "driven by", driver or "nobody now"))
    findings.append(
        Finding(True, "runs", ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items())) or "none")
    )
    findings.append(Finding(True, "logs", str(data_folder(call.store) / "logs")))
    is_well = all(finding.ok for finding in findings)
    if call.json:
        call.document({"ok": is_well, "driver": driver, "counts": counts, "findings": findings})
    else:
        rows = [(_mark(one.ok), one.what, one.detail) for one in findings]
        call.answer(words.table(("", "what", "found"), rows))
        if not is_well:
            bad = sum(not finding.ok for finding in findings)
            call.say(f"{words.count(bad, 'finding')} to look at")
    return OK if is_well else FAILED


def _mark(ok: bool) -> str:
    return click.style("ok", fg="green") if ok else click.style("!!", fg="red", bold=True)
