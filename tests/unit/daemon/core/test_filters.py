"""The filter language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.daemon.core import filters
from pycontainerd.lib.errdefs import InvalidArgument

FIELDS = {
    ("name",): "foo",
    ("labels", "bar"): "baz",
    ("labels", "a.b/c"): "x y",
    ("other", "empty"): "",
}


def matches(*texts: str) -> bool:
    return filters.parse_all(texts)(lambda path: FIELDS.get(tuple(path)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name==foo",
        'name=="foo"',
        "name!=bar",
        "nope!=bar",
        "name",
        "labels.bar",
        "other.empty",
        "name==foo,labels.bar==baz",
        "name == foo,labels.bar == baz",
        'labels."a.b/c"=="x y"',
        "name~=f.o",
        "name~=/^fo+$/",
        "name~=|o{2}|",
        'name~="^f"',
        '"name"==foo',
        'name=="f\\x6f\\u006f"',
        'name=="\\146oo"',
    ],
)
def test_matching_filters(text):
    assert matches(text)


@pytest.mark.parametrize(
    "text", ["name==bar", "nope", "name!=foo", "name==foo,nope", "name~=^o", "name~=(", "nope==foo"]
)
def test_filters_that_do_not_match(text):
    assert not matches(text)


def test_any_of_several_is_enough():
    assert matches("name==bar", "name==foo")
    assert not matches("name==bar", "nope")
    assert matches()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name=foo", 'filters: parse error: [name >|=|< foo]: unsupported operator "=": invalid argument'),
        ("name==", "filters: parse error: [name==]: expected value or quoted: invalid argument"),
        ("==foo", "filters: parse error: [ >|=|< =foo]: expected field or quoted: invalid argument"),
        (
            "name==foo bar",
            "filters: parse error: [name==foo >| |< bar]: unexpected input:  : invalid argument",
        ),
        (
            "name==/foo/",
            "filters: parse error: [name== >|/|< foo/]: invalid quote encountered: invalid argument",
        ),
        (
            'name=="foo',
            'filters: parse error: [name== >|"|< foo]: quoted literal not terminated: invalid argument',
        ),
        ("name,", "filters: parse error: [name,]: expected field or quoted: invalid argument"),
    ],
)
def test_errors_name_the_place(text, message):
    with pytest.raises(InvalidArgument) as caught:
        matches(text)
    assert str(caught.value) == message


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_invalid_argument(text):
    try:
        matches(text)
    except InvalidArgument:
        return


@given(
    st.text(
        alphabet=st.characters(codec="utf-8", exclude_characters='\0\n\\"', exclude_categories=("Cs", "Cc")),
        min_size=1,
        max_size=20,
    )
)
def test_a_quoted_value_matches_itself(value):
    parsed = filters.parse_all([f'field=="{value}"'])
    assert parsed(lambda path: value)
    assert not parsed(lambda path: value + "x")
