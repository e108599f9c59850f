"""JSON as Go takes it: what is taken is what Python takes, and what isn't is refused in Go's words, as ctr prints them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib import go_json
from pycontainerd.lib.errdefs import InvalidArgument

# As Debian's ctr 1.6.20 has said of these as a CNI configuration; the last three as Go's own source says.
REFUSED = {
    b"": "unexpected end of JSON input",
    b"{bad": "invalid character 'b' looking for beginning of object key string",
    b'{"name":': "unexpected end of JSON input",
    b'{"name":"n1" "x"}': "invalid character '\"' after object key:value pair",
    b'{"name":t}': "invalid character '}' in literal true (expecting 'r')",
    b"{'name'}": "invalid character '\\'' looking for beginning of object key string",
    b'{"name":"n1",}': "invalid character '}' looking for beginning of object key string",
    b'{"a":"\\q"}': "invalid character 'q' in string escape code",
    b'{"a":01}': "invalid character '1' after object key:value pair",
    b'{"a":"b\nc"}': "invalid character '\\n' in string literal",
    b'{"a":1}x': "invalid character 'x' after top-level value",
    b"hi": "invalid character 'h' looking for beginning of value",
    b'{"a" 1}': "invalid character '1' after object key",
    b"[1 2]": "invalid character '2' after array element",
    b"[-]": "invalid character ']' in numeric literal",
    b"[1.]": "invalid character ']' after decimal point in numeric literal",
    b"[1e]": "invalid character ']' in exponent of numeric literal",
    b'"\\u12g4"': "invalid character 'g' in \\u hexadecimal character escape",
    b"\xef\xbb\xbf{}": "invalid character '\u00ef' looking for beginning of value",
    b"\x01": "invalid character '\\x01' looking for beginning of value",
    b"[" * 10001 + b"]" * 10001: "exceeded max depth",
}


@pytest.mark.parametrize(("data", "text"), REFUSED.items())
def test_what_is_no_json_is_refused_in_gos_words(data: bytes, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        go_json.loads(data)
    assert str(refused.value) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_json_is_taken_whole(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert go_json.loads(text.encode("utf-8", "surrogatepass")) == json.loads(
        text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    )


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(st.text(alphabet='{}[]",:\\/untrefalsx0123.eE+- \n', max_size=12))
def test_only_what_python_takes_is_taken(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        with pytest.raises(InvalidArgument):
            go_json.loads(text.encode())
    else:
        go_json.loads(text.encode())


def test_kinds_and_types_are_gos() -> None:
    values = ["", 1, 1.5, True, [], {}, None]
    assert [go_json.kind(value) for value in values] == [
        "string", "number", "number", "bool", "array", "object", "null",
    ]  # fmt: skip
    assert [go_json.interface_type(value) for value in values] == [
        "string", "float64", "float64", "bool", "[]interface {}", "map[string]interface {}", "<nil>",
    ]  # fmt: skip
