"""Where the shop listens: the port file in the data folder, and a small blocking question to whoever is there."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

PORT_FILE: Final = "shop.json"
IMAGES: Final = "images"
RESULTS: Final = "results"


@dataclass(frozen=True, slots=True)
class Place:
    """What the port file says; the shop may have ended since."""

    url: str
    port: int
    pid: int


def read_port_file(folder: Path) -> Place | None:
    """Where the shop of this folder was last seen, or None when it never was."""
    try:
        found = json.loads((folder / PORT_FILE).read_text(encoding="utf-8"))
        port = urlsplit(found["url"]).port
        return Place(url=str(found["url"]), port=int(port or 0), pid=int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask(
    url: str, path: str, *, method: str = "GET", timeout_seconds: float = 5.0
) -> dict[str, Any] | None:  # Any: JSON
    """The JSON object that the shop at `url` answers; None when nobody answers, or not with a JSON object."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_seconds)
    try:
        connection.request(method, path, headers={"Connection": "close"})
        answer = json.loads(connection.getresponse().read())
        return answer if isinstance(answer, dict) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
