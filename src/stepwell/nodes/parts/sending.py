"""One HTTP request and its answer, through all redirects; each hop's address is looked at before it is asked.

The connection is made to the address that was looked at, whatever the name resolves to by then: the URL is given that
address, the name stays in `Host` and in the TLS handshake. Each request has a connection of its own, so that none is
shared between nodes that may ask different addresses. No proxy of the environment is used: it would do the resolving.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepwell.errors import DefinitionError
from stepwell.nodes.parts import bodies
from stepwell.nodes.parts.addresses import Address, AllowList, permitted
from stepwell.nodes.parts.errors import HttpError, HttpNoAnswer, HttpRefused

if TYPE_CHECKING:
    import ssl

    import httpx2

EXTRA: Final = "http"
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
LONGEST_URL: Final = 64 * 1024
LARGEST_ERROR: Final = 64 * 1024
"""Bytes that are read of the body of an answer that is a failure."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A request, ready to be sent. `confidential` are the names of headers that no other origin may see."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    content: bytes = b""
    confidential: frozenset[str] = frozenset()


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `headers` in lower case, in order, repeated ones each by itself; `is_cut`: its body is longer."""

    status: int
    reason: str
    url: str
    headers: tuple[tuple[str, str], ...]
    content: bytes
    is_cut: bool = False

    def header(self, name: str) -> str:
        """The last header of this name, or nothing."""
        return next((value for found, value in reversed(self.headers) if found == name), "")


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a whole exchange: what may be asked, how often redirected, how much is read, how long.

    `allow` is None when no private address may be asked. `accepts` are the statuses of which the whole body is read;
    `seconds` bounds each wait for the other side (the whole exchange is bounded by whoever calls).
    """

    allow: AllowList | None
    redirects: int
    max_bytes: int
    seconds: float
    accepts: frozenset[int]


async def exchange(request: Outgoing, wire: Wire) -> Incoming:
    """Send a request, follow redirects, and read the answer.

    Raises:
        HttpRefused: an address, the first or one redirected to, may not be asked, or there are too many redirects.
        HttpNoAnswer: no connection, or a broken or silent one; a name that cannot be resolved.
        HttpError: the body is too large, or packed badly.
        DefinitionError: the extra is not installed.
    """
    client = library()
    left = wire.redirects
    url = parsed(request.url)
    while True:
        addresses = await permitted(url.host, _port(url), wire.allow)
        answer, location = await _tried(client, request, url, addresses, wire)
        if location is None or not wire.redirects:
            return answer
        if not left:
            raise HttpRefused(f"it is redirected more than {wire.redirects} times; the last was to {said(url)}")
        left -= 1
        target = _target(url, location)
        request = _redirected(request, url, target, answer.status)
        url = target


@asynccontextmanager
async def streamed(request: Outgoing, wire: Wire) -> AsyncIterator[httpx2.Response]:
    """Send a request, and give its answer while the body is still to come. Redirects are not followed.

    Raises:
        HttpRefused, HttpNoAnswer, DefinitionError: as `exchange` does, and for what breaks while the body is read.
    """
    client = library()
    url = parsed(request.url)
    addresses = await permitted(url.host, _port(url), wire.allow)
    for last, address in enumerate(addresses, 1 - len(addresses)):
        is_connected = False
        try:
            async with _answered(client, request, url, address, wire.seconds) as response:
                is_connected = True
                yield response
                return
        except client.ConnectError as error:
            if last == 0 or is_connected:
                raise HttpNoAnswer(f"no connection to {url.host} at {address}: {error}") from None
        except client.TimeoutException as error:
            raise HttpNoAnswer(f"no answer from {url.host}: {type(error).__name__}") from None
        except (client.LocalProtocolError, client.UnsupportedProtocol) as error:
            raise HttpRefused(f"the request cannot be sent: {error}") from None
        except (client.TransportError, client.DecodingError) as error:
            raise HttpNoAnswer(f"the connection to {url.host} broke: {type(error).__name__}: {error}") from None


def library() -> Any:  # Any: the module, which may be missing
    """The HTTP client.

    Raises:
        DefinitionError: it is not installed.
    """
    try:
        import httpx2
    except ImportError as error:
        raise DefinitionError(
            f"http nodes need the extra {EXTRA!r}: pip install 'stepwell[{EXTRA}]' ({error})"
        ) from None
    return httpx2


def parsed(text: str) -> httpx2.URL:
    """A URL that can be asked.

    Raises:
        HttpRefused: it is none, is not of http or https, has no host, or has credentials in it.
    """
    client = library()
    if len(text) > LONGEST_URL:
        raise HttpRefused(f"the URL has {len(text):,} characters, and {LONGEST_URL:,} are the most")
    try:
        url: httpx2.URL = client.URL(text)
    except (client.InvalidURL, ValueError, UnicodeError) as error:
        raise HttpRefused(f"the URL is none: {error}; write one such as https://shop.example/products") from None
    if url.scheme not in ("http", "https"):
        raise HttpRefused(f"the URL begins with {url.scheme or 'no scheme'!r}; only http:// and https:// can be asked")
    if url.userinfo:
        raise HttpRefused("the URL has a user name or password in it; give them as `auth`, by the names of secrets")
    if not url.host:
        raise HttpRefused("the URL has no host; write one such as https://shop.example/products")
    return url


def said(url: httpx2.URL) -> str:
    """The URL for people: what stands in its query may be a secret."""
    bare = url.copy_with(query=None, fragment=None)
    return f"{bare}?…" if url.query else str(bare)


async def _tried(
    client: Any, request: Outgoing, url: httpx2.URL, addresses: list[Address], wire: Wire
) -> tuple[Incoming, str | None]:  # Any: the module
    """Ask the first address that takes the connection; the second value is where the answer redirects to, or None."""
    for last, address in enumerate(addresses, 1 - len(addresses)):
        try:
            async with _answered(client, request, url, address, wire.seconds) as response:
                return await _read(response, url, wire)
        except client.ConnectError as error:
            if last == 0:
                raise HttpNoAnswer(f"no connection to {url.host} at {address}: {error}") from None
        except client.TimeoutException as error:
            raise HttpNoAnswer(f"no answer from {url.host}: {type(error).__name__}") from None
        except (client.LocalProtocolError, client.UnsupportedProtocol) as error:
            raise HttpRefused(f"the request cannot be sent: {error}") from None
        except client.TransportError as error:
            raise HttpNoAnswer(f"the connection to {url.host} broke: {type(error).__name__}: {error}") from None
    raise AssertionError("permitted gives at least one address")


@asynccontextmanager
async def _answered(
    client: Any, request: Outgoing, url: httpx2.URL, address: Address, seconds: float
) -> AsyncIterator[httpx2.Response]:  # Any: the module
    """Send the request to this very address."""
    is_secure = url.scheme == "https"
    transport = client.AsyncHTTPTransport(verify=_trust() if is_secure else False, trust_env=False)
    headers = {**request.headers, "Host": url.netloc.decode("ascii")}
    there = url.copy_with(host=str(address), fragment=None)
    extensions = {"sni_hostname": url.raw_host.decode("ascii")} if is_secure else {}
    async with (
        client.AsyncClient(transport=transport, trust_env=False, timeout=client.Timeout(seconds)) as one,
        one.stream(request.method, there, headers=headers, content=request.content, extensions=extensions) as response,
    ):
        yield response


@functools.cache
def _trust() -> ssl.SSLContext:
    """The certificates that are trusted; read once, which takes some 20 ms and 10 MB."""
    made: ssl.SSLContext = library().create_ssl_context()
    return made


async def _read(response: httpx2.Response, url: httpx2.URL, wire: Wire) -> tuple[Incoming, str | None]:
    headers = tuple((name.lower(), value) for name, value in response.headers.multi_items())
    answer = Incoming(
        status=response.status_code, reason=response.reason_phrase, url=str(url), headers=headers, content=b""
    )
    location = answer.header("location") if answer.status in REDIRECTS else ""
    if location and wire.redirects:
        return answer, location
    is_taken = answer.status in wire.accepts
    try:
        content = await bodies.gather(
            response.aiter_raw(),
            response.headers.get("content-encoding", ""),
            wire.max_bytes if is_taken else min(wire.max_bytes, LARGEST_ERROR),
        )
    except bodies.TooLarge as error:
        if is_taken:
            raise HttpError(f"answered {answer.status}, but {error}", status=answer.status) from None
        return msgspec.structs.replace(answer, is_cut=True), None
    except bodies.BadBody as error:
        raise HttpError(f"answered {answer.status}, but {error}", status=answer.status) from None
    return msgspec.structs.replace(answer, content=content), None


def _target(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        target = parsed(str(url.join(location)))
    except HttpRefused as error:
        raise HttpRefused(f"it is redirected, but {error}") from None
    except Exception as error:  # whatever a server writes there, of which a URL cannot be made
        raise HttpRefused(f"it is redirected to what is no URL: {type(error).__name__}") from None
    return target.copy_with(fragment=None)


def _redirected(request: Outgoing, url: httpx2.URL, target: httpx2.URL, status: int) -> Outgoing:
    """The request as it is sent to where an answer redirects (RFC 9110, section 15.4; Fetch, HTTP-redirect fetch)."""
    method, content, headers = request.method, request.content, dict(request.headers)
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, content = "GET", b""
        headers = {name: one for name, one in headers.items() if not name.lower().startswith("content-")}
    if (url.scheme, url.host, _port(url)) != (target.scheme, target.host, _port(target)):
        headers = {name: one for name, one in headers.items() if name.lower() not in request.confidential}
    return msgspec.structs.replace(request, method=method, url=str(target), headers=headers, content=content)


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
