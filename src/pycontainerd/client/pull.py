"""Pulling an image: resolve, fetch what matches side by side, label it for the collector, name it.

    resolve ref -> descriptor
    fetch(descriptor):  in the store already? else GET -> ingest -> commit (the daemon verifies size and digest)
      a document: its children are labelled on it (gc.ref.content.*), the matching ones are fetched in turn
    name -> descriptor

Several threads fetch, each with its own connection; the caller holds a lease. Every digest is fetched once, and the
graph is bounded in depth and number (CVE-2026-53493).

Spec: containerd client.Fetch; distribution-spec spec.md#pull
"""

from __future__ import annotations

import contextlib
import threading

from pycontainerd.client import content, images
from pycontainerd.lib import errdefs, platforms, trace
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.lib.registry.resolver import Resolver

DEFAULT_THREADS: Final = 4
MAX_DESCRIPTORS: Final = 10_000
SOURCE_LABEL: Final = "containerd.io/distribution.source"

WAITING, DOWNLOADING, UPLOADING = "waiting", "downloading", "uploading"
EXISTS, DONE = "exists", "done"


class Progress:
    """What has become of one descriptor; written by a fetching thread, read by whoever shows it."""

    __slots__ = ("descriptor", "offset", "ref", "started_at", "status")

    def __init__(self, descriptor: oci.Descriptor) -> None:
        self.descriptor = descriptor
        self.ref = content.ref_key(descriptor)
        self.status = WAITING
        self.offset = 0
        self.started_at = 0


class Fetcher:
    """One image's graph on its way into the content store."""

    def __init__(
        self,
        client: Client,
        resolver: Resolver,
        wanted: Sequence[platforms.Matcher],
        *,
        threads: int = DEFAULT_THREADS,
        all_metadata: bool = False,
    ) -> None:
        """`wanted`: the platforms; with `all_metadata` the documents of every other one are fetched too."""
        self._client = client
        self._resolver = resolver
        self._wanted = wanted
        self._threads = threads or DEFAULT_THREADS
        self._all_metadata = all_metadata
        self._condition = threading.Condition()
        self._queue: list[tuple[oci.Descriptor, int]] = []
        self._busy = 0
        self._has_ended = False
        self._error: BaseException | None = None
        self._ingests: set[str] = set()
        self.progress: dict[str, Progress] = {}
        self.moved = 0
        host = resolver.spec.hostname.partition(":")[0]
        self._source = f"{SOURCE_LABEL}.{host}", resolver.spec.path

    def run(self, target: oci.Descriptor, tick: Callable[[], None], interval_s: float = 0.1) -> None:
        """Fetches everything; `tick` is called now and then from this thread. Raises the first failure.

        Whatever ends it, no thread and no ingest of its own is left.
        """
        self._add(target, 0)
        traceparent = trace.traceparent()
        threads = [
            threading.Thread(target=self._work, args=(traceparent,), name=f"fetch-{number}")
            for number in range(self._threads)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                with self._condition:
                    self._condition.wait(interval_s)
                tick()
            with self._condition:
                self._has_ended = True
                self._condition.notify_all()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            if self._error is not None:
                self._resolver.cancel()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            if self._error is not None:
                self._abort_ingests()
        if self._error is not None:
            raise self._error

    def _add(self, descriptor: oci.Descriptor, depth: int) -> None:
        with self._condition:
            if descriptor.digest in self.progress:
                return
            if len(self.progress) >= MAX_DESCRIPTORS or depth > images.MAX_DEPTH:
                raise errdefs.InvalidArgument(
                    f"the image refers to more than {MAX_DESCRIPTORS} blobs, or too deeply: invalid argument"
                )
            self.progress[descriptor.digest] = Progress(descriptor)
            self._queue.append((descriptor, depth))
            self._condition.notify_all()

    def _work(self, traceparent: str) -> None:
        del traceparent  # spans of a thread follow the process's context
        try:
            with self._client.another() as client:
                while (item := self._take()) is not None:
                    try:
                        self._fetch(client, *item)
                    finally:
                        with self._condition:
                            self._busy -= 1
                            self._condition.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by run(), in the caller's thread
            self._fail(error)

    def _take(self) -> tuple[oci.Descriptor, int] | None:
        with self._condition:
            while not self._queue:
                if not self._busy or self._error is not None:
                    return None
                self._condition.wait()
            if self._error is not None:
                return None
            self._busy += 1
            return self._queue.pop(0)

    def _fail(self, error: BaseException) -> None:
        with self._condition:
            # The first failure is the cause; what it cancels is not.
            self._error = self._error or error
            self._condition.notify_all()
        self._resolver.cancel()

    def _fetch(self, client: Client, descriptor: oci.Descriptor, depth: int) -> None:
        progress = self.progress[descriptor.digest]
        if descriptor.media_type in {oci.DOCKER_SCHEMA1, oci.DOCKER_SCHEMA1_SIGNED}:
            raise errdefs.Unimplemented(
                f"{descriptor.digest} is a docker schema 1 manifest, which is not supported: not implemented",
                hint="ask for the image to be pushed again by a newer docker",
            )
        is_labelled = self._download(client, descriptor, progress)
        children = images.children(client, descriptor)
        labels = child_labels(children)
        if not is_labelled:
            labels |= self._source_label(client, descriptor)
        if labels:
            content.set_labels(client, descriptor.digest, labels)
        for child in self._matching(descriptor, children):
            self._add(child, depth + 1)
        progress.offset = descriptor.size
        self._set_status(progress, DONE)

    def _set_status(self, progress: Progress, status: str) -> None:
        with self._condition:
            progress.status = status
            self._condition.notify_all()

    def wait_for(self, digest: str, *, begun: bool = False) -> bool:
        """Waits, beside `run`, until a blob is there (or its bytes have begun to come); False when it will not be."""
        enough = {EXISTS, DONE, DOWNLOADING} if begun else {EXISTS, DONE}

        def has_come() -> bool:
            progress = self.progress.get(digest)
            return progress is not None and progress.status in enough

        with self._condition:
            self._condition.wait_for(lambda: has_come() or self._error is not None or self._has_ended)
            return has_come()

    def _matching(self, parent: oci.Descriptor, children: Sequence[oci.Descriptor]) -> list[oci.Descriptor]:
        """Of an index, the best entry for each platform that is wanted; of anything else, everything."""
        if not oci.is_index(parent.media_type):
            return [child for child in children if not self._is_left_out(parent, child)]
        if self._all_metadata:
            return list(children)
        places: set[int] = set()
        for matcher in self._wanted:
            ranked = platforms.best([child.platform for child in children], matcher)
            places.update(ranked if matcher.is_open else ranked[:1])
        return [child for place, child in enumerate(children) if place in places]

    def _is_left_out(self, manifest: oci.Descriptor, child: oci.Descriptor) -> bool:
        """With all metadata: the layers of platforms that nobody wants."""
        if not self._all_metadata or oci.is_config(child.media_type):
            return False
        platform = manifest.platform
        if platform is None:
            return not self._wanted
        return not any(matcher.matches(platform) for matcher in self._wanted)

    def _download(self, client: Client, descriptor: oci.Descriptor, progress: Progress) -> bool:
        """Whether the blob is new, and has its source's label: a layer then costs no call more."""
        if (oci.is_index(descriptor.media_type) or oci.is_manifest(descriptor.media_type)) and (
            descriptor.size > oci.MAX_DOCUMENT_BYTES
        ):
            raise errdefs.InvalidArgument(
                f"{descriptor.digest} is larger than a manifest may be: invalid argument"
            )
        ref = progress.ref
        with trace.span("fetch", ref=ref):
            try:
                # Not a question whether it exists: only this makes a blob that does the lease's, safe from the collector.
                writer = content.open_writer(client, ref, total=descriptor.size, expected=descriptor.digest)
            except errdefs.AlreadyExists:
                self._set_status(progress, EXISTS)
                return False
            with self._condition:
                self._ingests.add(ref)
            with writer:
                if writer.offset > descriptor.size:
                    writer.restart()
                progress.offset = writer.offset
                self._set_status(progress, DOWNLOADING)
                for chunk in self._resolver.fetch(descriptor, writer.offset):
                    writer.write(chunk)
                    progress.offset = writer.offset
                    self.moved += len(chunk)
                key, repository = self._source
                is_new = True
                try:
                    writer.commit({key: repository})
                except errdefs.AlreadyExists:
                    is_new = False  # somebody else was faster
            with self._condition:
                self._ingests.discard(ref)
        return is_new

    def _source_label(self, client: Client, descriptor: oci.Descriptor) -> dict[str, str]:
        key, repository = self._source
        known = content.info(client, descriptor.digest).labels.get(key, "")
        repositories = sorted({*filter(None, known.split(",")), repository})
        return {key: ",".join(repositories)}

    def _abort_ingests(self) -> None:
        for ref in self._ingests:
            with contextlib.suppress(errdefs.ContainerdError):  # the lease's end collects it
                content.abort(self._client, ref)


def child_labels(children: Sequence[oci.Descriptor]) -> dict[str, str]:
    """What keeps the children of a document alive: gc.ref.content.m.N, l.N and config."""
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for child in children:
        if oci.is_index(child.media_type) or oci.is_manifest(child.media_type):
            prefix = "containerd.io/gc.ref.content.m."
        elif oci.is_layer(child.media_type):
            prefix = "containerd.io/gc.ref.content.l."
        elif oci.is_config(child.media_type):
            prefix = "containerd.io/gc.ref.content.config"
        else:
            prefix = "containerd.io/gc.ref.content."
        number = counts.get(prefix, 0)
        counts[prefix] = number + 1
        key = f"{prefix}{number}" if prefix.endswith(".") else f"{prefix}.{number}" if number else prefix
        labels[key] = str(child.digest)
    return labels
