"""ttrpc.Request and ttrpc.Response: golden bytes, round trips, malformed input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.ttrpc import wire

GOLDEN_REQUEST = bytes.fromhex(
    "0a03732e54"  # 1 service "s.T"
    "120453746172"  # 2 method "Star"
    "1a020801"  # 3 payload
    "208094ebdc03"  # 4 timeout_nano 1 s
    "2a060a016b120176"  # 5 metadata k=v
)
INT64 = st.integers(-(2**63), 2**63 - 1)


def test_request_has_the_bytes_of_the_specification() -> None:
    assert wire.encode_request("s.T", "Star", b"\x08\x01", 1_000_000_000, {"K": "v"}) == GOLDEN_REQUEST


def test_request_fields_that_are_empty_are_left_out() -> None:
    assert wire.encode_request("s", "m", b"", 0, {}) == b"\x0a\x01s\x12\x01m"


def test_response_has_the_bytes_of_the_specification() -> None:
    assert wire.encode_response(5, "no", b"") == bytes.fromhex("0a06080512026e6f")
    assert wire.encode_response(0, "", b"\x08\x01") == bytes.fromhex("12020801")


@given(st.text(), st.text(), st.binary(), INT64, st.dictionaries(st.text().map(str.lower), st.text()))
def test_request_round_trips(
    service: str, method: str, payload: bytes, nanos: int, metadata: dict[str, str]
) -> None:
    got = wire.decode_request(wire.encode_request(service, method, payload, nanos, metadata))
    assert (got.service, got.method, got.payload, got.timeout_nanos) == (service, method, payload, nanos)
    assert got.metadata == {key.lower(): value for key, value in metadata.items()}


@given(st.integers(1, 16), st.text(), st.binary())
def test_response_round_trips(code: int, message: str, payload: bytes) -> None:
    assert wire.decode_response(wire.encode_response(code, message, payload)) == (code, message, payload)


@given(st.binary(max_size=200))
def test_junk_is_refused_as_invalid_argument_or_understood(junk: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_response):
        try:
            decode(junk)
        except InvalidArgument:
            continue


@pytest.mark.parametrize(
    "data", [b"\x0a\x05ab", b"\x0a", b"\x20", b"\x20" + b"\xff" * 10, b"\x0b", b"\x0a\x01\xff", b"\x02\x00"]
)
def test_malformed_requests_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        wire.decode_request(data)


def test_unknown_fields_are_skipped() -> None:
    assert wire.decode_request(b"\x0a\x01s\x7a\x02xx\x70\x05\x79" + b"\0" * 8 + b"\x12\x01m").method == "m"
