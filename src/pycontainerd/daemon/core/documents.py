"""Small blobs that were read lately: manifests and configs, which a client reads again and again for one container.

A blob is what its digest says, so nothing here can go stale; who may see it is asked of the metadata each time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_BYTES: Final = 64 << 10  # of one
_TOTAL_BYTES: Final = 1 << 20


class Documents:
    """Bytes by digest, the longest unused going first. For one thread."""

    __slots__ = ("_found", "_total_bytes")

    def __init__(self) -> None:
        self._found: OrderedDict[str, bytes] = OrderedDict()
        self._total_bytes = 0

    def get(self, digest: str) -> bytes | None:
        """A blob's bytes; None when they aren't here."""
        data = self._found.get(digest)
        if data is not None:
            self._found.move_to_end(digest)
        return data

    def put(self, digest: str, data: bytes) -> None:
        """Keeps a whole blob, unless it is a large one."""
        if len(data) > MAX_BYTES or digest in self._found:
            return
        self._found[digest] = data
        self._total_bytes += len(data)
        while self._total_bytes > _TOTAL_BYTES:
            self._total_bytes -= len(self._found.popitem(last=False)[1])
