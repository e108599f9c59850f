"""`ctr images push`: an image of the content store to a registry."""

from __future__ import annotations

from pycontainerd.client import content, images, push
from pycontainerd.ctr import session, text
from pycontainerd.ctr.progress import Display
from pycontainerd.ctr.registry_flags import registry_options
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry.uploader import Uploader

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call


def run(call: Call) -> int:
    """The command: resolves what to push, pushes it, and shows how it goes."""
    ref = call.argument(0)
    if not ref:
        raise InvalidArgument("please provide a remote image reference to push")
    if not call.flags.on("local"):
        from pycontainerd.ctr import image_transfer

        return image_transfer.push(call)
    options = registry_options(call)
    with session.connect(call) as client:
        target = _target(call, client, call.argument(1) or ref)
        uploader = Uploader(ref, options, text.inform)
        pusher = push.Pusher(
            client,
            uploader,
            threads=call.flags.number("max-concurrent-uploaded-layers"),
            with_foreign=call.flags.on("allow-non-distributable-blobs"),
        )
        screen = Display("")
        screen.resolved(pusher)
        try:
            pusher.run(target, _tag(uploader, target), screen.tick)
            screen.finish()
        finally:
            uploader.close()
    return 0


def _target(call: Call, client: Client, local: str) -> oci.Descriptor:
    flags = call.flags
    if flags.text("manifest"):
        try:
            digest = digests.parse(flags.text("manifest"))
        except InvalidArgument as error:
            reason = str(error).removesuffix(": invalid argument")
            raise InvalidArgument(f"invalid manifest digest: {reason}", hint=error.hint) from error
        return oci.Descriptor(flags.text("manifest-type"), digest, content.info(client, digest).size)
    try:
        target = images.from_wire(images.get(client, local).target)
    except errdefs.ContainerdError as error:
        raise type(error)(f"unable to resolve image to manifest: {error}", hint=error.hint) from error
    wanted = flags.texts("platform")
    if not wanted:
        return target
    if len(wanted) > 1:
        # Unlike ctr, which would push every platform then.
        raise InvalidArgument(
            "only one platform can be pushed by itself", hint="leave --platform out to push all of them"
        )
    return _of_platform(client, target, wanted[0])


def _of_platform(client: Client, target: oci.Descriptor, wanted: str) -> oci.Descriptor:
    try:
        platform = platforms.parse(wanted)
    except InvalidArgument as error:
        raise InvalidArgument(f'invalid platform "{wanted}": {error}', hint=error.hint) from error
    # Unlike ctr, which pushes everything when nothing matches.
    descriptor, _ = images.manifest_for(client, target, platforms.only(platform))
    return descriptor


def _tag(uploader: Uploader, target: oci.Descriptor) -> str:
    """The reference's tag; none where it names another digest than the one that is pushed."""
    spec = uploader.spec
    return spec.tag if not spec.digest or spec.digest == target.digest else ""
