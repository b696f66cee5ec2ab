"""The local shop: `python -m stepwell.examples.catalogue.shop FOLDER --items N --seed S` serves it and prints its URL.

A process of its own that outlives the program that started it. What it has counted is in FOLDER (see `ledger`), and
so is the file that says where it listens, so a shop that was ended and started again is the same shop, at the same
port if that is free. It ends by itself after two minutes in which nobody asked for anything.

HTTP/1.1 over asyncio, keep-alive, loopback only, no TLS: enough for this, and nothing to install.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http
import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

from stepwell.examples.catalogue.counter import Answer, Counter
from stepwell.examples.catalogue.images import choose, picture_set
from stepwell.examples.catalogue.ledger import Ledger
from stepwell.examples.catalogue.stock import Stock, pictures_needed
from stepwell.examples.catalogue.where import PORT_FILE, ask, read_port_file

IDLE_SECONDS: Final = 120.0
_HEAD_LIMIT: Final = 16_384


class _Connection(asyncio.Protocol):
    """One customer's connection: requests are answered one after the other, in order."""

    def __init__(self, shop: Server) -> None:
        self._shop = shop
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._shop.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        if self._transport is not None:
            self._shop.connections.discard(self._transport)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._serve()

    def _serve(self) -> None:
        while self._waiting is None and self._transport is not None:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                if len(self._received) > _HEAD_LIMIT:
                    self._transport.close()
                return
            lines = self._received[:end].decode("latin-1").split("\r\n")
            headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines[1:])}
            length = headers.get("content-length", "0")
            whole = end + 4 + (int(length) if length.isdecimal() else 0)
            if len(self._received) < whole:
                return
            del self._received[:whole]
            words = lines[0].split(" ")
            if len(words) != 3:
                self._transport.close()
                return
            answer = self._shop.answer(words[0], words[1])
            close = headers.get("connection", "").lower() == "close"
            if answer.delay:
                loop = asyncio.get_running_loop()
                self._waiting = loop.call_later(answer.delay, self._late, answer, words[0], close)
            else:
                self._send(answer, words[0], close)

    def _late(self, answer: Answer, method: str, close: bool) -> None:
        self._waiting = None
        self._send(answer, method, close)
        self._serve()

    def _send(self, answer: Answer, method: str, close: bool) -> None:
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}\r\nContent-Type: {answer.type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: {'close' if close else 'keep-alive'}\r\n\r\n"
        )
        self._transport.write(head.encode() + (b"" if method == "HEAD" else answer.body))
        if close:
            self._transport.close()


class Server:
    """Serves one counter until it is told to end, or until nobody has asked for anything for `idle_seconds`."""

    def __init__(self, counter: Counter, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.connections: set[asyncio.Transport] = set()
        self._counter = counter
        self._idle_seconds = idle_seconds
        self._ended = asyncio.Event()
        self._last_asked = asyncio.get_running_loop().time()

    def answer(self, method: str, target: str) -> Answer:
        """The counter's answer; `POST /end` ends the server."""
        self._last_asked = asyncio.get_running_loop().time()
        if method == "POST" and target == "/end":
            self.end()
            return Answer(200, "application/json", b"{}")
        return self._counter.answer(method, target)

    def end(self) -> None:
        """Let `serve` return."""
        self._ended.set()

    async def listen(self, port: int) -> asyncio.Server:
        """Listen on this port of the loopback address, or on any free one when it is 0 or taken."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=256)
        except OSError:
            if port == 0:
                raise
            return await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=256)

    async def serve(self, server: asyncio.Server) -> None:
        """Serve until the end, then close all connections."""
        loop = asyncio.get_running_loop()
        while not self._ended.is_set():
            left = self._last_asked + self._idle_seconds - loop.time()
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), left)
        server.close()
        await asyncio.sleep(0)  # let the last answer, the one to `/end`, go out
        for transport in list(self.connections):
            transport.close()
        await asyncio.sleep(0)


async def run_shop(folder: Path, items: int, seed: int, port: int, idle_seconds: float) -> None:
    """Open the shop in `folder`, write its port file, print its URL, serve until the end."""
    pictures = picture_set()
    chosen = choose(pictures, pictures_needed(items), seed)
    stock = Stock(items, seed, chosen, [pictures.title(number) for number in chosen])
    ledger = Ledger(folder, max(items, stock.items))
    about = {"folder": str(folder), "items": items, "seed": seed, "pid": os.getpid(), "pictures": pictures.source}
    shop = Server(Counter(stock, pictures, ledger, about), idle_seconds=idle_seconds)
    server = await shop.listen(port)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    fresh = folder / f"{PORT_FILE}.new"
    fresh.write_text(json.dumps({"url": place, **about}), encoding="utf-8")
    os.replace(fresh, folder / PORT_FILE)
    print(place, flush=True)
    with contextlib.suppress(NotImplementedError, RuntimeError):  # not on Windows, not outside the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, shop.end)
    try:
        await shop.serve(server)
    finally:
        ledger.close()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stepwell.examples.catalogue.shop", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the shop keeps its counts and says where it listens")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0, help="0: the port of last time if it is free, else any")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    given = parser.parse_args(arguments)
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    known = read_port_file(folder)
    if known is not None:
        health = ask(known.url, "/health")
        if health is not None and health.get("folder") == str(folder):
            print(known.url, flush=True)
            return 0 if (health["items"], health["seed"]) == (given.items, given.seed) else 1
    port = given.port or (known.port if known is not None else 0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run_shop(folder, given.items, given.seed, port, given.idle_seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
