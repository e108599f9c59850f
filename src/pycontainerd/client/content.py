"""Blobs over the content service: read, list, label, and write with resume.

Write protocol: one stream per ingest; STAT answers where it stands, WRITE appends, COMMIT ends it.

Spec: containerd content service
"""

from __future__ import annotations

import time

from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.api.light import content_v1, wkt
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, Final

    from pycontainerd.client.client import Client, MessageStream

CHUNK_SIZE: Final = 1 << 20  # well under ttrpc's 4 MiB and gRPC's 16 MiB a message
_AHEAD: Final = 1  # chunks that are sent before the daemon has answered for the one before
_LOCK_WAIT_S: Final = 30


def read(client: Client, digest: digests.Digest, *, offset: int = 0, size: int = 0) -> Iterator[bytes]:
    """A blob in chunks; NotFound when there is none. `size` 0 reads to the end."""
    request = content_v1.ReadContentRequest(digest=digest, offset=offset, size=size)
    with client.stream(content_v1.CONTENT, "Read", request) as stream:
        for message in stream:
            yield message.data


def read_blob(client: Client, digest: digests.Digest, limit: int = oci.MAX_DOCUMENT_BYTES) -> bytes:
    """A whole blob of at most `limit` bytes; InvalidArgument when it is larger."""
    data = bytearray()
    with trace.span("read blob", digest=digest):
        for chunk in read(client, digest):
            data += chunk
            if len(data) > limit:
                raise errdefs.InvalidArgument(
                    f"content {digest} is larger than {limit} bytes: invalid argument"
                )
    return bytes(data)


def info(client: Client, digest: digests.Digest) -> content_v1.Info:
    """Size, times and labels; NotFound when there is no such blob."""
    reply: content_v1.InfoResponse = client.call(
        content_v1.CONTENT, "Info", content_v1.InfoRequest(digest=digest)
    )
    return reply.info


def exists(client: Client, digest: digests.Digest) -> bool:
    """Whether the blob is in this namespace."""
    try:
        info(client, digest)
    except errdefs.NotFound:
        return False
    return True


def walk(client: Client, filters: Sequence[str] = ()) -> Iterator[content_v1.Info]:
    """Every blob of the namespace, in the daemon's order."""
    with client.stream(
        content_v1.CONTENT, "List", content_v1.ListContentRequest(filters=list(filters))
    ) as stream:
        for message in stream:
            yield from message.info


def set_labels(client: Client, digest: digests.Digest, labels: Mapping[str, str]) -> None:
    """Sets (or, with an empty value, removes) single labels; the others stay."""
    client.call(
        content_v1.CONTENT,
        "Update",
        content_v1.UpdateRequest(
            info=content_v1.Info(digest=digest, labels=dict(labels)),
            update_mask=wkt.FieldMask(paths=[f"labels.{key}" for key in labels]),
        ),
    )


def delete(client: Client, digest: digests.Digest) -> None:
    """Removes a blob at once, whoever refers to it."""
    client.call(content_v1.CONTENT, "Delete", content_v1.DeleteContentRequest(digest=digest))


def abort(client: Client, ref: str) -> None:
    """Drops an ingest; NotFound when there is none."""
    client.call(content_v1.CONTENT, "Abort", content_v1.AbortRequest(ref=ref))


def statuses(client: Client, filters: Sequence[str] = (), *, timeout_s: float = 0) -> list[content_v1.Status]:
    """The ingests under way; DeadlineExceeded when they take longer to list (0: as long as it takes)."""
    reply: content_v1.ListStatusesResponse = client.call(
        content_v1.CONTENT,
        "ListStatuses",
        content_v1.ListStatusesRequest(filters=list(filters)),
        timeout_s=timeout_s,
    )
    return list(reply.statuses)


class Writer:
    """One ingest. `offset` is how much the daemon has; leaving the context without `commit` keeps it for a resume.

    A chunk is on its way while the daemon writes and hashes the one before: an error of the daemon's is raised by the
    write after, or by `commit`.
    """

    __slots__ = ("_expected", "_ref", "_sent", "_stream", "_total", "_unanswered", "offset")

    def __init__(self, stream: MessageStream, ref: str, total: int, expected: str) -> None:
        self._stream = stream
        self._ref = ref
        self._total = total
        self._expected = expected
        self._unanswered = 0
        self.offset = self._sent = self._exchange(content_v1.WriteAction.STAT).offset

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _exchange(self, action: int, **fields: Any) -> content_v1.WriteContentResponse:
        self._stream.send(self._request(action, **fields))
        return self._receive()

    def _request(self, action: int, **fields: Any) -> content_v1.WriteContentRequest:
        return content_v1.WriteContentRequest(
            action=action, ref=self._ref, total=self._total, expected=self._expected, **fields
        )

    def _receive(self) -> content_v1.WriteContentResponse:
        reply: content_v1.WriteContentResponse | None = self._stream.receive()
        if reply is None:
            raise errdefs.Unavailable(f"the daemon ended the write of {self._ref}")
        return reply

    def write(self, data: bytes) -> None:
        """Appends; large data goes in several messages."""
        view = memoryview(data)
        while view:
            chunk = view[:CHUNK_SIZE]
            self._settle(_AHEAD)
            request = self._request(content_v1.WriteAction.WRITE, offset=self._sent)
            self._stream.send_with(request, "data", chunk)
            self._sent += len(chunk)
            self._unanswered += 1
            view = view[len(chunk) :]

    def _settle(self, allowed: int = 0) -> None:
        """Takes answers until at most that many writes are unanswered."""
        while self._unanswered > allowed:
            self.offset = self._receive().offset
            self._unanswered -= 1
        if not self._unanswered and self.offset != self._sent:
            raise errdefs.DataLoss(f"short write of {self._ref}: {self.offset} of {self._sent}")

    def restart(self) -> None:
        """Goes back to the beginning: the next write at offset 0 truncates."""
        self._settle()
        self.offset = self._sent = 0

    def commit(self, labels: Mapping[str, str] | None = None) -> None:
        """Verifies and publishes. AlreadyExists means that somebody else did, FailedPrecondition that it is another blob."""
        self._settle()
        try:
            self._exchange(content_v1.WriteAction.COMMIT, offset=self.offset, labels=dict(labels or {}))
        except errdefs.AlreadyExists:
            raise
        except errdefs.ContainerdError as error:
            raise type(error)(f'failed commit on ref "{self._ref}": commit failed: {error}') from error

    def close(self) -> None:
        """Lets the ingest go."""
        self._stream.close_send()
        self._stream.close()


def open_writer(client: Client, ref: str, *, total: int = 0, expected: str = "") -> Writer:
    """An ingest to append to. AlreadyExists when the blob is there; waits a while for another writer of the same ref."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    delay_s = 0.02
    while True:
        stream = client.stream(content_v1.CONTENT, "Write")
        try:
            return Writer(stream, ref, total, expected)
        except errdefs.Unavailable as error:
            stream.close()
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        except BaseException:
            stream.close()
            raise
        time.sleep(delay_s)
        delay_s = min(delay_s * 2, 0.5)


def write_blob(
    client: Client,
    ref: str,
    chunks: Iterable[bytes],
    *,
    size: int = 0,
    digest: str = "",
    labels: Mapping[str, str] | None = None,
) -> None:
    """Stores one blob under its digest; one that is there already is fine."""
    try:
        with open_writer(client, ref, total=size, expected=digest) as writer:
            writer.restart()
            for chunk in chunks:
                writer.write(chunk)
            writer.commit(labels)
    except errdefs.AlreadyExists:
        if labels and digest:
            set_labels(client, digests.parse(digest), labels)


def named(error: errdefs.ContainerdError, descriptor: oci.Descriptor) -> errdefs.ContainerdError:
    """The error of an upload with containerd's words for which one it was, where it is about what was uploaded."""
    if error.step != "commit":
        return error
    return type(error)(f'failed commit on ref "{ref_key(descriptor)}": {error}', hint=error.hint)


def ref_key(descriptor: oci.Descriptor) -> str:
    """The ingest ref of a descriptor: `layer-sha256:...`, as containerd names them (and ctr prints them)."""
    media_type = descriptor.media_type
    if oci.is_manifest(media_type):
        kind = "manifest"
    elif oci.is_index(media_type):
        kind = "index"
    elif oci.is_layer(media_type):
        kind = "layer"
    elif oci.is_config(media_type):
        kind = "config"
    else:
        kind = "unknown"
    return f"{kind}-{descriptor.digest}"
