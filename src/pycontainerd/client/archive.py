"""Images as tar files: OCI layouts (with docker's manifest.json beside) out, these and docker save's in.

Blobs go through the content store, so the daemon verifies every digest. Entry names are data: only
`blobs/<alg>/<hex>`, the four documents and what manifest.json lists are looked at, none becomes a path.

Spec: image-spec image-layout.md; docker image spec v1.2 (manifest.json)
"""

from __future__ import annotations

import contextlib
import os

from pycontainerd.client import content, images, pull
from pycontainerd.client.tar_reader import BLOCK, TarReader, clean
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms, reference
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Final

    from pycontainerd.client.client import Client
    from pycontainerd.client.tar_reader import Member, Source


NAME_ANNOTATION: Final = "io.containerd.image.name"
REF_ANNOTATION: Final = "org.opencontainers.image.ref.name"


class _Archive:
    """What an import has seen: documents by name, and the digest of every file it stored."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.files: dict[str, oci.Descriptor] = {}
        self.links: dict[str, str] = {}


def load(client: Client, stream: Source, *, compress: bool = False) -> list[oci.Descriptor]:
    """Stores an archive's blobs and gives the descriptors of its index; the caller holds a lease."""
    archive = _Archive()
    reader = TarReader(stream)
    for member in reader:
        if member.kind == "link":
            base = os.path.dirname(member.name)
            archive.links[member.name] = clean(os.path.normpath(f"{base}/{member.link}"))
        elif member.kind != "file":
            continue
        elif member.name in {"oci-layout", "index.json", "manifest.json"}:
            archive.documents[member.name] = reader.document()
        elif member.name.startswith("blobs/"):
            _store_blob(client, member, reader)
        elif member.name.endswith((".json", "/layer.tar", ".tar")):
            archive.files[member.name] = _store_file(client, member, reader, compress=compress)
    if "index.json" in archive.documents and "oci-layout" in archive.documents:
        _require_layout(archive.documents["oci-layout"])
        return oci.parse_index(archive.documents["index.json"]).manifests
    if "manifest.json" in archive.documents:
        return _from_docker(client, archive)
    raise errdefs.InvalidArgument(
        "unrecognized image format", hint="an image archive holds index.json and oci-layout, or manifest.json"
    )


def _require_layout(data: bytes) -> None:
    version = oci.load(data, "oci-layout").get("imageLayoutVersion")
    if version != "1.0.0":
        raise errdefs.InvalidArgument(f"unsupported OCI version {version}")


def _store_blob(client: Client, member: Member, reader: TarReader) -> None:
    parts = member.name.split("/")
    if len(parts) != 3:
        return
    digest = digests.parse(f"{parts[1]}:{parts[2]}")
    content.write_blob(client, f"tar-{digest}", reader.read(), size=member.size, digest=digest)


def _store_file(client: Client, member: Member, reader: TarReader, *, compress: bool) -> oci.Descriptor:
    """A file of docker save's layout, whose digest is known only after it is read."""
    state = digests.new_hash()
    size = 0
    ref = f"import-{os.urandom(8).hex()}"

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in (
            _compressed(reader.read()) if compress and member.name.endswith(".tar") else reader.read()
        ):
            state.update(chunk)
            size += len(chunk)
            yield chunk

    with content.open_writer(client, ref) as writer:
        for chunk in counted():
            writer.write(chunk)
        with contextlib.suppress(errdefs.AlreadyExists):
            writer.commit()
    media_type = oci.DOCKER_CONFIG if member.name.endswith(".json") else oci.DOCKER_LAYER
    if compress and member.name.endswith(".tar"):
        media_type = oci.DOCKER_LAYER_GZIP
    return oci.Descriptor(media_type, digests.from_hash(state), size)


def _compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()


def _from_docker(client: Client, archive: _Archive) -> list[oci.Descriptor]:
    import json

    try:
        entries = json.loads(archive.documents["manifest.json"])
    except ValueError as error:
        raise errdefs.InvalidArgument(f"untar manifest: {error}") from error
    if not isinstance(entries, list):
        raise errdefs.InvalidArgument("invalid manifest.json: not a list: invalid argument")
    found: list[oci.Descriptor] = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise errdefs.InvalidArgument("invalid manifest.json: not objects: invalid argument")
        descriptor = _docker_image(client, archive, entry)
        names = [str(name) for name in entry.get("RepoTags") or ()]
        found += [_named(descriptor, name) for name in names] or [descriptor]
    return found


def _docker_image(client: Client, archive: _Archive, entry: dict[str, Any]) -> oci.Descriptor:
    import json

    config = _file(archive, str(entry.get("Config", "")))
    layers = [_file(archive, str(name)) for name in entry.get("Layers") or ()]
    layers = [_gzip_aware(client, layer) for layer in layers]
    platform = oci.parse_config(content.read_blob(client, config.digest)).platform
    document = {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_MANIFEST,
        "config": oci.Descriptor(oci.DOCKER_CONFIG, config.digest, config.size).to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    data = json.dumps(document, separators=(",", ":")).encode()
    digest = digests.of(data)
    labels = pull.child_labels([oci.Descriptor(oci.DOCKER_CONFIG, config.digest, config.size), *layers])
    content.write_blob(client, f"manifest-{digest}", [data], size=len(data), digest=digest, labels=labels)
    return oci.Descriptor(oci.DOCKER_MANIFEST, digest, len(data), platform=platform)


def _gzip_aware(client: Client, layer: oci.Descriptor) -> oci.Descriptor:
    head = next(content.read(client, layer.digest, size=2), b"")
    kind = oci.DOCKER_LAYER_GZIP if head == b"\x1f\x8b" else oci.DOCKER_LAYER
    return oci.Descriptor(kind, layer.digest, layer.size)


def _file(archive: _Archive, name: str) -> oci.Descriptor:
    name = clean(name)
    name = archive.links.get(name, name)
    if name in archive.files:
        return archive.files[name]
    raise errdefs.InvalidArgument(f'"{name}" of manifest.json is not in the archive: invalid argument')


def _named(descriptor: oci.Descriptor, name: str) -> oci.Descriptor:
    full = str(reference.normalize_tagged(name))
    return oci.Descriptor(
        descriptor.media_type,
        descriptor.digest,
        descriptor.size,
        platform=descriptor.platform,
        annotations={NAME_ANNOTATION: full, REF_ANNOTATION: full.rpartition(":")[2]},
    )


def label_tree(
    client: Client,
    target: oci.Descriptor,
    matcher: platforms.Matcher,
    depth: int = 0,
    *,
    with_layers: bool = True,
) -> None:
    """Sets the collector's labels on an imported image's documents, for what is there and matches.

    Layers that aren't labelled are collected when the caller's lease ends.
    """
    if depth > images.MAX_DEPTH:
        raise errdefs.InvalidArgument(f"index {target.digest} is nested too deeply: invalid argument")
    try:
        children = images.children(client, target)
    except errdefs.NotFound:
        if depth:
            return  # of a platform that the archive leaves out
        raise
    if children:
        kept = [child for child in children if with_layers or not oci.is_layer(child.media_type)]
        content.set_labels(client, target.digest, pull.child_labels(kept))
    for child in children:
        is_document = oci.is_index(child.media_type) or oci.is_manifest(child.media_type)
        if is_document and (child.platform is None or matcher.matches(child.platform)):
            label_tree(client, child, matcher, depth + 1, with_layers=with_layers)


def export(
    client: Client,
    write: Callable[[bytes], object],
    names: Sequence[str],
    matcher: platforms.Matcher,
    *,
    with_manifest_json: bool = True,
    with_foreign: bool = True,
) -> None:
    """Writes images as one OCI layout, blobs in digest order, as containerd 1.6 lays it out."""
    import json

    entries: list[dict[str, Any]] = []
    blobs: dict[str, oci.Descriptor] = {}
    docker: dict[str, dict[str, Any]] = {}
    for name in names:
        target = images.from_wire(images.get(client, name).target)
        _collect(client, target, matcher, blobs, with_foreign=with_foreign)
        annotations = {**target.annotations, NAME_ANNOTATION: name, REF_ANNOTATION: _object(name)}
        entries.append(
            oci.Descriptor(target.media_type, target.digest, target.size, annotations=annotations).to_json()
        )
        if with_manifest_json:
            _, manifest = images.manifest_for(client, target, matcher)
            row = docker.setdefault(manifest.config.digest, _docker_row(manifest))
            row["RepoTags"].append(name)
    _directory(write, "blobs/")
    _directory(write, "blobs/sha256/")
    for digest in sorted(blobs):
        _write_blob(client, write, blobs[digest])
    index = {"schemaVersion": 2, "manifests": entries}
    _small(write, "index.json", json.dumps(index, separators=(",", ":")).encode(), 0o644)
    if with_manifest_json:
        _small(
            write, "manifest.json", json.dumps(list(docker.values()), separators=(",", ":")).encode(), 0o644
        )
    _small(write, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o444)
    write(b"\0" * 2 * BLOCK)


def size_of(client: Client, names: Sequence[str], matcher: platforms.Matcher, *, with_foreign: bool) -> int:
    """How many bytes of blobs `export` would write."""
    blobs: dict[str, oci.Descriptor] = {}
    for name in names:
        target = images.from_wire(images.get(client, name).target)
        _collect(client, target, matcher, blobs, with_foreign=with_foreign)
    return sum(descriptor.size for descriptor in blobs.values())


def _write_blob(client: Client, write: Callable[[bytes], object], descriptor: oci.Descriptor) -> None:
    digest = descriptor.digest
    _header(write, f"blobs/{digest.algorithm}/{digest.encoded}", descriptor.size, 0o444)
    size = 0
    for chunk in content.read(client, digest):
        write(chunk)
        size += len(chunk)
    if size != descriptor.size:
        raise errdefs.DataLoss(f"content {digest} has {size} bytes, its descriptor says {descriptor.size}")
    write(b"\0" * (-size % BLOCK))


def _collect(
    client: Client,
    target: oci.Descriptor,
    matcher: platforms.Matcher,
    blobs: dict[str, oci.Descriptor],
    *,
    with_foreign: bool,
) -> None:
    if target.digest in blobs or (oci.is_foreign_layer(target.media_type) and not with_foreign):
        return
    blobs[target.digest] = target
    for child in images.children(client, target):
        if not oci.is_index(target.media_type) or child.platform is None or matcher.matches(child.platform):
            _collect(client, child, matcher, blobs, with_foreign=with_foreign)


def _docker_row(manifest: oci.Manifest) -> dict[str, Any]:
    layers = [f"blobs/{layer.digest.algorithm}/{layer.digest.encoded}" for layer in manifest.layers]
    config = f"blobs/{manifest.config.digest.algorithm}/{manifest.config.digest.encoded}"
    return {"Config": config, "RepoTags": [], "Layers": layers}


def _object(name: str) -> str:
    try:
        spec = reference.parse_spec(name)
    except errdefs.InvalidArgument:
        return name
    return spec.object.partition("@")[0] or spec.object


def _directory(write: Callable[[bytes], object], name: str) -> None:
    _header(write, name, 0, 0o755, kind=b"5")


def _small(write: Callable[[bytes], object], name: str, data: bytes, mode: int) -> None:
    _header(write, name, len(data), mode)
    write(data + b"\0" * (-len(data) % BLOCK))


def _header(write: Callable[[bytes], object], name: str, size: int, mode: int, *, kind: bytes = b"0") -> None:
    size_field = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    fields = b"".join(
        (
            name.encode().ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % 0,
            b"%07o\0" % 0,
            size_field,
            b"%011o\0" % 0,
            b" " * 8,
            kind,
            b"\0" * 100,
            b"ustar\x0000",
            b"\0" * 64,
            b"0000000\x000000000\0",
        )
    ).ljust(BLOCK, b"\0")
    checksum = b"%06o\0 " % sum(fields)
    write(fields[:148] + checksum + fields[156:])
