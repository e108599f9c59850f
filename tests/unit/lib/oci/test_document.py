"""Strict JSON in, Go-shaped JSON out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import runtime as oci
from pycontainerd.lib.oci.document import DocumentError, dumps, loads

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert loads(dumps(value)) == value
    assert json.loads(dumps(value, "\t")) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123 truefalsn\\', max_size=40).map(str.encode))
def test_bytes_are_a_value_or_a_document_error(data):
    try:
        found = loads(data)
    except DocumentError:
        return
    assert found == json.loads(data)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,", '{"a":1,"a":2}', "NaN", "Infinity", "1 2", '"\ud800'.encode("utf-8", "surrogatepass")],
)
def test_refused(text):
    with pytest.raises(DocumentError):
        loads(text)


def test_end_of_text_is_gos_unexpected_eof():
    with pytest.raises(DocumentError, match="unexpected EOF"):
        loads("{")


def test_a_document_larger_than_the_cap_is_refused():
    with pytest.raises(DocumentError, match="larger than"):
        loads("[" + "1," * 100 + "1]", max_bytes=20)


def test_html_is_escaped_as_go_does():
    assert dumps({"a": "<&>"}) == '{"a":"\\u003c\\u0026\\u003e"}'


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"process": {"args": ["a", 1]}}, r"process\.args\[1\]: expected string, found number"),
        ({"process": {"user": {"uid": -1}}}, r"process\.user\.uid: -1 is out of range"),
        ({"process": {"user": {"uid": True}}}, r"process\.user\.uid: expected integer, found bool"),
        ({"mounts": {}}, "mounts: expected array, found object"),
        ({"hostname": "a\0b"}, "hostname: embedded null byte"),
        ({"linux": {"sysctl": {"a": 1}}}, r"linux\.sysctl\.a: expected string"),
    ],
)
def test_errors_name_the_json_path(document, path):
    with pytest.raises(InvalidArgument, match=path):
        oci.parse(json.dumps(document).encode())


def test_null_and_unknown_keys_are_dropped():
    assert oci.parse(b'{"process": null, "x": 1, "hostname": "h"}') == {"hostname": "h"}
