"""Texts become data with places, or are refused before they can do harm."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from stepwell.graph import yamltext
from stepwell.graph.places import Lines, Places, segment
from stepwell.graph.problems import Findings, Problem
from stepwell.graph.reading import SIZE, Document, Format, ReadingLimits, document_of, read, read_file


def good(text: str | bytes, format: Format = "auto") -> Document:
    findings = Findings()
    document = read(text, findings, format=format)
    assert document is not None, findings.problems
    assert not findings.problems
    return document


def bad(text: str | bytes, format: Format = "auto", limits: ReadingLimits | None = None) -> Problem:
    findings = Findings()
    given = {} if limits is None else {"limits": limits}
    assert read(text, findings, format=format, **given) is None
    (problem,) = findings.problems
    return problem


def at(problem: Problem) -> tuple[int, int, str]:
    return problem.place.line, problem.place.column, problem.place.path


OTHERWISE = """
yes no on off Yes NO y n 2026-11-20 2026-11-20T08:00:00Z 012 0o17 0x1f 0b1 1_000 12:30 1:2:3 +-1 1.2.3 = v1 .
"""


@pytest.mark.parametrize("word", OTHERWISE.split())
def test_what_older_yaml_takes_for_something_else_is_text(word: str) -> None:
    assert good(f"a: {word}\n").data == {"a": word}
    assert good(f"{word}: a\n").data == {word: "a"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *[("", None), ("~", None), ("null", None), ("true", True), ("False", False), ("0", 0), ("-7", -7), ("+7", 7)],
        *[("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-3", -0.0015), ("'1'", "1"), ('"no"', "no")],
        *[("!!str 1", "1"), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)), ("0.1", 0.1)],
    ],
)
def test_plain_words_mean_what_json_means_by_them(word: str, value: object) -> None:
    found = good(f"a: {word}\n").data["a"]
    assert found == value and type(found) is type(value)


def test_yaml_and_json_of_the_same_data_are_read_alike() -> None:
    data: dict[str, Any] = {
        "a b": [1, -2.5, None, True, "ü\n\\/\"'"],
        "n": {"": {}, "x": [[], [{}]]},
        "😀": "\U0001f600",
    }
    assert good(json.dumps(data)).data == data
    assert good(json.dumps(data, ensure_ascii=False, indent=2)).data == data
    assert good("a b: [1, -2.5, null, true]\nn: {x: [[], [{}]]}\n").data == {
        "a b": [1, -2.5, None, True],
        "n": {"x": [[], [{}]]},
    }


@pytest.mark.parametrize("is_quick", [True, False])
def test_yaml_is_read_the_same_without_the_library_in_c(is_quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.setattr(yaml, "__with_libyaml__", is_quick and yaml.__with_libyaml__)
    document = good("é: [1, {b: no}]\r\nd: &x {e: 012}\nf: *x\n")
    assert document.data == {"é": [1, {"b": "no"}], "d": {"e": "012"}, "f": {"e": "012"}}
    assert str(document.places.of("é").of(1).of("b").place) == 'line 1, column 9, $["é"][1].b'
    assert str(document.places.of("f").place) == "line 3, column 1, $.f"
    assert at(bad("a: b: c\n"))[:2] == (1, 5)
    assert at(bad("ab: \x01\n"))[:2] == (1, 5)


def test_a_member_stands_where_its_key_does_and_an_item_where_it_begins() -> None:
    document = good("a:\n  b: 1\n  c d:\n    - x\n    - {y: 2}\n")
    places = document.places
    assert str(places.of("a").of("b").place) == "line 2, column 3, $.a.b"
    assert str(places.of("a").of("c d").of(1).of("y").place) == 'line 5, column 8, $.a["c d"][1].y'
    text = '{\n "a": {"b": 1,\n  "c d": ["x",\n {"y": 2}]}}'
    places = good(text).places
    assert str(places.of("a").of("b").place) == "line 2, column 8, $.a.b"
    assert str(places.of("a").of("c d").of(1).of("y").place) == 'line 4, column 3, $.a["c d"][1].y'


def test_what_is_not_there_stands_where_what_should_hold_it_does() -> None:
    places = good("a:\n  b: 1\n").places
    assert str(places.of("a").of("z").of("y").place) == "line 1, column 1, $.a.z.y"
    assert str(Places().of("a").of(2).place) == "$.a[2]"
    assert segment('odd "name"') == '["odd \\"name\\""]'


def test_lines_end_as_in_editors() -> None:
    assert [Lines("a\nb\r\nc\rd").at(offset) for offset in (0, 2, 5, 7)] == [(1, 1), (2, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", '{"a": 1,\n"b": 2,\n"a": {"c": 3}}'])
def test_a_key_given_twice_is_told_with_both_places_and_the_first_stays(text: str) -> None:
    findings = Findings()
    document = read(text, findings)
    assert document is not None and document.data == {"a": 1, "b": 2}
    (problem,) = findings.problems
    assert problem.code == "duplicate-key" and at(problem)[0] == 3
    assert "was already given at line 1" in problem.message


def test_very_many_keys_given_twice_end_the_reading() -> None:
    findings = Findings()
    assert read("a: 1\n" * 1000, findings) is None
    assert len(findings.problems) < 200


@pytest.mark.parametrize(
    ("text", "code", "place", "says"),
    [
        ("a: [.nan]", "not-finite", (1, 5, "$.a[0]"), ".nan is no number"),
        ("a: -.inf", "not-finite", (1, 4, "$.a"), "-.inf"),
        ("a: NaN", "not-finite", (1, 4, "$.a"), "NaN"),
        ('{"a": [1, -Infinity]}', "not-finite", (1, 11, "$.a[1]"), "-Infinity"),
        ("a: 9223372036854775808", "number-range", (1, 4, "$.a"), "beyond 64 bits"),
        ('{"a": 123456789012345678901234567890}', "number-range", (1, 7, "$.a"), "beyond 64 bits"),
        ("a: 1e999", "number-range", (1, 4, "$.a"), "beyond what a 64-bit float can hold"),
        ("a: 1e-999", "number-range", (1, 4, "$.a"), "would become 0"),
        ("a: 9007199254740993.0", "number-range", (1, 4, "$.a"), "would become 9007199254740992.0"),
        ("a: " + "1" * 100_000, "number-range", (1, 4, "$.a"), "(100,000 digits)"),
        ("1: a", "key-not-text", (1, 1, "$"), "found 1"),
        ("a: {true: b}", "key-not-text", (1, 5, "$.a"), "found true"),
        ("? [a]\n: b", "key-not-text", (1, 3, "$"), "found a list"),
        ("a: {{ input.x }}", "key-not-text", (1, 5, "$.a"), "found a mapping"),
        ('{"a": {1: 2}}', "key-not-text", (1, 8, "$.a"), "a key must be text"),
        ("a: !!python/object:os.system x", "tag", (1, 4, "$.a"), "!!python/object:os.system"),
        ("- !secret x", "tag", (1, 3, "$[0]"), "!secret"),
        ("a: !!binary aGk=", "tag", (1, 4, "$.a"), "!!binary"),
        ("a: !!int '3'", "tag", (1, 4, "$.a"), "!!int"),
        ("a: 1\n---\nb: 2\n", "several-documents", (2, 1, "$"), "a second document"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "merge-key", (3, 3, "$.c"), "merge keys"),
        ("a: *nothing", "alias", (1, 4, "$.a"), "&nothing"),
        ("a: &x [1, *x]", "alias", (1, 11, "$.a[1]"), "part of"),
        ("a: &x b\n*x : c", "key-not-text", (2, 1, "$"), "an alias"),
        ("a: 'b\nc", "syntax", (2, 2, "$.a"), "not YAML"),
        ("a:\n\tb: 1", "syntax", (2, 1, "$.a"), "cannot start any token"),
        ("a: [1, 2", "syntax", (1, 9, "$.a[2]"), "expected"),
        ("a: \x00", "syntax", (1, 4, "$"), "U+0000"),
        ("{'a': \x7f}", "syntax", (1, 7, "$"), "U+007F"),
        ('{"a": 1 "b": 2}', "syntax", (1, 9, "$.a"), "expected ',' or '}'"),
        ('{"a": [1, 2,]}', "syntax", (1, 13, "$.a[2]"), "expected a value, found ']'"),
        ('{"a": 1,}', "syntax", (1, 9, "$.a"), "expected a key in double quotes, found '}'"),
        ('{"a" 1}', "syntax", (1, 6, "$.a"), "expected ':'"),
        ('{"a": 01}', "syntax", (1, 7, "$.a"), "expected a value"),
        ('{"a": tru}', "syntax", (1, 7, "$.a"), "found 'tru}'"),
        ('{"a": "b\nc"}', "syntax", (1, 7, "$.a"), "expected a value"),
        ('{"a": "\\x"}', "syntax", (1, 7, "$.a"), "not JSON"),
        ('{"a": [1, 2}', "syntax", (1, 12, "$.a[2]"), "found '}'"),
        ('{"a": 1}\n{"b": 2}', "syntax", (2, 1, "$"), "expected nothing more"),
        ('{"a": {"b": 1', "syntax", (1, 14, "$.a.b"), "is not closed"),
        ('{"a": "\\ud800"}', "encoding", (1, 7, "$.a"), "half of a surrogate pair"),
        ('{"a": 1} // why', "syntax", (1, 10, "$"), "expected nothing more"),
    ],
)
def test_what_cannot_be_plain_data_is_refused_at_its_place(text: str, code: str, place: object, says: str) -> None:
    problem = bad(text)
    assert problem.code == code
    assert says in problem.message
    assert at(problem) == place


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_decoded_by_its_byte_order_mark(encoding: str) -> None:
    document = good("a: é\n".encode(encoding))
    assert document.data == {"a": "é"}
    assert str(document.places.of("a").place) == "line 1, column 1, $.a"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: 1\nb: \xff\n", "byte 8 (0xff) is not UTF-8"),
        (b"\xef\xbb\xbfa: \xc3(", "byte 6 (0xc3) is not UTF-8"),
        ("a: 1\n".encode("utf-16-le"), "no byte order mark"),
        (b"\xff\xfea\x00:\x00\x00\xd8", "not UTF-16-LE"),
    ],
)
def test_a_wrong_encoding_is_told_with_the_byte(content: bytes, says: str) -> None:
    problem = bad(content)
    assert problem.code == "encoding" and says in problem.message


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert bad("a: \ud800").code == "encoding"
    findings = Findings()
    assert document_of({"a": "\ud800"}, findings) is None
    assert findings.problems[0].code == "not-json"


def test_data_that_is_no_json_is_refused() -> None:
    deep: object = []
    for _ in range(400):
        deep = [deep]
    for data in ({1: 2}, {"a": float("nan")}, {"a": {1, 2}}, {"a": 10**5000}, {"a": [2**64]}, deep, object()):
        findings = Findings()
        assert document_of(data, findings) is None
        assert [problem.code for problem in findings.problems] == ["not-json"]
    document = document_of({"a": [1]}, Findings())
    assert document is not None and document.data == {"a": [1]}


def peak(text: str | bytes, **given: Any) -> int:
    """Bytes that are held at most while a text is read."""
    tracemalloc.start()
    try:
        read(text, Findings(), **given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


DEEP = {
    "brackets": "[" * 10_000,
    "braces in JSON": '{"a":' * 10_000,
    "braces in YAML": "{a: " * 10_000,
    "dashes": "- " * 10_000 + "x",
    "indentation": "".join(f"{' ' * level}a:\n" for level in range(3000)),
    "closed": "[" * 10_000 + "]" * 10_000,
}


@pytest.mark.parametrize("kind", DEEP)
def test_nesting_is_refused_without_going_down(kind: str) -> None:
    problem = bad(DEEP[kind])
    assert problem.code == "too-deep"
    assert problem.place.line == (101 if kind == "indentation" else 1)
    assert len(problem.place.path) <= 200
    assert peak(DEEP[kind]) < 12_000_000


def test_a_hundred_levels_are_read() -> None:
    for text in ("[" * 100 + "]" * 100, "{a: " * 99 + "{}" + "}" * 99):
        good(text)
    assert bad("x: " + "[" * 100 + "]" * 100).code == "too-deep"


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    problem = bad("\n".join(lines))
    assert problem.code == "too-many-values"
    assert peak("\n".join(lines)) < 1_000_000


def test_aliases_of_long_text_count_by_their_length() -> None:
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]\n"
    assert bad(text).code == "too-large"
    assert peak(text) < 10_000_000


def test_aliases_of_deep_values_count_by_their_depth() -> None:
    assert bad("a: &a " + "[" * 60 + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60).code == "too-deep"


def test_aliases_within_bounds_stand_for_what_they_name() -> None:
    text = "retry: &r {attempts: 3}\na: {retry: *r}\nb: [*r, *r]\nc: &t word\nd: *t\n"
    data = good(text).data
    assert data["a"] == {"retry": {"attempts": 3}} and data["b"] == [{"attempts": 3}] * 2 and data["d"] == "word"


@pytest.mark.parametrize("text", ["- 1\n" * 2000, json.dumps([1] * 2000), json.dumps({str(i): i for i in range(600)})])
def test_the_number_of_values_is_limited_while_they_are_read(text: str) -> None:
    problem = bad(text, limits=ReadingLimits(values=1000))
    assert problem.code == "too-many-values"
    assert "1,000" in problem.message


@pytest.mark.campaign
@pytest.mark.parametrize("format", ["yaml", "json"])
def test_a_million_nodes_are_refused_within_bounded_memory(format: Format) -> None:
    nodes = (f'"n{i}": {{"noop": null}}' for i in range(500_000))
    text = '{"nodes": {' + ",\n".join(nodes) + "}}"
    assert bad(text, format).code == "too-many-values"
    assert peak(text, format=format) < 400_000_000


def test_a_large_text_is_refused_unread() -> None:
    for text in ("a" * (SIZE + 1), b"a" * (SIZE + 1)):
        problem = bad(text)
        assert problem.code == "too-large" and "16,777,217" in problem.message


def test_a_large_file_is_refused_without_reading_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    findings = Findings()
    tracemalloc.start()
    try:
        assert read_file(path, findings) is None
        assert tracemalloc.get_traced_memory()[1] < 2.5 * SIZE
    finally:
        tracemalloc.stop()
    assert [problem.code for problem in findings.problems] == ["too-large"]
    assert "100,000,000 bytes" in findings.problems[0].message


def test_files_are_read_by_their_endings(tmp_path: Path) -> None:
    for name, text, data in (
        ("a.json", '{"a": 1}', {"a": 1}),
        ("a.yaml", '{"a": 1,}', {"a": 1}),
        ("a.txt", "a: 1", {"a": 1}),
    ):
        (tmp_path / name).write_text(text)
        document = read_file(tmp_path / name, Findings())
        assert document is not None and document.data == data and document.source.endswith(name)
    findings = Findings()
    (tmp_path / "b.json").write_text("a: 1")
    assert read_file(tmp_path / "b.json", findings) is None
    assert read_file(tmp_path / "none.yaml", findings) is None
    assert read_file(tmp_path, findings) is None
    assert [problem.code for problem in findings.problems] == ["syntax", "unreadable", "unreadable"]


def test_an_unclosed_text_of_many_escapes_takes_no_memory() -> None:
    text = '["' + "\\n" * 1_000_000
    assert bad(text).code == "syntax"
    assert peak(text) < 10_000_000


def test_words_that_any_reader_may_take_for_something_else_are_known() -> None:
    assert all(not yamltext.reads_as_text(word) for word in ("no", "On", "012", "1e3", "2026-11-20", "12:30", "~", ""))
    assert all(yamltext.reads_as_text(word) for word in ("north", "a", "noon", "x1", "v1.2", "{{ a }}"))
