"""`ctr content fetch-object`, `fetch-blob` and `push-object`: single objects of a registry, down and up."""

from __future__ import annotations

from pycontainerd.client import cio, content
from pycontainerd.ctr import display, session, text
from pycontainerd.ctr.commands.content import parse_digest
from pycontainerd.ctr.registry_flags import registry_options
from pycontainerd.lib import digest as digests
from pycontainerd.lib import reference
from pycontainerd.lib.errdefs import AlreadyExists, ContainerdError, DataLoss, InvalidArgument
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.resolver import Resolver
from pycontainerd.lib.registry.uploader import EXISTED, Uploader

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainerd.ctr.command import Call


def fetch_object(call: Call) -> int:
    """Resolves a reference and writes its bytes to stdout; what came is counted and hashed, as nobody else does."""
    ref = _with_object(call.argument(0), call.argument(1))
    resolver = Resolver(
        ref, registry_options(call), lambda *words, **fields: text.inform(*words, ref=ref, **fields)
    )
    try:
        _copy(resolver, resolver.resolve())
    finally:
        resolver.close()
    return 0


def fetch_blob(call: Call) -> int:
    """Writes blobs to stdout one after the other, each counted and hashed."""
    wanted = [parse_digest(argument) for argument in call.arguments[1:]]
    if not wanted:
        raise InvalidArgument("must specify digests", hint="content fetch-blob REPOSITORY sha256:...")
    options = registry_options(call)
    locator = reference.parse_spec(call.argument(0)).locator
    for digest in wanted:
        resolver = Resolver(f"{locator}@{digest}", options)
        try:
            found = resolver.resolve()
            media_type = call.flags.text("media-type") or found.media_type
            _copy(resolver, oci.Descriptor(media_type, digest, found.size))
        finally:
            resolver.close()
    return 0


def _copy(resolver: Resolver, descriptor: oci.Descriptor) -> None:
    """What came last may be what wasn't asked for: the error says so when it is written already."""
    state = digests.new_hash(algorithm=descriptor.digest.algorithm)
    for chunk in resolver.fetch(descriptor):
        state.update(chunk)
        cio.write_all(1, chunk)
    if digests.from_hash(state) != descriptor.digest:
        raise DataLoss(
            f"got {digests.from_hash(state)}, expected {descriptor.digest}", hint="the registry lies"
        )


def _with_object(ref: str, wanted: str) -> str:
    """The reference, with another tag or digest where one is given (ctr 1.6 leaves it unread)."""
    if not wanted:
        return ref
    locator = reference.parse_spec(ref).locator
    return f"{locator}{'@' if digests.is_valid(wanted) else ':'}{wanted}"


def push_object(call: Call) -> int:
    """Uploads a blob of the content store, or under the reference's tag a document."""
    digest = parse_digest(call.argument(1))
    options = registry_options(call)
    with session.connect(call) as client:
        descriptor = oci.Descriptor(call.argument(2), digest, content.info(client, digest).size)
        uploader = Uploader(call.argument(0), options, text.inform)
        if content.ref_key(descriptor).startswith("unknown-"):
            text.warn(f"reference for unknown type: {descriptor.media_type}", ref=call.argument(0))

        def source(offset: int) -> Iterator[bytes]:
            return content.read(client, digest, offset=offset)

        try:
            if oci.is_manifest(descriptor.media_type) or oci.is_index(descriptor.media_type):
                data = content.read_blob(client, digest)
                ended = uploader.put_document(descriptor, data, uploader.spec.tag)
            else:
                ended = uploader.put_blob(descriptor, source)
        except ContainerdError as error:
            raise content.named(error, descriptor) from error
        finally:
            uploader.close()
    if ended == EXISTED:
        raise AlreadyExists(f"content {digest} on remote: already exists")
    display.write(f"Pushed {digest} {descriptor.media_type}\n")
    return 0
