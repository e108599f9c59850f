"""The transfers themselves, by the client library on the daemon's own socket, each in a thread.

Progress goes out as containerd's events: `waiting`, `downloading`, `already exists`, `complete` … for every blob, and
the big steps by name.

Spec: containerd core/transfer/local
Runs in: a thread of the daemon's transfer pool
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pycontainerd.client import archive, content, images, leases, pull, push, unpack
from pycontainerd.client.client import Client
from pycontainerd.client.unpack_along import UnpackAlong
from pycontainerd.daemon.transfer import names
from pycontainerd.daemon.transfer.bytestream import ByteReader, ByteWriter
from pycontainerd.daemon.transfer.progress import Tracker
from pycontainerd.lib import digest as digests
from pycontainerd.lib import platforms
from pycontainerd.lib.api.full import transfer_types, types
from pycontainerd.lib.errdefs import Canceled, ContainerdError, NotFound
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.resolver import Resolver
from pycontainerd.lib.registry.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.core.streams import Stream
    from pycontainerd.daemon.transfer.names import Reference
    from pycontainerd.lib.platforms import Matcher, Platform
    from pycontainerd.lib.registry.hosts import Options


@dataclass(frozen=True, slots=True)
class ImageStore:
    """Images here: what they are called, which of their platforms are meant, and what becomes a snapshot.

    `all_metadata`: a pull brings the manifests and configs of the other platforms, too.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[Platform] = ()
    references: Sequence[Reference] = ()
    unpacks: Sequence[tuple[Platform, str]] = ()
    all_metadata: bool = False

    @property
    def matcher(self) -> Matcher:
        return platforms.ordered(self.platforms) if self.platforms else platforms.everything()

    def __str__(self) -> str:
        return f"Local Image Store ({self.name})"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What goes into an archive."""

    matcher: platforms.Matcher
    with_manifest_json: bool = True
    with_foreign: bool = True


@dataclass(frozen=True, slots=True)
class Base:
    """What every job is given."""

    address: str
    kind: str
    namespace: str
    lease: str
    report: Callable[[Any], None]


class TransferJob(ABC):
    """Implements core.transfer.Job: opens the connection, holds a lease, and leaves the rest to `_transfer`."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._canceled = False

    def run(self) -> None:
        with Client(self._base.address, self._base.namespace, kind=self._base.kind) as client:
            client.lease = self._base.lease
            with leases.held(client):
                self._transfer(client)

    def cancel(self) -> None:
        self._canceled = True

    @abstractmethod
    def _transfer(self, client: Client) -> None: ...

    def _require_wanted(self) -> None:
        if self._canceled:
            raise Canceled("the transfer was canceled")

    def _say(self, event: str, name: str = "", descriptor: oci.Descriptor | None = None) -> None:
        """One step of the whole, to whoever follows the progress."""
        desc = None if descriptor is None else _wire(descriptor)
        self._base.report(transfer_types.Progress(event=event, name=name, desc=desc))

    def _store(
        self, client: Client, wanted: Sequence[str], target: oci.Descriptor, labels: Mapping[str, str]
    ) -> None:
        for name in wanted:
            images.create_or_update(client, name, _plain(target), labels)
            self._say("saved", name, target)

    def _unpack(self, client: Client, target: oci.Descriptor, store: ImageStore) -> None:
        """Snapshots for the configurations that an image has a platform for."""
        for platform, snapshotter in store.unpacks:
            with suppress(NotFound):  # as containerd: what doesn't match is left packed
                unpack.unpack(client, target, snapshotter, platforms.only(platform))


class Pull(TransferJob):
    """From a registry into the stores."""

    def __init__(self, base: Base, reference: str, options: Options, store: ImageStore, threads: int) -> None:
        super().__init__(base)
        self._threads = threads
        self._reference = reference
        self._resolver = Resolver(reference, options)
        self._wanted = store

    def cancel(self) -> None:
        super().cancel()
        self._resolver.cancel()

    def _transfer(self, client: Client) -> None:
        registry = f"OCI Registry ({self._reference})"
        self._say(f"Resolving from {registry}")
        try:
            target = _resolved(self._resolver)
            self._say(f"Pulling from {registry}")
            self._say("fetching image content", self._reference, target)
            self._fetch(client, target)
        finally:
            self._resolver.close()
        self._unpack(client, target, self._wanted)
        wanted = names.of_image(self._wanted.name, self._wanted.references, target)
        self._store(client, wanted, target, self._wanted.labels)
        self._say(f"Completed pull from {registry}")

    def _fetch(self, client: Client, target: oci.Descriptor) -> None:
        store = self._wanted
        matchers = [platforms.only(platform) for platform in store.platforms] or [platforms.everything()]
        fetcher = pull.Fetcher(
            client, self._resolver, matchers, threads=self._threads, all_metadata=store.all_metadata
        )
        tracker = Tracker(client, self._reference, fetcher.progress, self._base.report)

        def tick() -> None:
            self._require_wanted()
            tracker.report()

        if not store.unpacks:
            fetcher.run(target, tick)
        else:
            platform, snapshotter = store.unpacks[0]
            with UnpackAlong(client, fetcher, target, snapshotter, platforms.only(platform)):
                fetcher.run(target, tick)
        tracker.report()


class Push(TransferJob):
    """From the stores to a registry."""

    def __init__(self, base: Base, reference: str, options: Options, store: ImageStore, threads: int) -> None:
        super().__init__(base)
        self._threads = threads
        self._reference = reference
        self._uploader = Uploader(reference, options)
        self._source = store

    def cancel(self) -> None:
        super().cancel()
        self._uploader.cancel()

    def _transfer(self, client: Client) -> None:
        registry = f"OCI Registry ({self._reference})"
        try:
            image = images.get(client, self._source.name)
            target = images.from_wire(image.target)
            if self._source.platforms:
                target, _ = images.manifest_for(client, target, self._source.matcher)
            self._say(f"Pushing to {registry}")
            self._say("pushing content", image.name, target)
            spec = self._uploader.spec
            pusher = push.Pusher(client, self._uploader, threads=self._threads)
            tracker = Tracker(client, self._reference, pusher.progress, self._base.report)

            def tick() -> None:
                self._require_wanted()
                tracker.report()

            pusher.run(target, spec.tag if not spec.digest or spec.digest == target.digest else "", tick)
            tracker.report()
        finally:
            self._uploader.close()
        self._say(f"Completed push to {registry}", image.name, target)


class Import(TransferJob):
    """From an archive that the client sends into the stores."""

    def __init__(self, base: Base, stream: Stream, store: ImageStore, *, compress: bool) -> None:
        super().__init__(base)
        self._stream = stream
        self._wanted = store
        self._compress = compress

    def cancel(self) -> None:
        super().cancel()
        self._stream.abandon()

    def _transfer(self, client: Client) -> None:
        reader = ByteReader(self._stream)
        self._say("Importing")
        store = self._wanted
        try:
            descriptors = archive.load(client, reader, compress=self._compress)
            while reader.read(1 << 20):
                self._require_wanted()  # what comes after the archive's end belongs to nobody
        finally:
            reader.close()
        for descriptor in descriptors:
            archive.label_tree(client, descriptor, store.matcher)
        for descriptor in descriptors:
            self._unpack(client, descriptor, store)
        complete = names.of_image(store.name, store.references, None)
        if complete:
            index = _store_index(client, descriptors)
            self._store(client, names.of_image(store.name, store.references, index), index, store.labels)
        for descriptor in descriptors:
            self._store(client, names.of_archive(store.references, descriptor), descriptor, store.labels)
        self._say("Completed import")


class Export(TransferJob):
    """From the stores to an archive that the client receives."""

    def __init__(self, base: Base, stream: Stream, store: ImageStore, options: ExportOptions) -> None:
        super().__init__(base)
        self._stream = stream
        self._source = store
        self._options = options
        self._names = names.for_lookup(store.name, store.references)

    def cancel(self) -> None:
        super().cancel()
        self._stream.abandon()

    def _transfer(self, client: Client) -> None:
        writer = ByteWriter(self._stream)
        self._say("Exporting")
        options = self._options
        try:
            archive.export(
                client,
                writer.write,
                self._names,
                options.matcher,
                with_manifest_json=options.with_manifest_json,
                with_foreign=options.with_foreign,
            )
        finally:
            writer.close()
        self._say("Completed export")


class Tag(TransferJob):
    """Another name for an image that is here."""

    def __init__(self, base: Base, source: ImageStore, destination: ImageStore) -> None:
        super().__init__(base)
        self._source = source
        self._destination = destination

    def _transfer(self, client: Client) -> None:
        target = images.from_wire(images.get(client, self._source.name).target)
        wanted = names.of_image(self._destination.name, self._destination.references, target)
        if not wanted:
            raise NotFound("no image name found: not found")
        self._store(client, wanted, target, self._destination.labels)
        self._unpack(client, target, self._destination)


def _resolved(resolver: Resolver) -> oci.Descriptor:
    try:
        return resolver.resolve()
    except ContainerdError as e:
        raise type(e)(f"failed to resolve image: {e}", hint=e.hint) from e


def _store_index(client: Client, descriptors: Sequence[oci.Descriptor]) -> oci.Descriptor:
    """The archive's index as a blob of its own."""
    import json

    document = {"schemaVersion": 2, "manifests": [descriptor.to_json() for descriptor in descriptors]}
    data = json.dumps(document, separators=(",", ":")).encode()
    digest = digests.of(data)
    labels = pull.child_labels(list(descriptors))
    content.write_blob(client, f"index-{digest}", [data], size=len(data), digest=digest, labels=labels)
    return oci.Descriptor(oci.INDEX, digest, len(data))


def _plain(descriptor: oci.Descriptor) -> oci.Descriptor:
    return oci.Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _wire(descriptor: oci.Descriptor) -> types.Descriptor:
    return types.Descriptor(
        media_type=descriptor.media_type, digest=str(descriptor.digest), size=descriptor.size
    )
