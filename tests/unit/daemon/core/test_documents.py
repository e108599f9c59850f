"""Small blobs that are kept: which, how many, and which go first."""

from __future__ import annotations

from pycontainerd.daemon.core.documents import MAX_BYTES, Documents


def test_what_was_used_last_stays():
    documents = Documents()
    for number in range(16):
        documents.put(f"sha256:{number}", bytes(MAX_BYTES))
    assert documents.get("sha256:0") is not None
    documents.put("sha256:16", b"x")
    assert documents.get("sha256:0") == bytes(MAX_BYTES)
    assert documents.get("sha256:1") is None
    assert documents.get("sha256:16") == b"x"


def test_a_large_one_is_not_kept_and_pushes_nothing_out():
    documents = Documents()
    documents.put("sha256:small", b"x")
    documents.put("sha256:large", bytes(MAX_BYTES + 1))
    assert documents.get("sha256:large") is None
    assert documents.get("sha256:small") == b"x"
