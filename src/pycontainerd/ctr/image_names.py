"""`ctr images tag`, `label`, `delete` and `prune`: the names of images."""

from __future__ import annotations

from pycontainerd.client import containers, images
from pycontainerd.ctr import display, session, text
from pycontainerd.lib import digest as digests
from pycontainerd.lib import reference
from pycontainerd.lib.api.light import images_v1
from pycontainerd.lib.errdefs import AlreadyExists, ContainerdError, InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.ctr.command import Call


def tag(call: Call) -> int:
    """`images tag`."""
    source, targets = call.argument(0), call.arguments[1:]
    if not source:
        raise InvalidArgument("please provide an image reference to tag from")
    if not targets:
        raise InvalidArgument("please provide an image reference to tag to")
    if not call.flags.on("skip-reference-check"):
        for target in targets:
            _require_reference(target)
    with session.connect(call) as client:
        if not call.flags.on("local"):
            from pycontainerd.ctr import image_transfer

            for target in targets:
                image_transfer.tag(client, source, target)
            return 0
        image = images.get(client, source)
        descriptor = images.from_wire(image.target)
        for target in targets:
            try:
                images.create(client, target, descriptor, image.labels)
            except AlreadyExists:
                if not call.flags.on("force"):
                    raise
                images.delete(client, target)
                images.create(client, target, descriptor, image.labels)
            display.write(f"{target}\n")
    return 0


def _require_reference(target: str) -> None:
    """A name, tag and digest as docker takes them, or a bare digest."""
    if digests.is_valid(target) or digests.is_valid(f"sha256:{target}"):
        return
    try:
        reference.normalize(target)
    except InvalidArgument as error:
        raise InvalidArgument(
            f'error parsing reference: "{target}" is not a valid repository/tag {error}', hint=error.hint
        ) from error


def label(call: Call) -> int:
    """`images label`."""
    name, labels = call.argument(0), text.labels_from(call.arguments[1:])
    if not name:
        raise InvalidArgument("please specify an image")
    if not labels:
        raise InvalidArgument("please specify labels", hint="image label NAME KEY=VALUE; KEY= clears one")
    paths = ["labels"] if call.flags.on("replace-all") else [f"labels.{key}" for key in labels]
    with session.connect(call) as client:
        updated = images.update(client, images_v1.Image(name=name, labels=labels), paths)
    display.write(display.label_text(dict(updated.labels), "") + "\n")
    return 0


def delete(call: Call) -> int:
    """`images delete`."""
    failure: ContainerdError | None = None
    with session.connect(call) as client:
        for place, name in enumerate(call.arguments):
            last = place == len(call.arguments) - 1
            try:
                images.delete(client, name, sync=call.flags.on("sync") and last)
            except NotFound:
                text.warn(f"{name}: image not found")
                continue
            except ContainerdError as error:
                text.complain(f"unable to delete {name}", error=error)
                failure = failure or error
                continue
            display.write(f"{name}\n")
    if failure is not None:
        raise failure
    return 0


def prune(call: Call) -> int:
    """`images prune --all`: every name that no container was made from. The last one's end waits for the collection."""
    if not call.flags.on("all"):
        text.warn("No images pruned. `image prune` requires --all to be specified.")
        return 0
    with session.connect(call) as client:
        used = {record.image for record in containers.walk(client)}
        unused = [image.name for image in images.walk(client) if image.name not in used]
        for name in unused:
            try:
                images.delete(client, name, sync=name == unused[-1])
            except NotFound:
                continue
            except ContainerdError as error:
                text.warn(f"failed to delete image {name}", error=error)
                continue
            text.inform(f"deleted image: {name}\n")
    return 0
