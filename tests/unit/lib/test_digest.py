"""Digests: one way in, and chain ids."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib import digest
from pycontainerd.lib.errdefs import InvalidArgument

GOOD = "sha256:" + "ab" * 32


def test_parts() -> None:
    parsed = digest.parse(GOOD)
    assert (parsed.algorithm, parsed.encoded, str(parsed)) == ("sha256", "ab" * 32, GOOD)


@pytest.mark.parametrize(
    "value",
    [None, 7, b"sha256:", "", "sha256:", ":" + "a" * 64, "sha256:../../etc", "sha256:" + "AB" * 32, "md5:" + "a" * 32,
     "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "a" * 63 + "\n", "x" * (1 << 20), ["sha256:"], "sha256:" + "\u0660" * 64],
)  # fmt: skip
def test_everything_else_is_invalid(value: object) -> None:
    with pytest.raises(InvalidArgument):
        digest.parse(value)


@given(st.binary(max_size=100))
def test_digest_of_bytes(data: bytes) -> None:
    assert digest.of(data) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert digest.of_chunks([data[:50], data[50:]]) == digest.of(data)


def test_chain_id_joins_with_one_space() -> None:
    first, second = digest.of(b"a"), digest.of(b"b")
    assert digest.chain_ids([first]) == [first]
    assert digest.chain_id([first, second]) == digest.of(f"{first} {second}".encode())
