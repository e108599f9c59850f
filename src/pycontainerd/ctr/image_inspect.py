"""`ctr images inspect`: an image as a tree of its documents and blobs, with --content what is in the documents.

Spec: containerd pkg/display
"""

from __future__ import annotations

from pycontainerd.client import content, images
from pycontainerd.ctr import display, session
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.identifiers import quoted
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import images_v1, wkt

_MIDDLE, _LAST, _LINE, _SPACE = "├── ", "└── ", "│   ", "    "
_RULE: Final = "───────────────────────"


def run(call: Call) -> int:
    """The command; what isn't here is named and left out."""
    name = call.argument(0)
    if not name:
        raise InvalidArgument("please provide an image to inspect", hint="images ls lists them")
    with session.connect(call) as client:
        image = images.get(client, name)
        for line in _image(client, image, with_content=call.flags.on("content")):
            display.write(f"{line}\n")
    return 0


def _image(client: Client, image: images_v1.Image, *, with_content: bool) -> Iterator[str]:
    yield image.name
    yield f"{_LINE} Created: {_time(image.created_at)}"
    yield f"{_LINE} Updated: {_time(image.updated_at)}"
    for key in sorted(image.labels):
        yield f"{_LINE} Label {quoted(key)}: {quoted(image.labels[key])}"
    tree = _Tree(client, with_content=with_content)
    yield from tree.document(images.from_wire(image.target), _LAST, _SPACE, 0)


def _time(stamp: wkt.Timestamp) -> str:
    return display.go_time(stamp.seconds, stamp.nanos)


class _Tree:
    """The lines of descriptors; `head` stands before a descriptor's own line, `rest` before what belongs to it."""

    def __init__(self, client: Client, *, with_content: bool) -> None:
        self._client = client
        self._with_content = with_content

    def document(self, descriptor: oci.Descriptor, head: str, rest: str, depth: int) -> Iterator[str]:
        yield _line(head, descriptor)
        if depth > images.MAX_DEPTH:
            raise InvalidArgument(f"index {descriptor.digest} is nested too deeply: invalid argument")
        if descriptor.platform is not None and descriptor.platform.architecture:
            yield f"{rest}{_LINE} Platform: {descriptor.platform}"
        if not content.exists(self._client, descriptor.digest):
            yield f"{rest}{_LAST} Content does not exist locally, skipping"
            return
        yield from self._content(descriptor, f"{rest}{_LINE}")
        children = images.children(self._client, descriptor)
        for place, child in enumerate(children):
            is_last = place == len(children) - 1
            below = f"{rest}{_SPACE if is_last else _LINE}"
            own = f"{rest}{_LAST if is_last else _MIDDLE}"
            if oci.is_index(descriptor.media_type):
                yield from self.document(child, own, below, depth + 1)
                continue
            yield _line(own, child)
            if place == 0:  # a manifest's config
                yield from self._content(child, below)

    def _content(self, descriptor: oci.Descriptor, prefix: str) -> Iterator[str]:
        if not self._with_content:
            return
        labels = content.info(self._client, descriptor.digest).labels
        if labels:
            yield f"{prefix}┌────────Labels─────────"
            for key in sorted(labels):
                yield f"{prefix}│{quoted(key)}: {quoted(labels[key])}"
            yield f"{prefix}└{_RULE}"
        if descriptor.media_type.endswith("json"):
            data = content.read_blob(self._client, descriptor.digest).decode("utf-8", "replace")
            yield f"{prefix}┌────────Content────────"
            for line in indented(data).splitlines():
                yield f"{prefix}│{line}"
            yield f"{prefix}└{_RULE}"


def _line(head: str, descriptor: oci.Descriptor) -> str:
    return f"{head}{descriptor.media_type} @{descriptor.digest} ({descriptor.size} bytes)"


def indented(document: str) -> str:
    """JSON with a line for each of its values, three blanks a level (Go's json.Indent): strings and numbers stay as they are."""
    out: list[str] = []
    depth = place = 0
    while place < len(document):
        character = document[place]
        if character == '"':
            end = _string_end(document, place)
            out.append(document[place:end])
            place = end
            continue
        place += 1
        if character in "{[":
            depth += 1
            is_empty = document[place:].lstrip()[:1] in {"}", "]"}
            out.append(character if is_empty else f"{character}\n{'   ' * depth}")
        elif character in "}]":
            depth -= 1
            is_empty = out[-1][-1:] in {"{", "["}
            out.append(character if is_empty else f"\n{'   ' * depth}{character}")
        elif character == ",":
            out.append(f",\n{'   ' * depth}")
        elif character == ":":
            out.append(": ")
        elif not character.isspace():
            out.append(character)
    return "".join(out)


def _string_end(document: str, start: int) -> int:
    place = start + 1
    while place < len(document) and document[place] != '"':
        place += 2 if document[place] == "\\" else 1
    return place + 1
