"""What every content backend does: `class TestX(ContentStoreSuite)` with a `store` fixture gets all of it."""

from __future__ import annotations

import hashlib
import threading

import pytest

from pycontainerd.lib.errdefs import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)

HELLO = b"hello, content"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put(store, data: bytes, ref: str = "put") -> str:
    with store.writer(ref, len(data), digest_of(data)) as writer:
        writer.write(data)
        writer.commit(len(data), digest_of(data), {})
    return digest_of(data)


class ContentStoreSuite:
    """Contract of core.content.Backend."""

    def test_what_was_committed_can_be_read(self, store):
        digest = put(store, HELLO)
        blob = store.open_blob(digest)
        try:
            assert (blob.size_bytes, blob.read(7, 100), blob.read(100, 1)) == (len(HELLO), b"content", b"")
        finally:
            blob.close()
        assert store.info(digest).size_bytes == len(HELLO)

    def test_nothing_is_visible_before_commit(self, store):
        with store.writer("r") as writer:
            writer.write(HELLO)
            with pytest.raises(NotFound):
                store.info(digest_of(HELLO))

    def test_a_wrong_digest_is_refused_and_not_visible(self, store):
        writer = store.writer("r")
        writer.write(HELLO)
        with pytest.raises(FailedPrecondition, match="unexpected commit digest"):
            writer.commit(0, digest_of(b"other"), {})
        with pytest.raises(NotFound):
            store.info(digest_of(HELLO))

    def test_a_wrong_size_is_refused(self, store):
        writer = store.writer("r")
        writer.write(HELLO)
        with pytest.raises(FailedPrecondition, match="size"):
            writer.commit(len(HELLO) + 1, "", {})

    def test_a_write_is_resumed_where_it_stopped(self, store):
        with store.writer("r", len(HELLO)) as writer:
            writer.write(HELLO[:5])
        with store.writer("r", len(HELLO)) as writer:
            assert writer.status().offset_bytes == 5
            assert writer.digest() == digest_of(HELLO[:5])
            writer.write(HELLO[5:])
            writer.commit(len(HELLO), digest_of(HELLO), {})
        assert store.info(digest_of(HELLO)).size_bytes == len(HELLO)

    def test_status_tells_offset_and_total(self, store):
        with store.writer("r", 20) as writer:
            writer.write(HELLO)
        status = store.status("r")
        assert (status.ref, status.offset_bytes, status.total_bytes) == ("r", len(HELLO), 20)
        assert status.started_nanos <= status.updated_nanos

    def test_truncate_starts_again(self, store):
        with store.writer("r") as writer:
            writer.write(b"wrong")
            writer.truncate()
            writer.write(HELLO)
            writer.commit(len(HELLO), digest_of(HELLO), {})

    def test_a_ref_has_one_writer(self, store):
        with store.writer("r"), pytest.raises(Unavailable, match=r"ref .*r locked for"):
            store.writer("r")
        store.writer("r").close()

    def test_a_second_writer_gets_the_ref_once_the_first_closes(self, store):
        first = store.writer("r")
        timer = threading.Timer(0.1, first.close)
        timer.start()
        store.writer("r").close()
        timer.join()

    def test_committing_the_same_blob_twice_is_already_exists(self, store):
        put(store, HELLO)
        writer = store.writer("again")
        writer.write(HELLO)
        with pytest.raises(AlreadyExists):
            writer.commit(len(HELLO), "", {})
        with pytest.raises(NotFound):
            store.status("again")

    def test_a_writer_for_a_blob_that_is_there_is_already_exists(self, store):
        digest = put(store, HELLO)
        with pytest.raises(AlreadyExists):
            store.writer("again", len(HELLO), digest)

    def test_a_closed_writer_refuses(self, store):
        writer = store.writer("r")
        writer.close()
        writer.close()
        with pytest.raises(FailedPrecondition):
            writer.write(b"x")

    def test_abort_forgets_the_ingest(self, store):
        with store.writer("r") as writer:
            writer.write(HELLO)
        store.abort("r")
        with pytest.raises(NotFound):
            store.status("r")
        with pytest.raises(NotFound):
            store.abort("r")

    def test_delete_hides_the_blob(self, store):
        digest = put(store, HELLO)
        store.delete(digest)
        with pytest.raises(NotFound):
            store.info(digest)
        with pytest.raises(NotFound):
            store.open_blob(digest)
        with pytest.raises(NotFound):
            store.delete(digest)

    def test_walk_lists_every_blob(self, store):
        digests = {put(store, data, f"ref-{data!r}") for data in (b"a", b"b", b"c")}
        assert {info.digest for info in store.walk()} == digests

    def test_an_empty_blob_is_a_blob(self, store):
        put(store, b"")
        assert store.info(digest_of(b"")).size_bytes == 0

    def test_an_empty_ref_is_refused(self, store):
        with pytest.raises(InvalidArgument, match="ref must not be empty"):
            store.writer("")

    def test_odd_refs_are_only_names(self, store):
        for ref in ("../../etc/passwd", "a/b/c", "x" * 1000, "ümlaut"):
            with store.writer(ref) as writer:
                writer.write(HELLO)
            assert store.status(ref).ref == ref
            store.abort(ref)
