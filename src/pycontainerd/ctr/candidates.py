"""What can stand next on a command line, for `--generate-bash-completion`: flags, and names that the daemon knows."""

from __future__ import annotations

from pycontainerd.client.transport import is_answering
from pycontainerd.lib.errdefs import ContainerdError

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Command
    from pycontainerd.ctr.flags import Flag, Values

_CONNECT_TIMEOUT_S: Final = 2


def flags_of(flags: Iterable[Flag]) -> list[str]:
    """Every name with its dashes; hidden ones left out."""
    return [
        f"{'-' if len(name) == 1 else '--'}{name}" for flag in flags if not flag.hidden for name in flag.names
    ]


def arguments_of(title: str, command: Command, root: Values, given: Sequence[str]) -> list[str]:
    """Names that fit the command's next argument: containers, images, namespaces ...; nothing where nobody answers."""
    words = command.arguments.replace("[flags]", "").split()
    wanted = words[min(len(given), len(words) - 1)].strip("[]<>,.") if words else ""
    walk = _SOURCES.get(wanted) or _BY_NOUN.get((title.split()[1], wanted))
    address = root.text("address")
    # No daemon is started for this.
    if walk is None or not is_answering(address):
        return []
    from pycontainerd.client.client import Client

    try:
        with Client(address, root.text("namespace"), connect_timeout_s=_CONNECT_TIMEOUT_S) as client:
            return sorted(set(walk(client)) - set(given))
    except ContainerdError:
        return []  # somebody is typing: no place for an error


def _containers(client: Client) -> Iterable[str]:
    from pycontainerd.client import containers

    return (record.id for record in containers.walk(client))


def _images(client: Client) -> Iterable[str]:
    from pycontainerd.client import images

    return (image.name for image in images.walk(client))


def _digests(client: Client) -> Iterable[str]:
    from pycontainerd.client import content

    return (info.digest for info in content.walk(client))


def _snapshots(client: Client) -> Iterable[str]:
    from pycontainerd.client import snapshots

    return (info.name for info in snapshots.walk(client, snapshots.DEFAULT))


def _leases(client: Client) -> Iterable[str]:
    from pycontainerd.client import leases

    return (lease.id for lease in leases.walk(client))


def _sandboxes(client: Client) -> Iterable[str]:
    from pycontainerd.client import sandboxes

    return (one.sandbox_id for one in sandboxes.walk(client))


def _namespaces(client: Client) -> Iterable[str]:
    from pycontainerd.lib.api.light import namespaces_v1

    request = namespaces_v1.ListNamespacesRequest()
    return (space.name for space in client.call(namespaces_v1.NAMESPACES, "List", request).namespaces)


_SOURCES: dict[str, Callable[[Client], Iterable[str]]] = {
    "CONTAINER": _containers,
    "Image|RootFS": _images,
    "image": _images,
    "source_ref": _images,
    "local": _images,
    "digest": _digests,
    "key": _snapshots,
    "idA": _snapshots,
    "idB": _snapshots,
}
_BY_NOUN: dict[tuple[str, str], Callable[[Client], Iterable[str]]] = {
    ("images", "ref"): _images,
    ("images", "name"): _images,
    ("snapshots", "name"): _snapshots,
    ("leases", "lease"): _leases,
    ("sandboxes", "id"): _sandboxes,
    ("sandboxes", "sandbox"): _sandboxes,
    ("namespaces", "name"): _namespaces,
}
