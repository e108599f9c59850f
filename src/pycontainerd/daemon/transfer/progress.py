"""What has changed of a transfer's blobs, as Progress messages.

Spec: containerd core/transfer/local (ProgressTracker)
Runs in: a transfer's thread
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pycontainerd.client import images, pull
from pycontainerd.lib.api.full import transfer_types, types
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.oci import image as oci

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontainerd.client.client import Client

_EVENTS: Final = {
    pull.WAITING: "waiting",
    pull.DOWNLOADING: "downloading",
    pull.UPLOADING: "uploading",
    pull.EXISTS: "already exists",
    pull.DONE: "complete",
}


class Tracker:
    """Follows a Fetcher's or Pusher's progress. `root` names the whole."""

    def __init__(
        self,
        client: Client,
        root: str,
        progress: Mapping[str, pull.Progress],
        report: Callable[[Any], None],
    ) -> None:
        self._client = client
        self._root = root
        self._progress = progress
        self._report = report
        self._last: dict[str, tuple[str, int]] = {}
        self._parents: dict[str, list[str]] = {}

    def report(self) -> None:
        """Sends one message for every blob that has changed."""
        for digest, one in list(self._progress.items()):
            state = (one.status, one.offset)
            if self._last.get(digest) == state:
                continue
            if one.status in (pull.EXISTS, pull.DONE):
                self._learn_children(one)
            existed = self._last.get(digest, ("", 0))[0] == pull.EXISTS
            self._last[digest] = state
            if existed:
                continue  # complete already
            self._report(self._message(digest, one))

    def _message(self, digest: str, one: pull.Progress) -> Any:
        descriptor = one.descriptor
        return transfer_types.Progress(
            event=_EVENTS[one.status],
            name=one.ref,
            parents=self._parents.get(digest, [self._root]),
            progress=one.offset if one.status not in (pull.EXISTS, pull.DONE) else descriptor.size,
            total=descriptor.size,
            desc=types.Descriptor(
                media_type=descriptor.media_type, digest=str(descriptor.digest), size=descriptor.size
            ),
        )

    def _learn_children(self, one: pull.Progress) -> None:
        descriptor = one.descriptor
        if not (oci.is_index(descriptor.media_type) or oci.is_manifest(descriptor.media_type)):
            return
        try:
            children = images.children(self._client, descriptor)
        except ContainerdError:
            return  # the transfer itself says what is wrong with it
        for child in children:
            parents = self._parents.setdefault(child.digest, [])
            if one.ref not in parents:
                parents.append(one.ref)
