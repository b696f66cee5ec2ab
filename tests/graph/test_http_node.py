"""The http node against a real server: requests, answers, failures, limits, and addresses that may not be asked."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ipaddress
import json
import socket
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from http_server import Site, answer, site

from stepwell.app import Stepwell
from stepwell.authoring.graph import graph_workflow
from stepwell.errors import DefinitionError
from stepwell.nodes.http import HttpNode
from stepwell.nodes.parts import settings as reading
from stepwell.nodes.parts.addresses import is_public, read_allow_list
from stepwell.nodes.parts.errors import HttpError, HttpNoAnswer, HttpRefused, HttpTimedOut, NodeFailed
from stepwell.nodes.registry import NodeTypes

TOKEN = 'tok"en/with+odd=signs'


class Context:
    """What an action of these tests sees of its run."""

    def __init__(self, **secrets: str) -> None:
        self.secrets: Mapping[str, str] = secrets
        self.answers: Mapping[str, object] = {}
        self.state: object = None
        self.idempotency_key = "r1:ordér#1"


@pytest.fixture
def shop() -> Iterator[Site]:
    with site() as found:
        yield found


NODE = HttpNode(read_allow_list("127.0.0.1, localhost"))


def ask(url: str, context: Context | None = None, node: HttpNode = NODE, **settings: Any) -> dict[str, Any]:
    made = reading.read(node, {"url": url, "allow_private": True, **settings})
    found = asyncio.run(node.run(made, context or Context()))  # type: ignore[arg-type]  # all that this type asks for
    assert isinstance(found, dict)
    return found


def refusal(url: str, context: Context | None = None, node: HttpNode = NODE, **settings: Any) -> NodeFailed:
    with pytest.raises(NodeFailed) as caught:
        ask(url, context, node, **settings)
    return caught.value


# -- requests -------------------------------------------------------------------------------------------------------


def test_a_request_is_sent_and_its_json_answered(shop: Site) -> None:
    shop.answers["/p"] = answer(200, b'{"total": 2}', content_type="application/json; charset=utf-8", x_one="1")
    found = ask(f"{shop.url}/p?a=1", params={"b": [1, True], "c": "ü &", "d": None})
    assert found["status"] == 200
    assert (found["body"], found["format"]) == ({"total": 2}, "json")
    assert found["headers"]["x-one"] == "1"
    assert found["url"] == f"{shop.url}/p?a=1&b=1&b=true&c=%C3%BC+%26"
    (seen,) = shop.seen
    assert (seen.method, seen.path) == ("GET", "/p?a=1&b=1&b=true&c=%C3%BC+%26")
    assert seen.headers["Host"] == f"127.0.0.1:{shop.port}"
    assert "Idempotency-Key" not in seen.headers


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ({"json": {"a": [1, None, "é"]}}, '{"a":[1,null,"é"]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"text": "hé"}, "hé".encode(), "text/plain; charset=utf-8"),
        ({"form": {"a": 1, "b": ["x y", "&"]}}, b"a=1&b=x+y&b=%26", "application/x-www-form-urlencoded"),
        ({"base64": "AAH/"}, b"\x00\x01\xff", "application/octet-stream"),
    ],
)
def test_a_body_is_sent_in_each_form(shop: Site, body: dict[str, Any], sent: bytes, content_type: str) -> None:
    shop.answers["/"] = answer(201)
    assert ask(shop.url + "/", method="POST", body=body)["status"] == 201
    (seen,) = shop.seen
    assert (seen.body, seen.headers["Content-Type"]) == (sent, content_type)


def test_what_changes_the_world_carries_the_step_s_idempotency_key(shop: Site) -> None:
    shop.answers["/"] = answer()
    ask(shop.url, method="PUT", body={"text": "x"})
    ask(shop.url, method="DELETE", headers={"idempotency-key": "mine"})
    context = Context()
    context.idempotency_key = "k" * 300
    ask(shop.url, context, method="POST")
    keys = [{k.lower(): v for k, v in one.headers.items()}["idempotency-key"] for one in shop.seen]
    assert keys[:2] == ["r1:ord%C3%A9r#1", "mine"]
    assert len(keys[2]) == 32


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"bearer": "abcd"}, "Authorization", "Bearer abcd"),
        ({"basic": {"username": "ann", "password": "pä:ss"}}, "Authorization", "Basic YW5uOnDDpDpzcw=="),
        ({"api_key": {"value": "k1234"}}, "X-API-Key", "k1234"),
        ({"api_key": {"value": "k1234", "header": "X-Mine"}}, "X-Mine", "k1234"),
    ],
)
def test_the_request_says_who_sends_it(shop: Site, auth: dict[str, Any], name: str, value: str) -> None:
    shop.answers["/"] = answer()
    ask(shop.url, auth=auth)
    assert shop.seen[0].headers[name] == value


def test_headers_are_sent_and_their_defaults_replaced(shop: Site) -> None:
    shop.answers["/"] = answer()
    ask(shop.url, headers={"user-agent": "mine", "X-Count": 3, "Accept": "text/csv"})
    seen = {name.lower(): value for name, value in shop.seen[0].headers.items()}
    assert (seen["user-agent"], seen["x-count"], seen["accept"]) == ("mine", "3", "text/csv")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"headers": {"X-A": "one\r\nX-B: two"}}, "line break"),
        ({"headers": {"X A": "one"}}, "no name of a header"),
        ({"headers": {"Host": "other"}}, "cannot be set"),
        ({"headers": {"X-A": "日"}}, "characters that headers cannot have"),
        ({"headers": {"authorization": "x"}, "auth": {"bearer": "y"}}, "in `headers` too"),
        ({"auth": {}}, "give one of bearer, basic and api_key"),
        ({"auth": {"basic": {"username": "a:b", "password": "p"}}}, "no colon"),
        ({"auth": {"bearer": "one\ntwo"}}, "line break"),
        ({"method": "POST", "body": {"base64": "?"}}, "no Base64"),
        ({"method": "POST", "body": {"text": "a", "json": 1}}, "one of json, text, form and base64"),
        ({"accept": [99]}, "no status"),
        ({"accept": ["6xx"]}, "no status"),
    ],
)
def test_what_cannot_be_sent_is_refused(shop: Site, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        ask(shop.url, **settings)
    assert not shop.seen


# -- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "wanted", "result", "form"),
    [
        ("application/json", b"[1]", "auto", [1], "json"),
        ("application/problem+json", b'"x"', "auto", "x", "json"),
        ("application/json", b"\xef\xbb\xbf{}", "auto", {}, "json"),
        ("application/json", b"", "auto", None, "text"),
        ("application/json", b"[1]", "text", "[1]", "text"),
        ("text/plain", b"[1]", "json", [1], "json"),
        ("text/html; charset=iso-8859-1", b"caf\xe9", "auto", "café", "text"),
        ("application/xml", "<é/>".encode(), "auto", "<é/>", "text"),
        ("image/png", b"\x89PNG", "auto", "iVBORw==", "base64"),
        ("text/plain", b"abc", "base64", "YWJj", "base64"),
        ("", b"plain", "auto", "plain", "text"),
        ("", b"\xff\x00", "auto", "/wA=", "base64"),
        ("", b"", "text", "", "text"),
    ],
)
def test_a_body_is_read_as_its_type_says(
    shop: Site, content_type: str, body: bytes, wanted: str, result: object, form: str
) -> None:
    shop.answers["/"] = answer(200, body, **({"content_type": content_type} if content_type else {}))
    found = ask(shop.url, response=wanted)
    assert (found["body"], found["format"]) == (result, form)


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b"<html>", "no JSON"),
        ("application/json", b'{"a": NaN}', "no JSON"),
        ("application/json", b"[" * 100_000, "no JSON"),
        ("application/json", b'"\xff"', "not the text"),
        ("text/plain; charset=utf-8", b"caf\xe9", "not the text"),
        ("text/plain; charset=klingon", b"qapla", "nobody here can read"),
        ("text/plain; charset=unicode_escape", b"\\ud800", "not the text"),
        ("text/plain; charset=hex", b"6161", "nobody here can read"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_an_error(shop: Site, content_type: str, body: bytes, said: str) -> None:
    shop.answers["/"] = answer(200, body, content_type=content_type)
    error = refusal(shop.url)
    assert isinstance(error, HttpError)
    assert said in str(error)
    assert error.status == 200
    assert not error.retryable


@pytest.mark.parametrize("packing", ["gzip", "deflate", "raw"])
def test_a_packed_body_is_unpacked(shop: Site, packing: str) -> None:
    raw = zlib.compressobj(wbits=-15)
    text = b"hello " * 1000
    packed = {"gzip": gzip.compress(text), "deflate": zlib.compress(text), "raw": raw.compress(text) + raw.flush()}
    name = "gzip" if packing == "gzip" else "deflate"
    shop.answers["/"] = answer(200, packed[packing], content_type="text/plain", content_encoding=name)
    assert ask(shop.url)["body"] == text.decode()


def test_a_body_that_is_packed_badly_or_otherwise_is_an_error(shop: Site) -> None:
    shop.answers["/"] = answer(200, b"no gzip at all", content_encoding="gzip")
    shop.answers["/br"] = answer(200, b"brotli", content_encoding="br")
    assert "no gzip" in str(refusal(shop.url))
    assert "'br', which was not asked for" in str(refusal(f"{shop.url}/br"))


def test_cookies_are_a_list_and_other_headers_are_joined(shop: Site) -> None:
    def send(handler: Any) -> None:
        handler.send_response(204)
        for name, value in (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Vary", "x"), ("Vary", "y")):
            handler.send_header(name, value)
        handler.end_headers()

    shop.answers["/"] = send
    found = ask(shop.url)
    assert found["headers"]["set-cookie"] == ["a=1", "b=2"]
    assert found["headers"]["vary"] == "x, y"
    assert found["body"] is None


# -- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (404, False), (429, True), (500, True), (503, True)])
def test_a_status_of_failure_fails_and_says_whether_to_try_again(shop: Site, status: int, retryable: bool) -> None:
    shop.answers["/p"] = answer(status, b"because", x_trace="t1")
    error = refusal(f"{shop.url}/p?q=private")
    assert isinstance(error, HttpError)
    assert str(error).startswith(f"GET {shop.url}/p?…: answered {status} ")
    assert str(error).endswith("because")
    assert (error.status, error.body, error.retryable) == (status, "because", retryable)
    assert error.headers["x-trace"] == "t1"
    assert error.failure().retryable is retryable


def test_what_is_accepted_and_what_is_worth_another_attempt_can_be_said(shop: Site) -> None:
    shop.answers["/missing"] = answer(404, b'{"why": "gone"}', content_type="application/json")
    shop.answers["/busy"] = answer(503)
    shop.answers["/odd"] = answer(409)
    assert ask(f"{shop.url}/missing", accept=["4xx"])["body"] == {"why": "gone"}
    assert not refusal(f"{shop.url}/busy", retry_on=[]).retryable
    assert refusal(f"{shop.url}/odd", retry_on=[409, "5xx"]).retryable


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("7", "", 7),
        ("Fri, 20 Nov 2026 12:00:30 GMT", "Fri, 20 Nov 2026 12:00:00 GMT", 30),
        ("Fri, 20 Nov 2026 11:00:00 GMT", "Fri, 20 Nov 2026 12:00:00 GMT", 0),
        ("soon", "", None),
        ("9" * 40, "", 24 * 3600),
    ],
)
def test_the_server_may_say_when_to_try_again(shop: Site, value: str, date: str, seconds: float | None) -> None:
    def send(handler: Any) -> None:
        handler.send_response_only(503)
        handler.send_header("Retry-After", value)
        handler.send_header("Content-Length", "0")
        if date:
            handler.send_header("Date", date)
        handler.end_headers()

    shop.answers["/"] = send
    assert refusal(shop.url).retry_after == seconds


def test_nobody_at_home_is_worth_another_attempt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = refusal(f"http://127.0.0.1:{port}/")
    assert isinstance(error, HttpNoAnswer)
    assert error.retryable
    assert "no connection to 127.0.0.1 at 127.0.0.1" in str(error)


def test_a_name_that_does_not_resolve_is_worth_another_attempt() -> None:
    error = refusal("http://nobody.invalid/")
    assert isinstance(error, HttpNoAnswer)
    assert "cannot be resolved" in str(error)


def test_a_connection_that_breaks_is_worth_another_attempt(shop: Site) -> None:
    shop.answers["/"] = answer(200, b"half", content_length="100")
    error = refusal(shop.url)
    assert isinstance(error, HttpNoAnswer)
    assert error.retryable
    assert "broke" in str(error)


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_server_that_takes_its_time_is_left(shop: Site, where: str) -> None:
    def send(handler: Any) -> None:
        if where == "body":
            answer(200, b"h", content_length="2", content_type="text/plain")(handler)
            handler.wfile.flush()
        shop.let_go.wait(20)

    shop.answers["/"] = send
    error = refusal(shop.url, timeout="100ms")
    assert isinstance(error, HttpTimedOut)
    assert error.retryable
    assert error.failure().timed_out
    assert "TimeoutError" in error.failure().kinds


# -- limits ---------------------------------------------------------------------------------------------------------


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(shop: Site) -> None:
    shop.answers["/"] = answer(200, b"x" * 1000, content_type="text/plain")
    assert len(ask(shop.url, max_bytes=1000)["body"]) == 1000
    error = refusal(shop.url, max_bytes=999)
    assert "more than 999 bytes (max_bytes)" in str(error)
    assert not error.retryable


def test_an_endless_body_is_not_read_to_its_end(shop: Site) -> None:
    sent = 0

    def send(handler: Any) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while not shop.let_go.is_set():
            sent += handler.wfile.write(b"x" * 65536)

    shop.answers["/"] = send
    assert "more than 100,000 bytes" in str(refusal(shop.url, max_bytes=100_000))


def test_a_bomb_is_not_unpacked(shop: Site) -> None:
    bomb = gzip.compress(bytes(50_000_000), 9)
    shop.answers["/"] = answer(200, bomb, content_encoding="gzip")
    assert "more than 1,000,000 bytes" in str(refusal(shop.url, max_bytes=1_000_000))


def test_a_failure_s_body_is_read_only_to_be_shown(shop: Site) -> None:
    shop.answers["/"] = answer(400, b"long " * 100_000)
    error = refusal(shop.url)
    assert isinstance(error, HttpError)
    assert error.status == 400
    assert len(str(error)) < 1000


# -- redirects ------------------------------------------------------------------------------------------------------


def test_redirects_are_followed(shop: Site) -> None:
    shop.answers["/a"] = answer(302, location="/b?x=1")
    shop.answers["/b"] = answer(301, location=f"{shop.url}/c#part")
    shop.answers["/c"] = answer(200, b"there", content_type="text/plain")
    found = ask(f"{shop.url}/a")
    assert (found["body"], found["url"]) == ("there", f"{shop.url}/c")


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [(301, "POST", "GET", b""), (302, "PUT", "PUT", b"x"), (303, "PUT", "GET", b""), (307, "POST", "POST", b"x")],
)
def test_a_redirect_keeps_or_changes_the_method(shop: Site, status: int, method: str, then: str, body: bytes) -> None:
    shop.answers["/a"] = answer(status, location="/b")
    shop.answers["/b"] = answer()
    ask(f"{shop.url}/a", method=method, body={"text": "x"})
    last = shop.seen[-1]
    assert (last.method, last.body) == (then, body)
    assert ("Content-Type" in last.headers) is bool(body)


def test_too_many_redirects_are_refused(shop: Site) -> None:
    shop.answers["/a"] = answer(302, location="/a")
    error = refusal(f"{shop.url}/a")
    assert isinstance(error, HttpRefused)
    assert "more than 10 times" in str(error)
    assert len(shop.seen) == 11


def test_without_redirects_a_redirect_is_an_answer(shop: Site) -> None:
    shop.answers["/a"] = answer(302, location="/b")
    assert ask(f"{shop.url}/a", redirects=0, accept=[302])["headers"]["location"] == "/b"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://10.0.0.1/", "10.0.0.1"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://[::1]/", "not public"),
        ("//192.168.0.1/x", "192.168.0.1"),
        ("http://2130706433/", "read in different ways"),
        ("file:///etc/passwd", "only http:// and https://"),
        ("http://ann:pw@127.0.0.1/", "user name or password"),
        ("http://exa\x7fmple/", "redirected"),
    ],
)
def test_every_redirect_is_looked_at_again(shop: Site, location: str, said: str) -> None:
    shop.answers["/a"] = answer(302, location=location)
    error = refusal(f"{shop.url}/a")
    assert isinstance(error, HttpRefused)
    assert said in str(error)
    assert not error.retryable


def test_another_origin_does_not_see_who_asks(shop: Site) -> None:
    with site() as other:
        shop.answers["/here"] = answer(302, location="/there")
        shop.answers["/there"] = answer(302, location=f"{other.url}/")
        other.answers["/"] = answer()
        headers = {"Cookie": "c=1", "X-Custom": "prefix " + "tok-en-42", "X-Plain": "seen"}
        ask(f"{shop.url}/here", Context(A="tok-en-42"), headers=headers, auth={"bearer": "tok-en-43"})
        assert shop.seen[1].headers["Authorization"] == "Bearer tok-en-43"
        assert not {"Authorization", "Cookie", "X-Custom"} & set(other.seen[0].headers)
        assert other.seen[0].headers["X-Plain"] == "seen"


# -- addresses ------------------------------------------------------------------------------------------------------


PRIVATE = """
    http://127.0.0.1/ http://localhost/ http://LOCALHOST./ http://127.1/ http://2130706433/ http://0x7f000001/ http://0/
    http://0.0.0.0/ http://[::]/ http://[::1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://10.1.2.3/
    http://172.16.0.1/ http://192.168.1.1/ http://169.254.169.254/latest http://100.64.0.1/ http://224.0.0.1/
    http://255.255.255.255/ http://[fe80::1]/ http://[fc00::1]/ http://[ff02::1]/ http://[64:ff9b::7f00:1]/
    http://[2002:7f00:1::]/ http://[::127.0.0.1]/ http://192.0.2.1/ http://198.18.0.1/ http://240.0.0.1/
    http://[fd00:ec2::254]/ http://[2001:db8::1]/
""".split()  # noqa: SIM905  # a list of 30 is read more easily so


@pytest.mark.parametrize("url", PRIVATE)
def test_an_address_that_is_not_public_is_not_asked(url: str) -> None:
    for allow_private in (False, True):
        error = refusal(url, node=HttpNode(read_allow_list("")), allow_private=allow_private)
        assert isinstance(error, HttpRefused)
        assert not error.retryable


@pytest.mark.parametrize("url", ["http://0177.0.0.1/", "http://１２７.0.0.1/", "http://127.0.0.1.1/", "http://[::1"])
def test_a_host_in_an_odd_form_is_not_asked(url: str) -> None:
    assert isinstance(refusal(url), HttpRefused)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/", "only http:// and https://"),
        ("example.com/x", "only http:// and https://"),
        ("http:///x", "no host"),
        ("http://ann:open-sesame@example.com/", "user name or password"),
        ("http://example.com/\r\nX: y", "the URL is none"),
        ("http://example.com/" + "x" * 70_000, "characters"),
        ("", "no scheme"),
    ],
)
def test_a_url_that_is_none_to_ask_is_refused(url: str, said: str) -> None:
    error = refusal(url)
    assert isinstance(error, HttpRefused)
    assert said in str(error)
    assert "sesame" not in str(error)


def test_both_the_node_and_the_machine_must_allow_a_private_address(shop: Site, monkeypatch: Any) -> None:
    shop.answers["/"] = answer()
    node = HttpNode()
    monkeypatch.delenv("STEPWELL_HTTP_ALLOW", raising=False)
    assert "name it in STEPWELL_HTTP_ALLOW" in str(refusal(shop.url, node=node))
    monkeypatch.setenv("STEPWELL_HTTP_ALLOW", "intranet.example, 127.0.0.0/8")
    assert "set allow_private: true" in str(refusal(shop.url, node=node, allow_private=False))
    assert ask(shop.url, node=node)["status"] == 200
    monkeypatch.setenv("STEPWELL_HTTP_ALLOW", "10.0.0.0/33")
    with pytest.raises(DefinitionError, match=r"STEPWELL_HTTP_ALLOW: '10\.0\.0\.0/33'"):
        ask(shop.url, node=node)
    assert len(shop.seen) == 1


def test_a_host_is_allowed_by_its_name(shop: Site) -> None:
    shop.answers["/"] = answer()
    by_name = HttpNode(read_allow_list("localhost"))
    assert ask(f"http://localhost:{shop.port}/", node=by_name)["status"] == 200
    assert isinstance(refusal(shop.url, node=by_name), HttpRefused)


def test_the_connection_is_made_to_the_address_that_was_looked_at(shop: Site, monkeypatch: Any) -> None:
    """A name whose answers change between looking and connecting gains nothing: it is resolved once a hop."""
    shop.answers["/"] = answer()
    asked: list[str] = []
    real = socket.getaddrinfo

    def changing(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "rebound.example":
            return real(host, *args, **kwargs)
        asked.append(name)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, shop.port))]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    found = ask(f"http://rebound.example:{shop.port}/", node=HttpNode(read_allow_list("127.0.0.1/32")))
    assert found["status"] == 200
    assert shop.seen[0].headers["Host"] == f"rebound.example:{shop.port}"
    assert asked == ["rebound.example"]
    assert "127.0.0.2" in str(
        refusal(f"http://rebound.example:{shop.port}/", node=HttpNode(read_allow_list("127.0.0.1")))
    )


def test_only_the_public_ones_of_several_addresses_are_asked(shop: Site, monkeypatch: Any) -> None:
    shop.answers["/"] = answer()
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in ("10.0.0.1", "127.0.0.9", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: entries)
    allow = HttpNode(read_allow_list("127.0.0.9, 127.0.0.1"))
    assert ask(f"http://several.example:{shop.port}/", node=allow)["status"] == 200  # nobody listens at the first


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_what_everybody_can_reach_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


# -- secrets --------------------------------------------------------------------------------------------------------


def test_no_secret_is_read_in_an_output(shop: Site) -> None:
    def echo(handler: Any) -> None:
        token = handler.headers["Authorization"].removeprefix("Bearer ")
        body = json.dumps({"you": f"said {token}", token: [token], "url": handler.path})
        answer(200, body.encode(), content_type="application/json", x_echo=token)(handler)

    shop.answers["/"] = echo
    found = ask(f"{shop.url}/", Context(T=TOKEN), auth={"bearer": TOKEN}, params={"t": TOKEN})
    assert found["body"] == {"you": "said ***", "***": ["***"], "url": "/?t=***"}
    assert found["headers"]["x-echo"] == "***"
    assert found["url"] == f"{shop.url}/?t=***"


def test_no_secret_is_read_in_bytes_and_errors(shop: Site) -> None:
    def echo(status: int) -> Any:
        def send(handler: Any) -> None:
            answer(status, b"<" + handler.headers["Authorization"].encode() + b">", content_type="x/y")(handler)

        return send

    shop.answers["/ok"] = echo(200)
    shop.answers["/no"] = echo(403)
    auth = {"basic": {"username": "ann", "password": "open sesame"}}
    found = ask(f"{shop.url}/ok", auth=auth)
    assert base64.b64decode(found["body"]).startswith(b"<Basic ***")
    error = refusal(f"{shop.url}/no", auth=auth)
    assert isinstance(error, HttpError)
    assert base64.b64encode(b"ann:open sesame").decode().rstrip("=") not in f"{error} {error.body} {error.details}"


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"url": "https://a.example", "auth": {"bearer": "written out"}}, {"auth.bearer"}),
        ({"url": "https://a.example", "auth": {"bearer": "{{ secret.T }}"}}, set()),
        ({"url": "https://a.example", "auth": {"basic": {"username": "a", "password": "b"}}}, {"auth.basic.password"}),
        ({"url": "https://a.example", "auth": {"api_key": {"value": "k"}}}, {"auth.api_key.value"}),
        ({"url": "https://a.example", "auth": {}}, {"auth"}),
        ({"url": "a.example"}, {"url"}),
        ({"url": "{{ input.url }}", "retry_on": ["{{ a }}"]}, set()),
        ({"url": "https://a.example", "accept": ["9xx"], "timeout": "soon"}, {"accept", "timeout"}),
        ({"url": "https://a.example", "body": {"json": 1}}, {"body"}),
        ({"url": "https://a.example", "method": "POST", "body": {"json": 1, "text": "x"}}, {"body"}),
    ],
)
def test_what_is_known_before_the_run_is_checked(settings: dict[str, Any], places: set[str]) -> None:
    said: dict[str, str] = {}
    HttpNode().check(settings, said.__setitem__)
    assert set(said) == places


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(DefinitionError, match=r"pip install 'stepwell\[http\]'"):
        ask("http://127.0.0.1/")


# -- in a run -------------------------------------------------------------------------------------------------------


def run_graph(definition: dict[str, Any]) -> tuple[object, list[bytes]]:
    """A run of a graph in a store in memory: its result, and its journal as JSON."""

    async def running() -> tuple[object, list[bytes]]:
        types = NodeTypes.standard()
        types.add(NODE)
        async with Stepwell("memory://", node_types=types) as app:
            run = await app.start(graph_workflow({"stepwell": 1, "id": "asks", **definition}, types=types), {})
            result = await run.result()
            return result, [msgspec.json.encode(one.entry) for one in await app.entries(run.id)]

    return asyncio.run(running())


def test_a_run_keeps_no_secret_and_gives_attempts_one_idempotency_key(shop: Site, monkeypatch: Any) -> None:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)

    def busy_once(handler: Any) -> None:
        status = 503 if len(shop.seen) == 1 else 200
        body = json.dumps({"asked": handler.path, "token": handler.headers["X-Token"]}).encode()
        answer(status, body, content_type="application/json", retry_after="0")(handler)

    shop.answers["/orders"] = busy_once
    ordering = {
        "url": f"{shop.url}/orders",
        "method": "POST",
        "headers": {"X-Token": "{{ secret.SHOP_TOKEN }}"},
        "params": {"t": "{{ secret.SHOP_TOKEN }}"},
        "allow_private": True,
    }
    order = {"http": ordering, "retry": {"attempts": 3, "first": "1ms"}}
    result, journal = run_graph({"secrets": ["SHOP_TOKEN"], "nodes": {"order": order}, "result": "{{ order.body }}"})
    assert result == {"asked": "/orders?t=***", "token": "***"}
    assert [one.headers["X-Token"] for one in shop.seen] == [TOKEN, TOKEN]
    assert len({one.headers["Idempotency-Key"] for one in shop.seen}) == 1
    assert any(b"503" in one for one in journal)
    assert not [one for one in journal if b"odd=signs" in one or b"odd%3Dsigns" in one]


def test_a_catch_sees_what_the_server_said(shop: Site) -> None:
    shop.answers["/"] = answer(409, b"taken")
    ask_it = {"http": {"url": f"{shop.url}/", "allow_private": True}, "retry": 3}
    told = {"transform": {"value": "{{ error.details.status }}: {{ error.details.body }}"}}
    caught = {"try": {"do": {"ask": ask_it}, "catch": [{"errors": ["HttpError"], "do": {"told": told}}]}}
    result, _ = run_graph({"nodes": {"caught": caught}, "result": "{{ caught }}"})
    assert result == "409: taken"
    assert len(shop.seen) == 1
