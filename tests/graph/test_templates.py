"""Texts with `{{ templates }}`: what they come to, what they refer to, and how they are refused."""

from __future__ import annotations

import datetime
import json
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import DefinitionError, ExpressionError
from stepwell.expressions import parsing, templates
from stepwell.expressions.names import ChainNames, Failed, MappingNames, Reference
from stepwell.expressions.parsing import escaped
from stepwell.expressions.templates import compile_value

NAMES = MappingNames(
    {
        "input": {"shop": "Rüti & Söhne", "count": 3, "ratio": 2.0, "none": None, "open": True, "empty": "", "no": {}},
        "list": {"urls": ["a", "b", "c"], "url": "x", "total": 3, "odd name": {"k": [[1, 2]]}},
        "odd-root": 7,
        "nodes": {"odd id!": {"out": "yes"}},
    }
)

VALUES = [
    ("{{ input.shop }}", "Rüti & Söhne"),
    ("{{input.count}}", 3),
    ("{{ input.none }}", None),
    ("{{\n  list.urls\n}}", ["a", "b", "c"]),
    ("{{ list.urls[0] }}", "a"),
    ("{{ list.urls[-1] }}", "c"),
    ('{{ list["odd name"].k[0][1] }}', 2),
    ("{{ list['odd name']['k'] }}", [[1, 2]]),
    ("{{ odd-root }}", 7),
    ('{{ nodes["odd id!"].out }}', "yes"),
    ("{{ list . urls [ 1 ] }}", "b"),
    (" {{ input.count }}", " 3"),
    ("{{ input.count }}\n", "3\n"),
    ("{{ input.count }}{{ input.count }}", "33"),
    ("shop={{ input.shop }}, open={{ input.open }}", "shop=Rüti & Söhne, open=true"),
    ("[{{ input.none }}]", "[]"),
    ("{{ input.ratio }}%", "2.0%"),
    ("urls: {{ list.urls }}", 'urls: ["a","b","c"]'),
    ("{{ list }}!", '{"odd name":{"k":[[1,2]]},"total":3,"url":"x","urls":["a","b","c"]}!'),
    ('{{ input.absent ?? "none" }}', "none"),
    ("{{ input.none ?? input.count }}", 3),
    ("{{ input.empty ?? 1 }}", ""),
    ("{{ absent.at.all ?? list.urls[9] ?? input.count }}", 3),
    ("{{ input.absent ?? null }}", None),
    ("{{ input.absent ?? input.none }}", None),
    ("{{ input.no.matter ?? -1.5e1 }}", -15.0),
    ('{{ "text" }}', "text"),
    ('{{ "say \\"hi\\" }} \\u00fc" }}', 'say "hi" }} ü'),
    ("{{ 'it\\'s \"it\"' }}", 'it\'s "it"'),
    ("{{ true }}", True),
    ("{{ null ?? false }}", False),
    ("{{ 18446744073709551615 }}", 2**64 - 1),
    (r"\{{ input.shop }}", "{{ input.shop }}"),
    (r"\\{{ input.count }}", "\\3"),
    (r"\\\{{ x }}", r"\{{ x }}"),
    (r"C:\new\{x} }}", r"C:\new\{x} }}"),
    ("plain", "plain"),
    ({"a": ["{{ input.count }}", 1, {"b": "n{{ input.count }}"}]}, {"a": [3, 1, {"b": "n3"}]}),
    ({r"\{{key": 1}, {"{{key": 1}),
    ([], []),
    (None, None),
]


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=lambda one: repr(one)[:40])
def test_a_value_renders_to_what_it_says(source: object, expected: object) -> None:
    rendered = compile_value(source).render(NAMES)
    assert rendered == expected
    assert type(rendered) is type(expected)


MISSING = [
    (
        "{{ list.urs }}",
        "`list.urs`: list has no field 'urs'; it has: urls, url, total, odd name (did you mean 'urls'?)",
    ),
    (
        "{{ lst }}",
        "`lst`: nothing is called 'lst' here; there are: input, list, odd-root, nodes (did you mean 'list'?)",
    ),
    ("{{ list.urls[3] }}", "`list.urls[3]`: list.urls has no element [3]; it has 3"),
    ("{{ list.urls[-4] }}", "`list.urls[-4]`: list.urls has no element [-4]; it has 3"),
    ("{{ list.urls.first }}", "`list.urls.first`: list.urls is a list and has no field 'first'"),
    ("{{ list[0] }}", "`list[0]`: list is an object and has no element [0]"),
    ("{{ input.none.x }}", "`input.none.x`: input.none is null and has no field 'x'"),
    ("{{ input.shop[0] }}", "`input.shop[0]`: input.shop is a text and has no element [0]"),
    ("{{ input.shop.upper }}", "`input.shop.upper`: input.shop is a text and has no field 'upper'"),
    ("{{ input.no.x }}", "`input.no.x`: input.no has no field 'x'; it has none at all"),
    ('{{ list["odd name"].q }}', '`list["odd name"].q`: list["odd name"] has no field \'q\'; it has: k'),
    ("{{ a ?? input.b }}", "`a ?? input.b`: input has no field 'b'; it has: shop, count, ratio, none, open, empty, no"),
    ("{{ input.__class__ }}", "`input.__class__`: input has no field '__class__'; it has: "),
    ("{{ input.keys }}", "`input.keys`: input has no field 'keys'; it has: "),
]


@pytest.mark.parametrize(("source", "message"), MISSING)
def test_what_is_not_there_is_an_error_that_says_what_is(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value({"deep": [source]}, "settings").render(NAMES)
    assert str(caught.value).startswith(f"settings.deep[0]: {message}")
    assert caught.value.path == ("deep", 0)


MALFORMED = [
    ("{{ }}", 3, "expected a path such as `input.name`, or a value, found `}}`"),
    ("a {{ b", 6, "but the text ends: `{{` has no `}}` (write `\\{{` where `{{` is meant as text)"),
    ("{{ a }", 5, "expected `.`, `[`, `??` or `}}`, found `}`"),
    ("{{ a. }}", 6, 'expected a name after ".", found `}}`'),
    ("{{ a.0 }}", 5, "(an element of a list is written `[0]`), found `0`"),
    ("{{ a..b }}", 5, 'expected a name after ".", found `.`'),
    ("{{ a[b] }}", 5, 'expected `["name"]` or `[0]`, found `b`'),
    ("{{ a[1.5] }}", 5, "found `1.5`"),
    ("{{ a[0 }}", 7, "expected `]`, found `}}`"),
    ("{{ a.b + 1 }}", 7, "found `+` (there is no arithmetic here; use JSONLogic in a `transform` node)"),
    ("{{ f(x) }}", 4, "found `(` (functions cannot be called)"),
    ("{{ a | upper }}", 5, "found `|` (there are no filters"),
    ("{{ a ? b }}", 5, "found `?` (write `??` for a default)"),
    ("{{ a == 1 }}", 5, "(a comparison is written as JSONLogic)"),
    ("{{ a b }}", 5, "found `b`"),
    ("{{ a ?? }}", 8, "expected a path"),
    ("{{ ?? a }}", 3, "found `??`"),
    ("{{ .a }}", 3, "found `.`"),
    ("{{{ a }}}", 2, "found `{` (write `\\{{`"),
    ("{{{{ a }}}}", 2, "found `{`"),
    ("{{ 'open }}", 3, "(the text is not closed)"),
    ('{{ "\\x" }}', 3, "expected a text as JSON writes it"),
    ('{{ "\\ud800" }}', 3, "expected a text as JSON writes it"),
    ("{{ 01 }}", 3, "found `0`"),
    ("{{ 1e999 }}", 3, "expected a number that is not so large"),
    ("{{ 18446744073709551616 }}", 3, "expected a number of 64 bits"),
    ("{{ $a }}", 3, "(a name starts with a letter)"),
    ("x" * 65536 + "{{ a }}", 0, "a text with templates has at most 65,536 characters, this has 65,543"),
    ("{{ a }}" * 1001, 7000, "there are more than 1,000 templates in one text"),
]


@pytest.mark.parametrize(("source", "offset", "message"), MALFORMED, ids=lambda one: repr(one)[:40])
def test_a_malformed_template_is_refused_with_its_place(source: str, offset: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value({"url": source}, "with")
    text = str(caught.value)
    assert text.startswith("with.url: in `")
    assert f", character {offset + 1:,}: " in text
    assert message in text
    assert (caught.value.path, caught.value.offset) == (("url",), offset)
    assert isinstance(caught.value, DefinitionError)


NO_JSON = [
    (float("nan"), "nan is no JSON number"),
    ([float("inf")], "$[0]: inf is no JSON number"),
    ({1: 2}, "the key 1 is no text"),
    ({"on": datetime.date(2026, 1, 1)}, "on: a date is no JSON (write it in quotes)"),
    ({"s": {1, 2}}, "s: a set is no JSON"),
    ({"k{{ a }}": 1}, "the key 'k{{ a }}' is no template (where `{{` is meant as text write `\\{{`)"),
]


@pytest.mark.parametrize(("source", "message"), NO_JSON, ids=repr)
def test_what_is_no_json_is_refused(source: object, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value(source)
    assert message.removeprefix("$") in str(caught.value)


def test_all_mistakes_of_a_value_are_told_at_once() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value({"a": "{{ x. }}", "b": [1, "{{ y( }}"], "c": "{{ z }}"}, lambda path: f"line {len(path)}")
    assert [error.path for error in caught.value.each] == [("a",), ("b", 1)]
    assert [str(error).partition(":")[0] for error in caught.value.each] == ["line 1", "line 2"]
    assert all(str(error) in str(caught.value) for error in caught.value.each)


@pytest.mark.parametrize("name", ["failed", "nodes.failed", "nodes['failed']"])
def test_what_has_failed_is_nothing_but_its_error(name: str) -> None:
    failed = Failed(error={"type": "Sold"})
    names = MappingNames({"failed": failed, "nodes": {"failed": failed}, "list": [failed]})
    assert compile_value(f"{{{{ {name} ?? 1 }}}}").render(names) == 1
    assert compile_value(f"{{{{ {name}.error.type }}}}").render(names) == "Sold"
    assert compile_value("{{ list[0] }}").render(names) == {"error": {"type": "Sold"}}
    with pytest.raises(ExpressionError, match=r"has failed, and has only `.*\.error`"):
        compile_value(f"{{{{ {name} }}}}").render(names)


def test_references_are_found_before_anything_is_looked_up() -> None:
    value = compile_value({"a": "{{ x.y[0] ?? z ?? 1 }}", "b": ["{{ p }} {{ q ?? r['s'] }}", "{{ 'no' ?? t }}"]})
    assert value.references == (
        Reference("x", ("y", 0), True, "x.y[0]", 3, ("a",)),
        Reference("z", (), True, "z", 13, ("a",)),
        Reference("p", (), False, "p", 3, ("b", 0)),
        Reference("q", (), True, "q", 11, ("b", 0)),
        Reference("r", ("s",), False, "r['s']", 16, ("b", 0), before=(value.references[3],)),
    )
    assert not value.is_constant


def test_a_value_without_references_is_constant() -> None:
    value = compile_value({"a": "{{ 1 }}", "b": [r"\{{", "x{{ 'y' }}{{ null }}"]})
    assert value.is_constant
    assert value.render(MappingNames({})) == {"a": 1, "b": ["{{", "xy"]}
    assert compile_value("{{ a }}").is_expression
    assert not compile_value(["{{ a }}"]).is_expression
    assert not compile_value("{{ a }} ").is_expression


def test_a_constant_is_given_anew_each_time() -> None:
    value = compile_value({"constant": {"list": [1]}, "x": "{{ input.count }}"})
    first = value.render(NAMES)
    assert isinstance(first, dict)
    first["constant"]["list"].append(2)
    assert value.render(NAMES) == {"constant": {"list": [1]}, "x": 3}


def test_names_are_looked_up_from_the_inside_out() -> None:
    chain = ChainNames(MappingNames({"item": 1, "input": "inner"}), NAMES)
    assert compile_value("{{ item }}{{ input }}{{ odd-root }}").render(chain) == "1inner7"
    with pytest.raises(ExpressionError, match="there are: item, input, list, odd-root, nodes"):
        compile_value("{{ absent }}").render(chain)


def test_a_scope_may_say_why_a_name_stands_for_nothing() -> None:
    class Skipped:
        def lookup(self, name: str) -> object:
            raise LookupError(f'node "{name}" was skipped')

    with pytest.raises(ExpressionError, match='a: node "a" was skipped'):
        compile_value("{{ a.b }}").render(Skipped())


def test_only_mappings_and_sequences_are_looked_into() -> None:
    class Sly:
        secret = 1

        def __getitem__(self, key: object) -> object:
            raise AssertionError("it must not be asked")

    names = MappingNames({"sly": Sly(), "view": types.MappingProxyType({"a": (1, 2)})})
    assert compile_value("{{ view.a[1] }}").render(names) == 2
    for source in ("{{ sly.secret }}", "{{ sly['secret'] }}", "{{ sly[0] }}", "{{ view.items }}"):
        with pytest.raises(ExpressionError):
            compile_value(source).render(names)
    with pytest.raises(ExpressionError, match="a Sly cannot be put into a text"):
        compile_value("x{{ sly }}").render(names)


def test_what_has_no_json_form_is_not_put_into_a_text() -> None:
    endless: list[object] = []
    endless.append(endless)
    for value in (float("nan"), [float("inf")], {"a": b"x"}, endless):
        with pytest.raises(ExpressionError, match="cannot be put into a text"):
            compile_value("<{{ x }}>").render(MappingNames({"x": value}))


def test_a_render_that_would_be_huge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "LONGEST_TEXT", 1000)
    names = MappingNames({"x": "x" * 400, "y": {"k": "y" * 1000}})
    assert len(str(compile_value("{{ x }}{{ x }}").render(names))) == 800
    assert compile_value(["{{ x }}", "{{ x }}", "{{ x }}", "{{ y }}"]).render(names)  # handed on, not put together
    for source in ("{{ x }}{{ x }}{{ x }}", ["{{ x }} {{ x }}", "{{ x }}."], "{{ y }}."):
        with pytest.raises(ExpressionError, match="more than 1,000 characters of text would be put together"):
            compile_value(source).render(names)


def test_nesting_has_a_limit_that_fits_the_stack() -> None:
    def nested(depth: int) -> object:
        value: object = "{{ input.count }}"
        for _ in range(depth):
            value = [value] if depth % 2 else {"k": value}
        return value

    for depth in (199, 200):
        assert "3" in json.dumps(compile_value(nested(depth)).render(NAMES))
    for depth in (201, 100_000):
        with pytest.raises(ExpressionError, match="it is nested more than 200 deep"):
            compile_value(nested(depth))


def test_a_value_that_names_itself_many_times_over_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_PARTS", 10_000)
    value: object = "x"
    for _ in range(100):
        value = [value, value]
    with pytest.raises(ExpressionError, match="more than 10,000 values"):
        compile_value(value)


def test_hostile_texts_do_not_stall_the_reader() -> None:
    for source in (
        "\\" * 60_000 + "{{",
        "{{ '" + "\\'" * 30_000,
        "{{ a" + ".b" * 30_000 + " }}",
        "{{ a" + " ?? a" * 10_000,
    ):
        try:
            compile_value(source)
        except ExpressionError:
            continue


# -- for all texts ---------------------------------------------------------------------------------------------------

relaxed = settings(deadline=None, max_examples=150)

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=12)
fragments = st.lists(
    st.sampled_from(
        [
            "{{",
            "}}",
            "{",
            "\\",
            " ",
            "a",
            "b",
            ".",
            "[",
            "]",
            "0",
            "-1",
            "??",
            '"',
            "'",
            "null",
            "1.5",
            "ü",
            "\n",
            "|",
            "input",
        ]
    ),
    max_size=14,
).map("".join)
trees = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
data = st.dictionaries(st.sampled_from(["a", "b", "input"]), trees, max_size=3)


def _escaped(tree: object) -> object:
    match tree:
        case str():
            return escaped(tree)
        case list():
            return [_escaped(one) for one in tree]
        case dict():
            return {escaped(key): _escaped(one) for key, one in tree.items()}
        case _:
            return tree


class Watched(MappingNames):
    """Names that remember what was asked for."""

    def __init__(self, values: dict[str, object]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def lookup(self, name: str) -> object:
        self.asked.add(name)
        return super().lookup(name)


@relaxed
@given(st.recursive(fragments | scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6), data)
def test_nothing_but_an_expression_error_is_ever_raised(source: object, values: dict[str, object]) -> None:
    names = Watched(values)
    try:
        value = compile_value(source)
        value.render(names)
    except ExpressionError as error:
        assert str(error)
        return
    assert names.asked <= {reference.root for reference in value.references}


@relaxed
@given(trees)
def test_every_json_value_can_be_written_and_renders_to_itself(tree: object) -> None:
    value = compile_value(_escaped(tree))
    assert value.is_constant
    assert value.render(MappingNames({})) == tree


@relaxed
@given(fragments)
def test_a_text_that_is_escaped_stands_for_itself(text: str) -> None:
    assert parsing.parse(escaped(text)) == ([text] if text else [])


@relaxed
@given(texts.filter(lambda text: text != ""), trees)
def test_any_field_can_be_reached_by_its_name(name: str, found: object) -> None:
    source = "{{ root[" + json.dumps(name) + "] }}"
    assert compile_value(source).render(MappingNames({"root": {name: found}})) == found
