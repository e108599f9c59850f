"""Converting an image: layers unpacked to plain tar, docker's media types to OCI's, an index to fewer platforms.

A document is rewritten only where something in it changed, its known keys in Go's order, so that the same image
converted by containerd has the same digest; keys nobody knows stay. Labels of the source go along, without the collector's.

Spec: containerd images/converter; image-spec media-types.md
"""

from __future__ import annotations

from pycontainerd.client import content, images, pull
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.oci import document as documents
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from pycontainerd.client.client import Client
    from pycontainerd.lib import platforms

_TO_OCI: Final = {
    oci.DOCKER_LIST: oci.INDEX,
    oci.DOCKER_MANIFEST: oci.MANIFEST,
    oci.DOCKER_CONFIG: oci.CONFIG,
    oci.DOCKER_LAYER: oci.LAYER,
    oci.DOCKER_LAYER_GZIP: oci.LAYER_GZIP,
    oci.DOCKER_LAYER_ZSTD: oci.LAYER_ZSTD,
    oci.DOCKER_FOREIGN: oci.LAYER_FOREIGN,
    oci.DOCKER_FOREIGN_GZIP: oci.LAYER_FOREIGN + "+gzip",
}
_PLAIN: Final = {
    oci.DOCKER_LAYER_GZIP: oci.DOCKER_LAYER,
    oci.DOCKER_LAYER_ZSTD: oci.DOCKER_LAYER,
    oci.DOCKER_FOREIGN_GZIP: oci.DOCKER_FOREIGN,
    oci.LAYER_GZIP: oci.LAYER,
    oci.LAYER_ZSTD: oci.LAYER,
    oci.LAYER_FOREIGN + "+gzip": oci.LAYER_FOREIGN,
    oci.LAYER_FOREIGN + "+zstd": oci.LAYER_FOREIGN,
}
# Go's struct fields, in order; a key that isn't there keeps its place behind them.
_DOCUMENT: Final = ("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations")
_DESCRIPTOR: Final = (
    "mediaType",
    "digest",
    "size",
    "urls",
    "annotations",
    "data",
    "platform",
    "artifactType",
)
_PLATFORM: Final = ("architecture", "os", "os.version", "os.features", "variant")
# Go leaves them out when they hold nothing.
_LEFT_OUT_EMPTY: Final = frozenset(
    {
        "mediaType",
        "annotations",
        "urls",
        "data",
        "platform",
        "artifactType",
        "os.version",
        "os.features",
        "variant",
    }
)
_GC: Final = "containerd.io/gc."
_UNCOMPRESSED: Final = "containerd.io/uncompressed"


class Converter:
    """What is to become of images: `matcher` says which entries of an index stay."""

    def __init__(
        self, client: Client, matcher: platforms.Matcher, *, uncompress: bool = False, to_oci: bool = False
    ) -> None:
        self._client = client
        self._matcher = matcher
        self._uncompress = uncompress
        self._to_oci = to_oci
        self._done: dict[str, oci.Descriptor] = {}

    def convert(self, descriptor: oci.Descriptor, depth: int = 0) -> oci.Descriptor:
        """The descriptor of the converted blob, which is in the content store; itself where nothing changes.

        The caller holds a lease. NotFound when a part isn't here, or when no entry of an index matches.
        """
        known = self._done.get(descriptor.digest)
        if known is None:
            if depth > images.MAX_DEPTH:
                raise errdefs.InvalidArgument(
                    f"index {descriptor.digest} is nested too deeply: invalid argument"
                )
            known = self._done[descriptor.digest] = self._convert(descriptor, depth)
        return oci.Descriptor(
            known.media_type,
            known.digest,
            known.size,
            urls=descriptor.urls if known.digest == descriptor.digest else (),
            annotations=descriptor.annotations,
            platform=descriptor.platform,
        )

    def _convert(self, descriptor: oci.Descriptor, depth: int) -> oci.Descriptor:
        if oci.is_index(descriptor.media_type) or oci.is_manifest(descriptor.media_type):
            return self._document(descriptor, depth)
        kind = descriptor.media_type
        if self._uncompress and kind in _PLAIN:
            return self._plain_layer(descriptor)
        return oci.Descriptor(self._kind(kind), descriptor.digest, descriptor.size)

    def _kind(self, media_type: str) -> str:
        return _TO_OCI.get(media_type, media_type) if self._to_oci else media_type

    def _document(self, descriptor: oci.Descriptor, depth: int) -> oci.Descriptor:
        data = content.read_blob(self._client, descriptor.digest)
        # Checked by the strict reader first; what is rewritten then is the document itself.
        children = _children(data, descriptor)
        document = documents.loads(data)
        kind = self._kind(descriptor.media_type)
        is_index = oci.is_index(descriptor.media_type)
        kept = self._kept(children) if is_index else children
        if is_index and not kept:
            raise errdefs.NotFound(
                f"no match for platform in manifest {descriptor.digest}: not found",
                hint="see which platforms it has with `image ls`, or give --all-platforms",
            )
        after = [self.convert(child, depth + 1) for child in kept]
        if kept == children == after and kind == descriptor.media_type:
            return descriptor
        entries = document["manifests"] if is_index else [document["config"], *document["layers"]]
        at = {id(child): entry for child, entry in zip(children, entries, strict=True)}
        rewritten = [_rewritten(at[id(before)], before, new) for before, new in zip(kept, after, strict=True)]
        document.update(
            {"manifests": rewritten} if is_index else {"config": rewritten[0], "layers": rewritten[1:]}
        )
        if "mediaType" in document:
            document["mediaType"] = kind
        return self._store(descriptor, kind, document, after)

    def _kept(self, children: Sequence[oci.Descriptor]) -> list[oci.Descriptor]:
        return [
            child for child in children if child.platform is None or self._matcher.matches(child.platform)
        ]

    def _store(
        self, source: oci.Descriptor, kind: str, document: dict[str, Any], children: Sequence[oci.Descriptor]
    ) -> oci.Descriptor:
        data = documents.dumps(_ordered(document, _DOCUMENT)).encode()
        digest = digests.of(data)
        labels = {**self._labels(source.digest), **pull.child_labels(children)}
        ref = f"convert-from-{source.digest}"
        content.write_blob(self._client, ref, [data], size=len(data), digest=digest, labels=labels)
        return oci.Descriptor(kind, digest, len(data))

    def _labels(self, digest: digests.Digest) -> dict[str, str]:
        found = content.info(self._client, digest).labels
        return {key: found[key] for key in found if not key.startswith(_GC) and key != _UNCOMPRESSED}

    def _plain_layer(self, layer: oci.Descriptor) -> oci.Descriptor:
        state, size = digests.new_hash(), 0
        with (
            trace.span("uncompress", digest=layer.digest),
            content.open_writer(self._client, f"convert-uncompress-from-{layer.digest}") as writer,
        ):
            writer.restart()
            for piece in self._inflated(layer):
                state.update(piece)
                size += len(piece)
                writer.write(piece)
            digest = digests.from_hash(state)
            try:
                writer.commit(self._labels(layer.digest))
            except errdefs.AlreadyExists:
                content.set_labels(self._client, digest, self._labels(layer.digest))
        return oci.Descriptor(self._kind(_PLAIN[layer.media_type]), digest, size)

    def _inflated(self, layer: oci.Descriptor) -> Iterator[bytes]:
        from pycontainerd.lib.archive import stream

        inflater = None
        for chunk in content.read(self._client, layer.digest):
            inflater = inflater or stream.inflater(chunk)
            yield from inflater.feed(chunk)
        if inflater is not None:
            yield from inflater.feed(b"")


def _children(data: bytes, descriptor: oci.Descriptor) -> list[oci.Descriptor]:
    if oci.is_index(descriptor.media_type):
        return oci.parse_index(data, descriptor.media_type).manifests
    manifest = oci.parse_manifest(data, descriptor.media_type)
    return [manifest.config, *manifest.layers]


def _rewritten(entry: dict[str, Any], before: oci.Descriptor, after: oci.Descriptor) -> dict[str, Any]:
    """The entry of a document for what its child has become; the rest of the entry stays."""
    found = {**entry, "mediaType": after.media_type, "digest": str(after.digest), "size": after.size}
    if after.digest != before.digest:
        # They lead to (or hold) the bytes of before.
        found.pop("urls", None)
        found.pop("data", None)
    if "platform" in found:
        found["platform"] = _ordered(found["platform"], _PLATFORM)
    return _ordered(found, _DESCRIPTOR)


def _ordered(document: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Known keys first, in Go's order, empty ones left out as Go does; the others after them."""
    known = {
        key: document[key]
        for key in keys
        if key in document and (document[key] or key not in _LEFT_OUT_EMPTY)
    }
    return {**known, **{key: value for key, value in document.items() if key not in keys}}
