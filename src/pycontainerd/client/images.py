"""Images: names of descriptors, and the documents behind them.

Spec: containerd images service, image-spec
"""

from __future__ import annotations

from pycontainerd.client import content
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms
from pycontainerd.lib.api.light import images_v1, types, wkt
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pycontainerd.client.client import Client

MAX_DEPTH = 8  # indexes inside indexes


def get(client: Client, name: str) -> images_v1.Image:
    """An image by its full name; NotFound, with ctr's text, when there is none."""
    reply: images_v1.GetImageResponse = client.call(
        images_v1.IMAGES, "Get", images_v1.GetImageRequest(name=name)
    )
    return reply.image


def walk(client: Client, filters: Sequence[str] = ()) -> list[images_v1.Image]:
    """The images of the namespace, by name."""
    reply: images_v1.ListImagesResponse = client.call(
        images_v1.IMAGES, "List", images_v1.ListImagesRequest(filters=list(filters))
    )
    return list(reply.images)


def create(
    client: Client, name: str, target: oci.Descriptor, labels: Mapping[str, str] | None = None
) -> images_v1.Image:
    """A new name; AlreadyExists when it is taken."""
    reply: images_v1.CreateImageResponse = client.call(
        images_v1.IMAGES,
        "Create",
        images_v1.CreateImageRequest(
            image=images_v1.Image(name=name, target=to_wire(target), labels=dict(labels or {}))
        ),
    )
    return reply.image


def update(client: Client, image: images_v1.Image, paths: Sequence[str] = ()) -> images_v1.Image:
    """Replaces the fields that `paths` name (all of them by default)."""
    mask = wkt.FieldMask(paths=list(paths)) if paths else None
    if not image.HasField("target"):
        # containerd 1.7 reads it whatever the paths, and a request without one ends the whole daemon.
        image.target = types.Descriptor()
    reply: images_v1.UpdateImageResponse = client.call(
        images_v1.IMAGES, "Update", images_v1.UpdateImageRequest(image=image, update_mask=mask)
    )
    return reply.image


def create_or_update(
    client: Client, name: str, target: oci.Descriptor, labels: Mapping[str, str] | None = None
) -> images_v1.Image:
    """Points a name at a descriptor, whether or not it existed."""
    try:
        return create(client, name, target, labels)
    except errdefs.AlreadyExists:
        image = images_v1.Image(name=name, target=to_wire(target), labels=dict(labels or {}))
        return update(client, image)


def delete(client: Client, name: str, *, sync: bool = False) -> None:
    """Removes a name; `sync` waits for the garbage collection that follows."""
    client.call(images_v1.IMAGES, "Delete", images_v1.DeleteImageRequest(name=name, sync=sync))


def to_wire(descriptor: oci.Descriptor) -> types.Descriptor:
    """The descriptor as the API carries it."""
    return types.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=dict(descriptor.annotations),
    )


def from_wire(descriptor: types.Descriptor) -> oci.Descriptor:
    """The descriptor of an image record; InvalidArgument for a digest that is none."""
    return oci.Descriptor(
        descriptor.media_type,
        digests.parse(descriptor.digest),
        descriptor.size,
        annotations=dict(descriptor.annotations),
    )


def children(client: Client, descriptor: oci.Descriptor) -> list[oci.Descriptor]:
    """What a blob of the content store points at: an index's manifests, or a manifest's config and layers."""
    if oci.is_index(descriptor.media_type):
        return oci.parse_index(content.read_blob(client, descriptor.digest), descriptor.media_type).manifests
    if oci.is_manifest(descriptor.media_type):
        manifest = oci.parse_manifest(content.read_blob(client, descriptor.digest), descriptor.media_type)
        return [manifest.config, *manifest.layers]
    return []


def manifest_for(
    client: Client, target: oci.Descriptor, matcher: platforms.Matcher
) -> tuple[oci.Descriptor, oci.Manifest]:
    """The best manifest that matches and is present; NotFound when there is none."""
    missing: errdefs.NotFound | None = None
    for descriptor in manifests_for(client, target, matcher):
        try:
            data = content.read_blob(client, descriptor.digest)
        except errdefs.NotFound as error:
            error.hint = "the image was pulled without this platform: pull it again with --platform"
            missing = missing or error
            continue
        manifest = oci.parse_manifest(data, descriptor.media_type)
        # An image that is one manifest is taken as it is, as containerd does.
        unsaid = descriptor.platform is None and descriptor.digest != target.digest
        if unsaid and not matcher.matches(config_of(client, manifest).platform):
            continue
        return descriptor, manifest
    raise missing or errdefs.NotFound(
        f"no match for platform in manifest {target.digest}: not found",
        hint="pull it for this platform with --platform, or see what it has with `image ls`",
    )


def manifests_for(
    client: Client, target: oci.Descriptor, matcher: platforms.Matcher, depth: int = 0
) -> Iterator[oci.Descriptor]:
    """Descriptors of the manifests that match, best first; the target itself when it is a manifest."""
    if oci.is_manifest(target.media_type):
        yield target
        return
    if not oci.is_index(target.media_type):
        raise errdefs.NotFound(f"unexpected media type {target.media_type} for {target.digest}: not found")
    if depth >= MAX_DEPTH:
        raise errdefs.InvalidArgument(f"index {target.digest} is nested too deeply: invalid argument")
    entries = children(client, target)
    for place in platforms.best([entry.platform for entry in entries], matcher):
        yield from manifests_for(client, entries[place], matcher, depth + 1)


def config_of(client: Client, manifest: oci.Manifest) -> oci.ImageConfig:
    """The config that a manifest points at."""
    return oci.parse_config(content.read_blob(client, manifest.config.digest))


def platforms_of(client: Client, target: oci.Descriptor) -> list[platforms.Platform]:
    """The platforms an image names, in the order of its index; of a plain manifest, its config's."""
    if oci.is_manifest(target.media_type):
        manifest = oci.parse_manifest(content.read_blob(client, target.digest), target.media_type)
        return [platforms.normalize(config_of(client, manifest).platform)]
    found: list[platforms.Platform] = []
    for entry in children(client, target):
        if entry.platform is not None:
            found.append(platforms.normalize(entry.platform))
            continue
        try:
            found += platforms_of(client, entry)
        except errdefs.NotFound:
            continue  # not fetched: of another platform
    return found


def size_of(
    client: Client, target: oci.Descriptor, matcher: platforms.Matcher
) -> tuple[int, errdefs.NotFound | None]:
    """Bytes of the target and of everything under it for the best matching platform.

    Beside them what was missing, if anything was: the bytes are then those counted until there.
    """
    total = target.size
    try:
        found = next(manifests_for(client, target, matcher), None)
        if found is None:
            return total, errdefs.NotFound("no match for platform in manifest: not found")
        if found.digest != target.digest:
            total += found.size
        manifest = oci.parse_manifest(content.read_blob(client, found.digest), found.media_type)
    except errdefs.NotFound as missing:
        return total, missing
    return total + manifest.config.size + sum(layer.size for layer in manifest.layers), None
