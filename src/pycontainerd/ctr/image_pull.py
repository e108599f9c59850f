"""`ctr images pull` and `ctr content fetch`: an image from its registry into the content store, shown as it goes."""

from __future__ import annotations

import time

from pycontainerd.client import images, leases, pull, unpack
from pycontainerd.ctr import display, session, text
from pycontainerd.ctr.flags import format_duration
from pycontainerd.ctr.progress import Display
from pycontainerd.ctr.registry_flags import platforms_of, registry_options
from pycontainerd.lib import platforms
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, NotFound
from pycontainerd.lib.registry.resolver import Resolver

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.oci.image import Descriptor
    from pycontainerd.lib.registry.hosts import Options


def run(call: Call) -> int:
    """`images pull`: fetches, names and unpacks."""
    ref = call.argument(0)
    if not ref:
        raise InvalidArgument("please provide an image reference to pull")
    wanted = platforms_of(call.flags)
    options = registry_options(call)
    with session.connect(call) as client, leases.held(client):
        target = _fetch(
            call, client, ref, options, wanted, threads=call.flags.number("max-concurrent-downloads")
        )
        existed = _exists(client, ref)
        images.create_or_update(client, ref, target, text.labels_from(call.flags.texts("label")))
        started = time.monotonic_ns()
        if not wanted:
            everything = call.flags.on("all-platforms")
            wanted = images.platforms_of(client, target) if everything else [platforms.default()]
        try:
            _unpack_all(call, client, target, wanted)
        except BaseException:
            if not existed:
                images.delete(client, ref)
            raise
    display.write(f"done: {format_duration(time.monotonic_ns() - started)}\t\n")
    return 0


def fetch(call: Call) -> int:
    """`content fetch`: fetches and names, without unpacking."""
    ref = call.argument(0)
    wanted = platforms_of(call.flags)
    options = registry_options(call)
    with session.connect(call) as client, leases.held(client):
        target = _fetch(call, client, ref, options, wanted, only_metadata=call.flags.on("metadata-only"))
        images.create_or_update(client, ref, target, text.labels_from(call.flags.texts("label")))
    return 0


def _fetch(
    call: Call,
    client: Client,
    ref: str,
    options: Options,
    wanted: Sequence[platforms.Platform],
    *,
    threads: int = 0,
    only_metadata: bool = False,
) -> Descriptor:
    try:
        resolver = Resolver(ref, options, text.inform)
        screen = Display(ref)
        target = resolver.resolve()
    except ContainerdError as error:
        raise type(error)(f'failed to resolve reference "{ref}": {error}', hint=error.hint) from error
    matchers = [platforms.only(platform) for platform in wanted] or [
        platforms.everything() if call.flags.on("all-platforms") else platforms.default_matcher()
    ]
    fetcher = pull.Fetcher(
        client,
        resolver,
        [] if only_metadata else matchers,
        threads=threads,
        all_metadata=only_metadata or call.flags.on("all-metadata"),
    )
    screen.resolved(fetcher)
    try:
        fetcher.run(target, screen.tick)
        screen.finish()
    finally:
        resolver.close()
    return target


def _exists(client: Client, name: str) -> bool:
    try:
        images.get(client, name)
    except NotFound:
        return False
    return True


def _unpack_all(call: Call, client: Client, target: Descriptor, wanted: Sequence[platforms.Platform]) -> None:
    for platform in wanted:
        display.write(f"unpacking {platform} {target.digest}...\n")
        chain_id = unpack.unpack(client, target, session.snapshotter(call), platforms.only(platform))
        if call.flags.on("print-chainid"):
            display.write(f"image chain ID: {chain_id}\n")
