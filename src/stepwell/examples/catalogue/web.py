"""How tasks ask the shop: one HTTP client per event loop, sizes bounded, statuses turned into the package's errors.

The shop's address is looked up in the data folder at every request, so a shop that was started again at another
port is found again.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from stepwell.examples.catalogue.records import NotFound, ShopTrouble
from stepwell.examples.catalogue.where import PORT_FILE, read_port_file

if TYPE_CHECKING:
    import httpx2

MAX_BODY: Final = 2_000_000
"""Bytes of a response over which it is not read to its end."""

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()
_places: dict[str, tuple[int, str]] = {}


async def get(folder: str, path: str) -> bytes:
    """The body that the shop of `folder` answers to `path`.

    Raises:
        NotFound: the shop answers 4xx, or with more than `MAX_BODY` bytes.
        ShopTrouble: it answers anything else but 200, or does not answer.
    """
    import httpx2

    url = _shop_url(folder) + path
    body = bytearray()
    try:
        async with _client().stream("GET", url) as response:
            async for part in response.aiter_bytes():  # of errors too: a connection left unread cannot be used again
                body += part
                if len(body) > MAX_BODY:
                    raise NotFound(f"{path}: the answer is longer than {MAX_BODY:,} bytes")
    except httpx2.TransportError as error:
        raise ShopTrouble(f"{path}: no answer from the shop at {url[: -len(path)]} ({type(error).__name__})") from None
    if 400 <= response.status_code < 500:
        raise NotFound(f"{path}: the shop answers {response.status_code}")
    if response.status_code != 200:
        raise ShopTrouble(f"{path}: the shop answers {response.status_code}")
    return bytes(body)


async def get_json(folder: str, path: str) -> Any:  # Any: JSON
    """The JSON value that the shop answers; errors as for `get`."""
    return json.loads(await get(folder, path))


async def close() -> None:
    """Close the running loop's connections; later requests open new ones."""
    client = _clients.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.aclose()


def _client() -> httpx2.AsyncClient:
    import httpx2

    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        client = _clients[loop] = httpx2.AsyncClient(
            timeout=httpx2.Timeout(8.0, pool=None),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=64),
            verify=False,  # plain HTTP on the loopback address: loading certificates would cost 10 MB for nothing
            trust_env=False,  # and no proxy belongs between
        )
    return client


def _shop_url(folder: str) -> str:
    """The address in the port file, read again when the file has changed."""
    try:
        changed = (Path(folder) / PORT_FILE).stat().st_mtime_ns
    except OSError:
        raise ShopTrouble(f"no shop has been started for {folder}: there is no {PORT_FILE}") from None
    known = _places.get(folder)
    if known is None or known[0] != changed:
        place = read_port_file(Path(folder))
        if place is None:
            raise ShopTrouble(f"{Path(folder) / PORT_FILE} does not say where the shop is")
        known = _places[folder] = (changed, place.url)
    return known[1]
