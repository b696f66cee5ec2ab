"""The node type `http`: a request to an HTTP server, and its answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from stepwell.errors import DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.model.durations import micros
from stepwell.nodes.parts import bodies, requests, sending
from stepwell.nodes.parts.addresses import VARIABLE, AllowList, read_allow_list
from stepwell.nodes.parts.answers import failed, shown_headers
from stepwell.nodes.parts.errors import HttpError, HttpNoAnswer, HttpRefused, HttpTimedOut
from stepwell.nodes.parts.redaction import Redactor
from stepwell.nodes.parts.requests import Auth, Body, Scalar
from stepwell.nodes.parts.times import check_duration
from stepwell.nodes.protocol import TIMEOUT, ActionContext, NodeType

MAX_BYTES = 10 * 1024 * 1024
MAX_REDIRECTS = 10
RETRY_ON: tuple[int | str, ...] = (429, "5xx")


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of whom, and what is made of the answer.

    Attributes:
        url: the address, beginning with http:// or https://, without user name and password.
        method: GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.
        params: what is added to the URL's query, by name; a list adds a name several times, null adds nothing.
        headers: headers by name.
        auth: `{bearer: token}`, `{basic: {username, password}}` or `{api_key: {header, value}}`; write secrets as
            `{{ secret.NAME }}`.
        body: `{json: value}`, `{text: text}`, `{form: {name: value}}` or `{base64: bytes}`.
        timeout: a duration for the whole exchange, redirects and body included.
        retry_on: statuses that are failures worth another attempt: numbers, or classes such as `5xx`; 429 and 5xx
            unless given.
        accept: statuses besides 200 to 299 that are answers and no failures, written likewise.
        response: what the body is: `json`, `text`, `base64`, or `auto`: what its content type says.
        max_bytes: how many bytes the body may have, unpacked.
        redirects: how many redirects are followed; with 0 a redirect is an answer like any other.
        allow_private: whether an address that is not public may be asked, if the machine allows it too.
    """

    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = "GET"
    params: dict[str, Scalar | list[Scalar]] = {}
    headers: dict[str, str | int | float | bool] = {}
    auth: Auth | None = None
    body: Body | None = None
    timeout: str | int | float = "30s"
    retry_on: list[int | str] = msgspec.field(default_factory=lambda: [*RETRY_ON])
    accept: list[int | str] = []
    response: Literal["auto", "json", "text", "base64"] = "auto"
    max_bytes: int = MAX_BYTES
    redirects: int = MAX_REDIRECTS
    allow_private: bool = False


class HttpNode(NodeType):
    """Sends a request to an HTTP server and gives its answer.

    A status from 200 to 299, or one in `accept`, is an answer; any other is a failure: worth another attempt if it is
    in `retry_on` (a `Retry-After` header is honoured) and final otherwise. No connection, a broken one and a time
    limit are worth another attempt. How many attempts there are is said by the node's `retry`.

    Methods other than GET, HEAD and OPTIONS carry an `Idempotency-Key` header, the same for each attempt, unless the
    node sets that header itself.

    Only public addresses are asked. Loopback, private, link-local and other special addresses are refused, at first
    and at each redirect, unless the node says `allow_private: true` *and* the environment variable
    `STEPWELL_HTTP_ALLOW` names them where the engine runs: hosts, addresses and networks, separated by commas. The
    answer's headers and body, and the texts of errors, are free of the secrets that the node mentions.

    Ports: `out`; `error`; `timeout`, if wired, when a time limit ended it.
    Output: `{status, headers, body, format, url}`: headers by their names in lower case (`set-cookie` a list), `body`
    as `format` says: `json`, `text` or `base64`; null when it is empty.

    Example:
        ```yaml
        order:
          http:
            method: POST
            url: "https://shop.example/orders"
            auth: {bearer: "{{ secret.SHOP_TOKEN }}"}
            body: {json: {product: "{{ input.product }}", count: 1}}
            accept: [409]
          retry: {attempts: 5, first: 2s}
        known: {condition: {"==": [{var: order.status}, 409]}, needs: order}
        ```
    """

    name = "http"
    summary = "Ask an HTTP server."
    kind = "action"
    Settings = HttpSettings
    main = "url"
    ports = (TIMEOUT,)

    def __init__(self, allow: AllowList | None = None) -> None:
        """With `allow` the environment is not asked which private addresses may be."""
        self._allow = allow

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """What is known before the run is right: URL, durations, statuses, and no secrets written out."""
        url = settings.get("url")
        if isinstance(url, str) and not is_template(url) and not url.lower().startswith(("http://", "https://")):
            say("url", f"found {url!r}; only http:// and https:// can be asked")
        check_duration(settings.get("timeout"), "timeout", say)
        for name in ("retry_on", "accept"):
            found = settings.get(name)
            if isinstance(found, list) and not any(map(is_template, found)):
                try:
                    requests.statuses(found, name)
                except DefinitionError as error:
                    say(name, str(error))
        requests.check_auth(settings.get("auth"), say)
        requests.check_body(settings, say)

    async def run(self, settings: HttpSettings, context: ActionContext) -> object:
        """Send the request. Raises `HttpError`, `HttpNoAnswer`, `HttpTimedOut`, `HttpRefused`, `DefinitionError`."""
        declared = context.secrets
        known = tuple(declared.values())
        redactor = Redactor([*known, *requests.confidences(settings.auth)])
        accepts = requests.statuses([*range(200, 300), *settings.accept], "accept")
        request = requests.outgoing(
            method=settings.method,
            url=settings.url,
            params=settings.params,
            headers=settings.headers,
            auth=settings.auth,
            body=settings.body,
            idempotency_key=context.idempotency_key,
            secrets=known,
        )
        seconds = micros(settings.timeout, "http.timeout") / 1_000_000
        wire = sending.Wire(
            allow=self._allowed() if settings.allow_private else None,
            redirects=settings.redirects,
            max_bytes=settings.max_bytes,
            seconds=seconds * 2,  # the whole exchange is bounded below, and says so
            accepts=accepts,
        )
        place = redactor.text(f"{settings.method} {sending.said(sending.parsed(request.url))}")
        try:
            async with asyncio.timeout(seconds):
                answer = await sending.exchange(request, wire)
        except TimeoutError:
            raise HttpTimedOut(f"{place}: no whole answer within {settings.timeout} (http.timeout)") from None
        except HttpError as error:
            raise HttpError(f"{place}: {redactor.text(str(error))}", status=error.status) from None
        except HttpRefused as error:
            raise HttpRefused(f"{place}: {redactor.text(str(error))}") from None
        except HttpNoAnswer as error:
            raise HttpNoAnswer(f"{place}: {redactor.text(str(error))}") from None
        if answer.status not in accepts:
            raise failed(answer, place, redactor, answer.status in requests.statuses(settings.retry_on, "retry_on"))
        return _output(answer, settings.response, redactor, place)

    def _allowed(self) -> AllowList:
        """Which private addresses may be asked; looked up at each request, as proxies are by other programs."""
        return self._allow if self._allow is not None else read_allow_list(os.environ.get(VARIABLE, ""))


def _output(
    answer: sending.Incoming, wanted: Literal["auto", "json", "text", "base64"], redactor: Redactor, place: str
) -> dict[str, Any]:  # Any: JSON
    content = redactor.raw(answer.content)
    try:
        body, form = bodies.parse(content, answer.header("content-type"), wanted)
    except bodies.BadBody as error:
        text = f"{place}: answered {answer.status}, but {redactor.text(str(error))}"
        raise HttpError(text, status=answer.status, body=bodies.excerpt(content)) from None
    return {
        "status": answer.status,
        "headers": redactor.json(shown_headers(answer)),
        "body": redactor.json(body) if form != "base64" else body,
        "format": form,
        "url": redactor.text(answer.url),
    }


TYPE = HttpNode()
