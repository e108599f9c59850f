"""Everything the daemon listens on: gRPC and ttrpc, and TCP, numbers and the debug socket where they are configured.

What is not configured is not imported either.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from pycontainerd.daemon import plugin, sockets
from pycontainerd.daemon.server.dispatch import Dispatcher
from pycontainerd.daemon.server.grpc import GrpcServer
from pycontainerd.daemon.server.ttrpc import TtrpcServer
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.version import REVISION, VERSION

if TYPE_CHECKING:
    import socket
    import ssl

    from pycontainerd.daemon.config import GrpcConfig, SocketConfig
    from pycontainerd.daemon.registration import Context
    from pycontainerd.daemon.server.metrics import CallMetrics
    from pycontainerd.daemon.service_manager import Inherited


class Server(Protocol):
    """What can be ended."""

    async def close(self) -> None: ...


class Endpoints:
    """`start` once, `close` once; `dispatcher` knows how busy they are."""

    def __init__(self, context: Context, inherited: Inherited, *, serves_grpc: bool = True) -> None:
        """ttrpc is always served: shims tell there what happens. Owns `inherited`."""
        self.dispatcher = Dispatcher(context.services)
        self._context = context
        self._inherited = inherited
        self._serves_grpc = serves_grpc
        self._servers: list[Server] = []
        self._paths: list[str] = []

    async def start(self) -> None:
        """Serves on everything that is configured; whatever fails, fails the start.

        gRPC's socket comes last: who finds it answering finds all the others too.
        """
        config = self._context.config
        metrics = await self._start_metrics()
        ttrpc = TtrpcServer(self.dispatcher, self._context.log)
        self._servers.append(ttrpc)
        await ttrpc.listen(self._unix(config.ttrpc_address, config.ttrpc))
        await self._start_tcp(metrics)
        if config.debug.address:
            await self._start_debug()
        if self._serves_grpc:
            grpc = self._grpc_server(self.dispatcher, metrics)
            await grpc.listen(self._unix(config.grpc.address, config.grpc))
        for name in self._inherited.close_rest():
            self._context.log.warning("inherited socket is no address of this daemon's", address=name)

    async def close(self) -> None:
        """Stops listening, ends every call, removes the sockets' files."""
        for server in self._servers:
            await server.close()
        for path in self._paths:
            sockets.remove_unix(path)

    def _grpc_server(self, dispatcher: Dispatcher, metrics: CallMetrics | None) -> GrpcServer:
        config = self._context.config.grpc
        server = GrpcServer(
            dispatcher,
            self._context.log,
            max_receive_bytes=config.max_recv_message_size,
            max_send_bytes=config.max_send_message_size,
            metrics=metrics,
        )
        self._servers.append(server)
        return server

    async def _start_tcp(self, metrics: CallMetrics | None) -> None:
        """gRPC on TCP. Who shows no certificate of the configured authority finds no service there.

        containerd serves nothing but CRI on TCP; everything else is as much as being root here.
        """
        config = self._context.config.grpc
        if config.tcp_tls_common_name:
            raise InvalidArgument(
                "grpc.tcp_tls_common_name names a certificate in Windows' store: not supported"
            )
        if not config.tcp_address:
            return
        tls = _tls_context(config)
        if tls is not None:
            self._context.log.info("setting up tls on tcp GRPC services...")
        dispatcher = self.dispatcher if config.tcp_tls_ca else Dispatcher(())
        server = self._grpc_server(dispatcher, metrics if config.tcp_tls_ca else None)
        for listener in self._tcp(config.tcp_address):
            await server.listen(listener, tls)
        self._context.log.info("serving...", address=config.tcp_address)

    async def _start_metrics(self) -> CallMetrics | None:
        config = self._context.config
        if not config.metrics.address:
            return None
        from pycontainerd.daemon.server import cgroup_metrics, http, metrics

        calls = metrics.CallMetrics(self.dispatcher, histogram=config.metrics.grpc_histogram)
        containers = cgroup_metrics.reader(
            self._context.instances.get(plugin.TASKS),
            self._context.get(plugin.CONTAINER_STORE),
            config.timeouts_s["io.containerd.timeout.metrics.shimstats"],
        )
        server = http.HttpServer(metrics.routes(VERSION, REVISION, calls, containers), self._context.log)
        self._servers.append(server)
        for listener in self._tcp(config.metrics.address):
            await server.listen(listener)
        self._context.log.info("serving...", address=config.metrics.address)
        return calls

    async def _start_debug(self) -> None:
        from pycontainerd.daemon.server import debug, http

        config = self._context.config.debug
        log = self._context.log
        server = http.HttpServer(debug.routes([*sys.orig_argv], log), log, debug.changes(log))
        self._servers.append(server)
        await server.listen(self._unix(config.address, config))

    def _tcp(self, address: str) -> list[socket.socket]:
        """Listening TCP sockets: those that were inherited for this address, or ones of our own."""
        return self._inherited.pop_tcp(address) or sockets.listen_tcp(address)

    def _unix(self, address: str, config: SocketConfig) -> socket.socket:
        """A listening unix socket: the one that was inherited for this address, or one of our own."""
        listener = self._inherited.pop(address)
        if listener is None:
            listener = sockets.listen_unix(address, config)
            self._paths.append(address)
        self._context.log.info("serving...", address=address)
        return listener


def _tls_context(config: GrpcConfig) -> ssl.SSLContext | None:
    """TLS as configured; None for plain TCP. InvalidArgument for keys that cannot be loaded."""
    if not config.tcp_tls_cert:
        if config.tcp_tls_ca or config.tcp_tls_key:
            raise InvalidArgument("grpc.tcp_tls_ca and tcp_tls_key need tcp_tls_cert")
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(config.tcp_tls_cert, config.tcp_tls_key or None, password=_no_password)
        if config.tcp_tls_ca:
            context.load_verify_locations(config.tcp_tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
        files = ", ".join(filter(None, (config.tcp_tls_cert, config.tcp_tls_key, config.tcp_tls_ca)))
        raise InvalidArgument(f"cannot load the keys of grpc.tcp_address ({files}): {e}") from e
    return context


def _no_password(*_: Any) -> str:
    raise ValueError("the key is encrypted")
