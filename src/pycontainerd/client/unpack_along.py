"""Unpacking an image's layers while they are still being fetched, where the daemon is ours: it reads a blob along.

It only ever gets ahead of `unpack`, which comes after the fetch in any case: that finds the snapshots that are there,
makes the rest, and says what is wrong with an image. So a failure here is none.

Runs in: a thread beside Fetcher.run, on a connection of its own
"""

from __future__ import annotations

import threading

from pycontainerd.client import content, images, unpack
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pycontainerd.client.client import Client
    from pycontainerd.client.pull import Fetcher
    from pycontainerd.lib import platforms


class UnpackAlong:
    """A context manager around Fetcher.run: layers are unpacked as their bytes arrive."""

    def __init__(
        self,
        client: Client,
        fetcher: Fetcher,
        target: oci.Descriptor,
        snapshotter: str,
        matcher: platforms.Matcher,
        *,
        sync_fs: bool = False,
    ) -> None:
        self._client = client
        self._fetcher = fetcher
        self._target = target
        self._snapshotter = snapshotter
        self._matcher = matcher
        self._sync_fs = sync_fs
        self._thread = threading.Thread(target=self._work, name="unpack")

    def __enter__(self) -> UnpackAlong:
        if self._client.is_ours():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.wait()  # a fetch that failed ends what follows it

    def wait(self) -> None:
        """Until it has done what it can; after Fetcher.run."""
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            with self._client.another() as client:
                self._unpack(client)
        except (errdefs.ContainerdError, OSError):
            return  # see above: `unpack` meets it again and reports it

    def _unpack(self, client: Client) -> None:
        if not self._fetcher.wait_for(self._target.digest):
            return
        found = next(images.manifests_for(client, self._target, self._matcher), None)
        if found is None or not self._fetcher.wait_for(found.digest):
            return
        manifest = oci.parse_manifest(content.read_blob(client, found.digest), found.media_type)
        if not self._fetcher.wait_for(manifest.config.digest):
            return
        config = images.config_of(client, manifest)
        if found.platform is None and not self._matcher.matches(config.platform):
            return
        self._unpack_layers(client, manifest.layers, config.diff_ids)

    def _unpack_layers(
        self, client: Client, layers: Sequence[oci.Descriptor], diff_ids: Sequence[digests.Digest]
    ) -> None:
        if len(layers) != len(diff_ids):
            return
        parent = ""
        for layer, diff_id, chain_id in zip(layers, diff_ids, digests.chain_ids(diff_ids), strict=True):
            if not self._fetcher.wait_for(layer.digest, begun=True):
                return
            unpack.unpack_layer(
                client,
                self._snapshotter,
                layer,
                diff_id,
                chain_id,
                parent,
                follow=True,
                sync_fs=self._sync_fs,
            )
            parent = chain_id
