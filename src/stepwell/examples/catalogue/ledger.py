"""How often each page and picture was asked for, and with what result: kept on disk, so that no restart forgets it.

One line per request in `shop-requests.log`, written before the answer is sent: what, which number, which status.
The first line names the run that is counted. A torn last line, which a kill may leave, is cut off.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Final, Literal, TypeAlias

What: TypeAlias = Literal["list", "page", "image"]

FILE: Final = "shop-requests.log"
_CODE: Final[dict[What, str]] = {"list": "l", "page": "p", "image": "i"}
_WHAT: Final[dict[str, What]] = {code: what for what, code in _CODE.items()}


class Ledger:
    """The counts of one run in one shop; numbers run from 0 to `largest`."""

    def __init__(self, folder: Path, largest: int) -> None:
        self._path = folder / FILE
        self._largest = largest
        self.run = ""
        self._clear()
        self._read()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def begin(self, run: str) -> bool:
        """Count for this run from now on; False, and nothing changes, when that is so already.

        `run` is one line of text.
        """
        if run == self.run:
            return False
        os.close(self._file)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"run {run}\n", encoding="utf-8")
        os.replace(fresh, self._path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self.run = run
        self._clear()
        return True

    def asked(self, what: What, number: int) -> int:
        """How often this was asked for until now."""
        return self._asked[what][number]

    def note(self, what: What, number: int, status: int) -> None:
        """Record a request and the status it is answered with."""
        os.write(self._file, f"{_CODE[what]} {number} {status}\n".encode())
        self._count(what, number, status)

    def totals(self) -> dict[str, dict[str, int]]:
        """Per kind: `requests`, `answered` (200), `refused` (anything else), `distinct` and `repeated`.

        `distinct` is how many different ones were answered with 200, `repeated` how many of them more than once.
        """
        return {
            what: {
                "requests": sum(asked),
                "answered": sum(served),
                "refused": sum(asked) - sum(served),
                "distinct": len(served) - served.count(0),
                "repeated": sum(1 for times in served if times > 1),
            }
            for what, asked, served in ((what, self._asked[what], self._served[what]) for what in _CODE)
        }

    def repeated(self, what: What) -> list[int]:
        """The numbers that were answered with 200 more than once, ascending."""
        return [number for number, times in enumerate(self._served[what]) if times > 1]

    def close(self) -> None:
        """Close the file; nothing is buffered, so nothing is lost without it."""
        os.close(self._file)

    def _clear(self) -> None:
        empty = [0] * (self._largest + 1)
        self._asked: dict[What, array[int]] = {what: array("L", empty) for what in _CODE}
        self._served: dict[What, array[int]] = {what: array("L", empty) for what in _CODE}

    def _read(self) -> None:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.truncate(self._path, len(whole))
        for line in whole.decode("utf-8", "replace").splitlines():
            match line.split(" "):
                case ["run", *words]:
                    self.run = " ".join(words)
                case [code, number, status] if code in _WHAT and number.isdecimal() and int(number) <= self._largest:
                    self._count(_WHAT[code], int(number), int(status))
                case _:
                    pass  # another shop's larger number: this shop never serves it

    def _count(self, what: What, number: int, status: int) -> None:
        self._asked[what][number] += 1
        if status == 200:
            self._served[what][number] += 1
