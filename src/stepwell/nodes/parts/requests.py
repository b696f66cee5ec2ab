"""How is an HTTP request made of a node's settings: query, headers, authorisation, body?"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from stepwell.errors import DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.model.codec import content_hash
from stepwell.nodes.parts.sending import Outgoing, parsed

Scalar: TypeAlias = str | int | float | bool | None

SAFE: Final = ("GET", "HEAD", "OPTIONS")
OWN_HEADERS: Final = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer")
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
LONGEST_KEY: Final = 255

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CLASS = re.compile(r"([1-5])xx", re.IGNORECASE)


class Basic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user name and a password.

    Attributes:
        username: without a colon.
        password: write it as `{{ secret.NAME }}`.
    """

    username: str
    password: str


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key in a header of the server's choice.

    Attributes:
        value: write it as `{{ secret.NAME }}`.
        header: the header's name.
    """

    value: str
    header: str = "X-API-Key"


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the request shows who sends it: one of the three.

    Attributes:
        bearer: a token, sent as `Authorization: Bearer …`.
        basic: `{username, password}`.
        api_key: `{header, value}`.
    """

    bearer: str | None = None
    basic: Basic | None = None
    api_key: ApiKey | None = None


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the request carries: one of the four; a `Content-Type` header goes with it unless the node sets one.

    Attributes:
        json: any value, sent as JSON.
        text: a text, sent as UTF-8.
        form: names and values, sent as a form.
        base64: bytes, written as Base64, sent as they are.
    """

    json: Any = msgspec.UNSET  # Any: JSON
    text: str | None = None
    form: dict[str, Scalar | list[Scalar]] | None = None
    base64: str | None = None


def outgoing(
    *,
    method: str,
    url: str,
    params: Mapping[str, Scalar | list[Scalar]],
    headers: Mapping[str, str | int | float | bool],
    auth: Auth | None,
    body: Body | None,
    idempotency_key: str,
    secrets: Collection[str],
) -> Outgoing:
    """The request that the settings say. Headers that show who sends it, or hold a secret, are confidential.

    Raises:
        HttpRefused: the URL is none, or none that can be asked.
        DefinitionError: a header, the authorisation or the body cannot be sent so; no value of theirs is in the text.
    """
    target = parsed(url)
    pairs = _pairs(params)
    if pairs:
        query = urlencode(pairs)
        before = target.query.decode("ascii")
        target = target.copy_with(query=(f"{before}&{query}" if before else query).encode("ascii"))
    lines = {name: _text(value) for name, value in headers.items()}
    given = {name.lower() for name in lines}
    named = {name.lower() for name, value in lines.items() if any(one in value for one in secrets if one)}
    for name, value in _authorisation(auth).items():
        if name.lower() in given:
            raise DefinitionError(f"http.auth: the header {name!r} is in `headers` too; give it once")
        lines[name] = value
        named.add(name.lower())
    content, content_type = _content(body)
    if content_type and "content-type" not in given:
        lines["Content-Type"] = content_type
    if method not in SAFE and idempotency_key and IDEMPOTENCY_KEY.lower() not in given:
        lines[IDEMPOTENCY_KEY] = _key(idempotency_key)
    for name, value in lines.items():
        _check_header(name, value)
    defaults = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "stepwell"}
    whole = {**{name: one for name, one in defaults.items() if name.lower() not in given}, **lines}
    confidential = frozenset({"authorization", "cookie", "proxy-authorization", *named})
    return Outgoing(method=method, url=str(target), headers=whole, content=content, confidential=confidential)


def confidences(auth: Auth | None) -> Iterable[str]:
    """What in the authorisation must not be read by anybody else."""
    if auth is None:
        return
    if auth.bearer is not None:
        yield auth.bearer
    if auth.basic is not None:
        yield auth.basic.password
        yield f"{auth.basic.username}:{auth.basic.password}"
    if auth.api_key is not None:
        yield auth.api_key.value


def statuses(found: Iterable[int | str], place: str) -> frozenset[int]:
    """Statuses from numbers and classes (`5xx`).

    Raises:
        DefinitionError: one is neither; `place` is named.
    """
    taken: set[int] = set()
    for one in found:
        group = _CLASS.fullmatch(one) if isinstance(one, str) else None
        if group is not None:
            taken.update(range(int(group[1]) * 100, int(group[1]) * 100 + 100))
        elif (isinstance(one, int) and not isinstance(one, bool)) or (isinstance(one, str) and one.isdecimal()):
            if not 100 <= int(one) <= 599:
                raise DefinitionError(f"http.{place}: {one!r} is no status; they go from 100 to 599")
            taken.add(int(one))
        else:
            raise DefinitionError(
                f"http.{place}: {one!r} is no status; write one such as 404, or 4xx for all of a class"
            )
    return frozenset(taken)


def check_auth(auth: Any, say: Callable[[str, str], None]) -> None:  # Any: JSON
    """One way is given, and no secret is written out: a definition is stored, shown and compared."""
    if not isinstance(auth, dict):
        return
    ways = [name for name in ("bearer", "basic", "api_key") if auth.get(name) is not None]
    if len(ways) != 1:
        say("auth", f"found {' and '.join(ways) or 'none'}; give one of bearer, basic and api_key")
    for way, part in (("bearer", ""), ("basic", "password"), ("api_key", "value")):
        found = auth.get(way)
        value = found.get(part) if part and isinstance(found, dict) else None if part else found
        if isinstance(value, str) and not is_template(value):
            place = f"auth.{way}.{part}" if part else f"auth.{way}"
            say(place, "a secret is not written out: declare it under `secrets` and write {{ secret.NAME }}")


def check_body(settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
    """One kind of body is given, and the method takes one."""
    body = settings.get("body")
    if body is None:
        return
    if isinstance(body, dict):
        ways = [name for name in ("json", "text", "form", "base64") if name in body]
        if len(ways) != 1:
            say("body", f"found {' and '.join(ways) or 'none'}; give one of json, text, form and base64")
    if settings.get("method", "GET") in ("GET", "HEAD"):
        say("body", f"a {settings.get('method', 'GET')} request has no body; set `method: POST`, or use `params`")


def _pairs(values: Mapping[str, Scalar | list[Scalar]]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in values.items():
        pairs += [(name, _text(one)) for one in (value if isinstance(value, list) else [value]) if one is not None]
    return pairs


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _authorisation(auth: Auth | None) -> dict[str, str]:
    if auth is None:
        return {}
    if sum(one is not None for one in (auth.bearer, auth.basic, auth.api_key)) != 1:
        raise DefinitionError("http.auth: give one of bearer, basic and api_key")
    if auth.basic is not None:
        if ":" in auth.basic.username:
            raise DefinitionError("http.auth.basic.username: a user name has no colon")
        pair = f"{auth.basic.username}:{auth.basic.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    if auth.api_key is not None:
        return {auth.api_key.header: auth.api_key.value}
    return {"Authorization": f"Bearer {auth.bearer}"}


def _content(body: Body | None) -> tuple[bytes, str]:
    """The bytes, and their content type."""
    if body is None:
        return b"", ""
    given = [body.json is not msgspec.UNSET, body.text is not None, body.form is not None, body.base64 is not None]
    if sum(given) != 1:
        raise DefinitionError("http.body: give one of json, text, form and base64")
    if body.text is not None:
        return body.text.encode(), "text/plain; charset=utf-8"
    if body.form is not None:
        return urlencode(_pairs(body.form)).encode(), "application/x-www-form-urlencoded"
    if body.base64 is not None:
        try:
            return base64.b64decode(body.base64, validate=True), "application/octet-stream"
        except (binascii.Error, ValueError) as error:
            raise DefinitionError(f"http.body.base64: it is no Base64: {error}") from None
    return msgspec.json.encode(body.json), "application/json"


def _key(key: str) -> str:
    """The key as a header's value: paths may have characters that headers cannot."""
    safe = quote(key, safe="!#$&'()*+,/:;=?@[]._~-")
    return safe if len(safe) <= LONGEST_KEY else content_hash(key.encode())


def _check_header(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise DefinitionError(f"http.headers: {name[:80]!r} is no name of a header; use letters, digits and '-'")
    if name.lower() in OWN_HEADERS:
        raise DefinitionError(f"http.headers: {name!r} cannot be set: it follows from the URL and the body")
    if any(ord(one) < 32 and one != "\t" for one in value) or "\x7f" in value or value != value.strip():
        raise DefinitionError(
            f"http.headers: the value of {name!r} has a line break, another control character, or blanks around it"
        )
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise DefinitionError(f"http.headers: the value of {name!r} has characters that headers cannot have") from None
