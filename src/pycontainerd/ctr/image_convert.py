"""`ctr images convert`: an image in another form, under another name."""

from __future__ import annotations

from pycontainerd.client import convert, images, leases
from pycontainerd.ctr import display, session
from pycontainerd.lib import errdefs, platforms
from pycontainerd.lib.api.light import images_v1
from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.oci.image import Descriptor


def run(call: Call) -> int:
    """The command: converts, names the result, and prints its digest."""
    source, target = call.argument(0), call.argument(1)
    if not source or not target:
        raise InvalidArgument("src and target image need to be specified")
    for name in ("erofs", "erofs-compressors", "erofs-mkfs-options"):
        if call.flags.is_set(name):
            raise _no_erofs(f"--{name}")
    matcher = _matcher(call)
    with session.connect(call) as client, leases.held(client):
        image = images.get(client, source)
        converter = convert.Converter(
            client, matcher, uncompress=call.flags.on("uncompress"), to_oci=call.flags.on("oci")
        )
        converted = converter.convert(images.from_wire(image.target))
        _name(client, image, target, converted)
    display.write(f"{converted.digest}\n")
    return 0


def build_erofs_cache(call: Call) -> int:
    """`images build-erofs-cache`: refused."""
    raise _no_erofs(f"{call.argument(0) or 'image'}: an EROFS cache")


def _no_erofs(what: str) -> Unimplemented:
    return Unimplemented(
        f"{what}: layers as EROFS images are not supported: not implemented",
        hint="--uncompress makes plain tar layers; mkfs.erofs --tar=f makes a file system of one by hand",
    )


def _matcher(call: Call) -> platforms.Matcher:
    if call.flags.on("all-platforms"):
        return platforms.everything()
    wanted: list[platforms.Platform] = []
    for one in call.flags.texts("platform"):
        try:
            wanted.append(platforms.parse(one))
        except InvalidArgument as error:
            raise InvalidArgument(f'invalid platform "{one}": {error}', hint=error.hint) from error
    return platforms.ordered(wanted or [platforms.default()])


def _name(client: Client, source: images_v1.Image, target: str, converted: Descriptor) -> None:
    """The new name has the source's labels; a name that exists is pointed at the result."""
    labels = dict(source.labels)
    try:
        images.create(client, target, converted, labels)
    except errdefs.AlreadyExists:
        wire = images_v1.Image(name=target, target=images.to_wire(converted), labels=labels)
        images.update(client, wire)
