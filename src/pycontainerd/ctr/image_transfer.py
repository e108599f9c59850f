"""`--local=false`: pulls, pushes, imports, exports and tags by the daemon itself, from the flags that its service knows.

Spec: containerd core/transfer
"""

from __future__ import annotations

import time

from pycontainerd.client.transfer import Transfer
from pycontainerd.ctr import display, session, text
from pycontainerd.ctr.meter import Meter
from pycontainerd.ctr.registry_flags import platforms_of, registry_options, wants_all_metadata
from pycontainerd.ctr.transfer_view import TransferView
from pycontainerd.lib import platforms, reference
from pycontainerd.lib.api.light import transfer_types as wire
from pycontainerd.lib.api.light import types
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.registry import credentials

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.client.tar_reader import Source
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.codec import Message

# What the messages to the daemon have no place for.
_CLIENT_ONLY: Final = (
    "skip-verify",
    "tlscacert",
    "tlscert",
    "tlskey",
    "http-dump",
    "http-trace",
    "sync-fs",
)
PULL_ONLY: Final = ("max-concurrent-downloads", "print-chainid", *_CLIENT_ONLY)
PUSH_ONLY: Final = (
    "manifest",
    "manifest-type",
    "max-concurrent-uploaded-layers",
    "allow-non-distributable-blobs",
    *_CLIENT_ONLY,
)
IMPORT_ONLY: Final = ("discard-unpacked-layers", *_CLIENT_ONLY)


def require_for_daemon(call: Call, names: Iterable[str]) -> None:
    """Refuses the flags that only a transfer from here can keep."""
    for name in names:
        if call.flags.is_set(name):
            raise InvalidArgument(
                f'"--{name}" requires "--local" flag',
                hint="leave --local=false out: the daemon can't be told",
            )


def pull(call: Call) -> int:
    """`images pull --local=false`."""
    require_for_daemon(call, PULL_ONLY)
    flags, ref = call.flags, call.argument(0)
    wanted = platforms_of(flags)
    if wanted and flags.on("all-platforms"):
        raise InvalidArgument("cannot specify both --platform and --all-platforms")
    if not wanted and not flags.on("all-platforms"):
        wanted = [platforms.default()]
    store = wire.ImageStore(
        name=ref,
        labels=text.labels_from(flags.texts("label")),
        platforms=_wire(wanted),
        all_metadata=wants_all_metadata(flags),
        unpacks=_unpacks(wanted, session.snapshotter(call)),
    )
    with session.connect(call) as client:
        transfer = Transfer(client)
        _show(transfer, _registry(call, transfer, ref), store)
    return 0


def push(call: Call) -> int:
    """`images push --local=false`."""
    require_for_daemon(call, PUSH_ONLY)
    ref, local = call.argument(0), call.argument(1) or call.argument(0)
    store = wire.ImageStore(name=local, platforms=_wire(platforms_of(call.flags)))
    with session.connect(call) as client:
        transfer = Transfer(client)
        _show(transfer, store, _registry(call, transfer, ref))
    return 0


def import_(call: Call, client: Client, source: Source, total: int) -> None:
    """`images import --local=false`, from an open archive of `total` bytes (0: only its end tells)."""
    require_for_daemon(call, IMPORT_ONLY)
    flags = call.flags
    base = flags.text("base-name")
    names = wire.ImageReference(
        name=base or f"import-{time.strftime('%Y-%m-%d')}",
        is_prefix=True,
        allow_overwrite=not base,
        add_digest=flags.on("digests"),
        skip_named_digest=flags.on("digests") and flags.on("skip-digest-for-named"),
    )
    one = platforms.parse(flags.text("platform")) if flags.text("platform") else platforms.default()
    store = wire.ImageStore(
        name=flags.text("index-name"),
        labels=text.labels_from(flags.texts("label")),
        platforms=[] if flags.on("all-platforms") else _wire([one]),
        extra_references=[names],
        unpacks=[] if flags.on("no-unpack") else _unpacks([one], session.snapshotter(call)),
    )
    transfer = Transfer(client)
    meter = Meter("importing", total)
    stream = transfer.sends(meter.reading(source))
    sent = wire.ImageImportStream(stream=stream, force_compress=flags.on("compress-blobs"))
    _show(transfer, sent, store, meter)


def export(
    call: Call,
    client: Client,
    names: Sequence[str],
    write: Callable[[bytes], object],
    meter: Meter,
    *,
    shown: bool,
) -> None:
    """`images export --local=false`, metered by `write` itself; not `shown` where the archive goes to stdout."""
    flags = call.flags
    store = wire.ImageStore(extra_references=[wire.ImageReference(name=name) for name in names])
    transfer = Transfer(client)
    out = wire.ImageExportStream(
        stream=transfer.receives(write),
        platforms=_wire(platforms_of(flags)),
        all_platforms=flags.on("all-platforms"),
        skip_compatibility_manifest=flags.on("skip-manifest-json"),
        skip_non_distributable=flags.on("skip-non-distributable"),
    )
    if shown:
        _show(transfer, store, out, meter)
    else:
        with meter:
            transfer.run(store, out)


def tag(client: Client, source: str, target: str) -> None:
    """`images tag --local=false`: one more name, which another image may lose."""
    Transfer(client).run(wire.ImageStore(name=source), wire.ImageStore(name=target))
    display.write(f"{target}\n")


def _show(transfer: Transfer, source: Message, destination: Message, meter: Meter | None = None) -> None:
    """Of archives the daemon reports steps only: a meter shows the bytes, and the tree comes at the end."""
    view = TransferView(redraws=meter is None)
    transfer.reports(view.take)
    if meter is None:
        transfer.run(source, destination)
    else:
        with meter:
            transfer.run(source, destination)
    view.finish()


def _registry(call: Call, transfer: Transfer, ref: str) -> wire.OCIRegistry:
    """The registry's side; what it asks for is answered as in a transfer from here, docker's config.json included."""
    options = registry_options(call)
    registry = reference.parse_spec(ref).hostname

    def answer(host: str) -> tuple[str, str]:
        found = credentials.for_host(host, registry, options)
        return found.username, found.secret

    resolver = wire.RegistryResolver(
        auth_stream=transfer.answers(answer),
        host_dir=options.hosts_dir,
        default_scheme="http" if options.plain_http else "",
    )
    return wire.OCIRegistry(reference=ref, resolver=resolver)


def _wire(wanted: Sequence[platforms.Platform]) -> list[types.Platform]:
    return [types.Platform(os=one.os, architecture=one.architecture, variant=one.variant) for one in wanted]


def _unpacks(wanted: Sequence[platforms.Platform], snapshotter: str) -> list[wire.UnpackConfiguration]:
    return [
        wire.UnpackConfiguration(platform=platform, snapshotter=snapshotter) for platform in _wire(wanted)
    ]
