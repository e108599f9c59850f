"""`ctr images pull` and `ctr content fetch`: an image from its registry into the content store, shown as it goes."""

from __future__ import annotations

import time

from pycontainerd.client import images, leases, pull, unpack
from pycontainerd.client.unpack_along import UnpackAlong
from pycontainerd.ctr import display, session, text
from pycontainerd.ctr.flags import format_duration
from pycontainerd.ctr.progress import Display
from pycontainerd.ctr.registry_flags import platforms_of, registry_options, wants_all_metadata
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
    if not call.flags.on("local"):
        from pycontainerd.ctr import image_transfer

        return image_transfer.pull(call)
    wanted = platforms_of(call.flags)
    options = registry_options(call)
    with session.connect(call) as client, leases.held(client):
        fetch_ = _Fetch(
            call, client, ref, options, wanted, threads=call.flags.number("max-concurrent-downloads")
        )
        with fetch_.unpacking(session.snapshotter(call), sync_fs=call.flags.on("sync-fs")) as along:
            fetch_.run()
            started = time.monotonic_ns()
            _name_and_unpack(call, client, ref, fetch_.target, wanted, along)
    display.write(f"done: {format_duration(time.monotonic_ns() - started)}\t\n")
    return 0


def fetch(call: Call) -> int:
    """`content fetch`: fetches and names, without unpacking."""
    ref = call.argument(0)
    wanted = platforms_of(call.flags)
    options = registry_options(call)
    with session.connect(call) as client, leases.held(client):
        fetch_ = _Fetch(call, client, ref, options, wanted, only_metadata=call.flags.on("metadata-only"))
        fetch_.run()
        images.create_or_update(client, ref, fetch_.target, text.labels_from(call.flags.texts("label")))
    return 0


class _Fetch:
    """An image whose reference has been resolved, on its way into the content store."""

    def __init__(
        self,
        call: Call,
        client: Client,
        ref: str,
        options: Options,
        wanted: Sequence[platforms.Platform],
        *,
        threads: int = 0,
        only_metadata: bool = False,
    ) -> None:
        try:
            self._resolver = Resolver(ref, options, text.inform)
            self._screen = Display(ref)
            self.target = self._resolver.resolve()
        except ContainerdError as error:
            raise type(error)(f'failed to resolve reference "{ref}": {error}', hint=error.hint) from error
        self._client = client
        self._matchers = [platforms.only(platform) for platform in wanted] or [
            platforms.everything() if call.flags.on("all-platforms") else platforms.default_matcher()
        ]
        self._fetcher = pull.Fetcher(
            client,
            self._resolver,
            [] if only_metadata else self._matchers,
            threads=threads,
            all_metadata=only_metadata or wants_all_metadata(call.flags),
        )
        self._screen.resolved(self._fetcher)

    def unpacking(self, snapshotter: str, *, sync_fs: bool) -> UnpackAlong:
        """A context around `run` in which the first platform's layers are unpacked as they arrive."""
        return UnpackAlong(
            self._client, self._fetcher, self.target, snapshotter, self._matchers[0], sync_fs=sync_fs
        )

    def run(self) -> None:
        """Fetches everything and shows how it goes."""
        try:
            self._fetcher.run(self.target, self._screen.tick)
            self._screen.finish()
        finally:
            self._resolver.close()


def _name_and_unpack(
    call: Call,
    client: Client,
    ref: str,
    target: Descriptor,
    wanted: Sequence[platforms.Platform],
    along: UnpackAlong,
) -> None:
    existed = _exists(client, ref)
    images.create_or_update(client, ref, target, text.labels_from(call.flags.texts("label")))
    if not wanted:
        everything = call.flags.on("all-platforms")
        wanted = images.platforms_of(client, target) if everything else [platforms.default()]
    try:
        _unpack_all(call, client, target, wanted, along)
    except BaseException:
        if not existed:
            images.delete(client, ref)
        raise


def _exists(client: Client, name: str) -> bool:
    try:
        images.get(client, name)
    except NotFound:
        return False
    return True


def _unpack_all(
    call: Call,
    client: Client,
    target: Descriptor,
    wanted: Sequence[platforms.Platform],
    along: UnpackAlong,
) -> None:
    for platform in wanted:
        display.write(f"unpacking {platform} {target.digest}...\n")
        along.wait()
        chain_id = unpack.unpack(
            client,
            target,
            session.snapshotter(call),
            platforms.only(platform),
            sync_fs=call.flags.on("sync-fs"),
        )
        if call.flags.on("print-chainid"):
            display.write(f"image chain ID: {chain_id}\n")
