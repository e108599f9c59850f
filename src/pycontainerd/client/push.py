"""Pushing an image: every blob of its graph, then its documents, the image's own last and under its tag.

    walk(descriptor):  documents are read, children first; foreign layers are left out unless asked for
    blobs side by side, each by a thread with its own connection; then the documents in the order of the walk

Spec: containerd client.Push; distribution-spec spec.md#push
"""

from __future__ import annotations

import threading

from pycontainerd.client import content, images
from pycontainerd.client.pull import DONE, MAX_DESCRIPTORS, SOURCE_LABEL, UPLOADING, Progress
from pycontainerd.lib import errdefs
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.lib.registry.uploader import Uploader

DEFAULT_THREADS: Final = 4


class Pusher:
    """One image's graph on its way to a repository."""

    def __init__(
        self, client: Client, uploader: Uploader, *, threads: int = 0, with_foreign: bool = False
    ) -> None:
        self._client = client
        self._uploader = uploader
        self._threads = threads or DEFAULT_THREADS
        self._with_foreign = with_foreign
        self._lock = threading.Lock()
        self._blobs: list[oci.Descriptor] = []
        self._documents: list[oci.Descriptor] = []
        self._error: BaseException | None = None
        self.progress: dict[str, Progress] = {}
        self.moved = 0

    def run(
        self, target: oci.Descriptor, tag: str, tick: Callable[[], None], interval_s: float = 0.1
    ) -> None:
        """Pushes everything; `tick` is called now and then from this thread. Raises the first failure.

        NotFound for content that isn't here: nothing of the image is pushed then. No thread is left.
        """
        self._walk(target, 0)
        self._require_present()
        queue = self._blobs[::-1]
        threads = [
            threading.Thread(target=self._work, args=(queue,), name=f"push-{number}")
            for number in range(min(self._threads, len(queue)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(interval_s)
                    tick()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._error is not None:
            raise self._error
        for document in self._documents:
            self._push_document(document, tag if document.digest == target.digest else "")
            tick()

    def _walk(self, descriptor: oci.Descriptor, depth: int) -> None:
        if descriptor.digest in self.progress:
            return
        if oci.is_foreign_layer(descriptor.media_type) and not self._with_foreign:
            return
        if len(self.progress) >= MAX_DESCRIPTORS or depth > images.MAX_DEPTH:
            raise errdefs.InvalidArgument(
                f"the image refers to more than {MAX_DESCRIPTORS} blobs, or too deeply: invalid argument"
            )
        self.progress[descriptor.digest] = Progress(descriptor)
        if not (oci.is_index(descriptor.media_type) or oci.is_manifest(descriptor.media_type)):
            self._blobs.append(descriptor)
            return
        for child in images.children(self._client, descriptor):
            self._walk(child, depth + 1)
        # After its children: a registry refuses a document whose parts it doesn't have.
        self._documents.append(descriptor)

    def _require_present(self) -> None:
        for descriptor in self._blobs:
            try:
                content.info(self._client, descriptor.digest)
            except errdefs.NotFound as error:
                error.hint = "parts of the image were never pulled: pull it with --all-platforms, or push one --platform"
                raise

    def _work(self, queue: list[oci.Descriptor]) -> None:
        try:
            with self._client.another() as client:
                while (descriptor := self._take(queue)) is not None:
                    self._push_blob(client, descriptor)
        except BaseException as error:  # noqa: BLE001 - raised again by run(), in the caller's thread
            self._fail(error)

    def _take(self, queue: list[oci.Descriptor]) -> oci.Descriptor | None:
        with self._lock:
            return queue.pop() if queue and self._error is None else None

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            # The first failure is the cause; what it cancels is not.
            self._error = self._error or error
        self._uploader.cancel()

    def _push_blob(self, client: Client, descriptor: oci.Descriptor) -> None:
        progress = self.progress[descriptor.digest]

        def source(offset: int) -> Iterator[bytes]:
            progress.status, progress.offset = UPLOADING, offset
            for chunk in content.read(client, descriptor.digest, offset=offset):
                yield chunk
                progress.offset += len(chunk)
                with self._lock:
                    self.moved += len(chunk)

        try:
            self._uploader.put_blob(descriptor, source, self._origin(client, descriptor))
        except errdefs.ContainerdError as error:
            raise content.named(error, descriptor) from error
        progress.offset, progress.status = descriptor.size, DONE

    def _origin(self, client: Client, descriptor: oci.Descriptor) -> str:
        """A repository of the same registry that the blob came from, by the label that pulling left; or nothing."""
        host = self._uploader.spec.hostname.partition(":")[0]
        known = content.info(client, descriptor.digest).labels.get(f"{SOURCE_LABEL}.{host}", "")
        return next((name for name in known.split(",") if name and name != self._uploader.spec.path), "")

    def _push_document(self, descriptor: oci.Descriptor, tag: str) -> None:
        from pycontainerd.lib.registry import uploader

        progress = self.progress[descriptor.digest]
        data = content.read_blob(self._client, descriptor.digest)
        try:
            ended = self._uploader.put_document(descriptor, data, tag)
        except errdefs.ContainerdError as error:
            raise content.named(error, descriptor) from error
        if ended != uploader.EXISTED:
            self.moved += len(data)
        progress.offset, progress.status = descriptor.size, DONE
