"""Which job a pair of source and destination is, and what its options mean.

Spec: containerd core/transfer/local, core/transfer/image, core/transfer/registry
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.transfer import jobs, names
from pycontainerd.lib import platforms
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import transfer_types as t
from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented
from pycontainerd.lib.registry.credentials import Credential
from pycontainerd.lib.registry.hosts import Options, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.streams import Stream
    from pycontainerd.lib.log import Logger


class LocalTransferrer:
    """Implements core.transfer.Transferrer. `address` and `kind` are those of the daemon's own socket.

    `settings` are the plugin's: config_path (hosts.toml folders where a request names none) and how many layers move at
    once.
    """

    def __init__(
        self,
        address: str,
        kind: str,
        settings: Mapping[str, Any],
        log: Logger,
        default_snapshotter: str = "overlayfs",
    ) -> None:
        self._address = address
        self._kind = kind
        self._settings = settings
        self._log = log
        self._default_snapshotter = default_snapshotter

    def job(
        self,
        scope: Scope,
        source: Any,
        destination: Any,
        streams: Mapping[str, Stream],
        report: Callable[[Any], None],
    ) -> jobs.TransferJob | None:
        base = jobs.Base(self._address, self._kind, scope.namespace, scope.lease, report)
        match source, destination:
            case t.OCIRegistry(), t.ImageStore():
                options = self._options(source, streams)
                threads = self._settings["max_concurrent_downloads"]
                return jobs.Pull(base, source.reference, options, self._store(destination), threads)
            case t.ImageStore(), t.OCIRegistry():
                options = self._options(destination, streams)
                threads = self._settings["max_concurrent_uploaded_layers"]
                return jobs.Push(base, destination.reference, options, self._store(source), threads)
            case t.ImageImportStream(), t.ImageStore():
                _require_archive(source)
                stream = streams[source.stream]
                return jobs.Import(base, stream, self._store(destination), compress=source.force_compress)
            case t.ImageStore(), t.ImageExportStream():
                _require_archive(destination)
                stream = streams[destination.stream]
                return jobs.Export(base, stream, self._store(source), _export_options(destination))
            case t.ImageStore(), t.ImageStore():
                return jobs.Tag(base, self._store(source), self._store(destination))
            case _:
                return None

    def _options(self, registry: Any, streams: Mapping[str, Stream]) -> Options:
        options = _options(registry, streams, self._log)
        options.hosts_dir = options.hosts_dir or self._settings["config_path"]
        return options

    def _store(self, message: Any) -> jobs.ImageStore:
        wanted = [_platform(platform) for platform in message.platforms]
        if message.manifest_limit and not 0 < len(wanted) <= message.manifest_limit:
            # One manifest per platform is what is fetched; a limit among all of them has no meaning here.
            raise Unimplemented(
                "transfer: manifest_limit needs platforms, and at most so many: not implemented"
            )
        return jobs.ImageStore(
            message.name,
            dict(message.labels),
            wanted,
            [
                names.Reference(r.name, r.is_prefix, r.allow_overwrite, r.add_digest, r.skip_named_digest)
                for r in message.extra_references
            ],
            [
                (
                    _platform(unpack.platform) if unpack.HasField("platform") else platforms.default(),
                    unpack.snapshotter or self._default_snapshotter,
                )
                for unpack in message.unpacks
            ],
            message.all_metadata,
        )


def _platform(message: Any) -> platforms.Platform:
    return platforms.Platform(message.os or "linux", message.architecture, message.variant)


def _require_archive(message: Any) -> None:
    """Of the media types of archives only the OCI layout's is known, which is the default."""
    if message.media_type not in (
        "",
        "application/vnd.oci.image.layout.v1+tar",
        "application/vnd.oci.image.layout.v1.tar",
    ):
        raise Unimplemented(f"transfer: archives of {message.media_type} are not supported: not implemented")


def _export_options(message: Any) -> jobs.ExportOptions:
    wanted: Sequence[platforms.Platform] = [_platform(platform) for platform in message.platforms]
    if message.all_platforms:
        matcher = platforms.everything()
    else:
        matcher = platforms.any_of(wanted) if wanted else platforms.default_matcher()
    return jobs.ExportOptions(
        matcher,
        with_manifest_json=not message.skip_compatibility_manifest,
        with_foreign=not message.skip_non_distributable,
    )


def _options(registry: Any, streams: Mapping[str, Stream], log: Logger) -> Options:
    """How a registry is spoken to. The daemon's own docker configuration is never asked for credentials."""
    resolver = registry.resolver
    if resolver.default_scheme not in ("", "http", "https"):
        raise InvalidArgument(f"transfer: unknown scheme {resolver.default_scheme}: invalid argument")
    stream = streams.get(resolver.auth_stream)

    def ask(host: str) -> Credential:
        return Credential("", "") if stream is None else AskedCredential(stream, host, registry.reference)

    return Options(
        hosts_dir=resolver.host_dir,
        scheme=resolver.default_scheme,
        headers=dict(resolver.headers),
        ask=ask,
        watch=_watch(resolver, streams, log),
    )


def _watch(resolver: Any, streams: Mapping[str, Stream], log: Logger) -> Watch | None:
    """What is told of everything said to the registry, where that is asked for."""
    wanted = resolver.http_debug
    if wanted == t.HTTPDebug.DISABLED:
        return None
    from pycontainerd.daemon.transfer.http_log import TransferWatch

    return TransferWatch(
        streams.get(resolver.logs_stream),
        log,
        dump=wanted in (t.HTTPDebug.DEBUG, t.HTTPDebug.BOTH),
        trace=wanted in (t.HTTPDebug.TRACE, t.HTTPDebug.BOTH),
    )


class AskedCredential(Credential):
    """A credential that the client is asked for when a registry first wants one."""

    __slots__ = ("_host", "_known", "_reference", "_stream")

    def __init__(self, stream: Stream, host: str, reference: str) -> None:
        self._stream = stream
        self._host = host
        self._reference = reference
        self._known: Credential | None = None

    @property
    def username(self) -> str:  # type: ignore[override]
        return self._answer().username

    @property
    def secret(self) -> str:  # type: ignore[override]
        return self._answer().secret

    def __bool__(self) -> bool:
        return bool(self._answer())

    def _answer(self) -> Credential:
        if self._known is None:
            self._known = self._ask()
        return self._known

    def _ask(self) -> Credential:
        request = t.AuthRequest(host=self._host, reference=self._reference)
        self._stream.send(TypedValue(anys.full_name(request), request.SerializeToString()))
        reply = self._stream.receive()
        if reply is None:
            return Credential("", "")
        answer = t.AuthResponse.FromString(reply.value)
        if answer.authType == t.AuthType.CREDENTIALS:
            return Credential(answer.username, answer.secret)
        if answer.authType == t.AuthType.REFRESH:
            return Credential("", answer.secret)
        if answer.authType == t.AuthType.HEADER:
            raise Unimplemented("transfer: whole authorization headers are not supported: not implemented")
        return Credential("", "")
