"""Transfers by the daemon: pull, push, import, export and tag, with the streams that the daemon asks a client for.

    Streaming.Stream <─ StreamInit(name) ─ one call per stream, each on a connection and in a thread of its own
    Transfer(source, destination, names of the streams)

    bytes out    WindowUpdate ◀── …  Data ──▶ …  the end of our side is the end of the bytes
    bytes in     WindowUpdate ──▶ …  Data ◀── …  the end of the daemon's side is the end of the bytes
    credentials  AuthRequest ◀──  AuthResponse ──▶
    progress     Progress ◀── …

Spec: containerd core/transfer/proxy, core/transfer/streaming
"""

from __future__ import annotations

import threading

from pycontainerd.client import leases
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import streaming_v1, transfer_types, transfer_v1
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from pycontainerd.client.client import Client, MessageStream
    from pycontainerd.client.tar_reader import Source
    from pycontainerd.lib.api.codec import Message

    # A registry's host -> name and secret; without a name the secret is a refresh token.
    Credentials = Callable[[str], tuple[str, str]]

MAX_DATA_BYTES: Final = 32 << 10
WINDOW_BYTES: Final = 2 * MAX_DATA_BYTES
_PROGRESS_WAIT_S: Final = 2.0  # for what the daemon still says of a transfer that has ended


class Transfer:
    """One transfer: first its streams are opened by name, then `run` names them in source and destination."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads: list[threading.Thread] = []
        self._progress: threading.Thread | None = None
        self._progress_name = ""
        self._own_failure: BaseException | None = None
        self._stream_failure: BaseException | None = None

    def sends(self, source: Source) -> str:
        """The name of a stream on which the daemon reads `source`, to its end."""
        read = self._guarded(source.read)
        return self._open("import", lambda stream: _send(stream, read))

    def receives(self, write: Callable[[bytes], object]) -> str:
        """The name of a stream whose bytes go to `write`."""
        guarded = self._guarded(write)
        return self._open("export", lambda stream: _receive(stream, guarded), awaited=True)

    def answers(self, credentials: Credentials) -> str:
        """The name of a stream on which the daemon asks for a registry's credentials."""
        guarded = self._guarded(credentials)
        return self._open("creds", lambda stream: _answer(stream, guarded))

    def reports(self, report: Callable[[Any], object]) -> None:
        """Has `report` called, in a thread, with each Progress message of the transfer."""
        self._progress_name = self._open("progress", lambda stream: _report(stream, report))
        self._progress = self._threads[-1]

    def run(self, source: Message, destination: Message) -> None:
        """Waits for the transfer and for the bytes that it sends here; raises its error, or what writing them met."""
        options = transfer_v1.TransferOptions(progress_stream=self._progress_name)
        request = transfer_v1.TransferRequest(
            source=anys.pack(source), destination=anys.pack(destination), options=options
        )
        try:
            self._client.call(transfer_v1.TRANSFER, "Transfer", request)
        except Unimplemented as error:
            raise _without_service(error) from error
        except ContainerdError:
            if self._own_failure is not None:  # the daemon saw only that we went away
                raise self._own_failure from None
            raise
        finally:
            if self._progress is not None:
                self._progress.join(_PROGRESS_WAIT_S)
        for thread in self._threads:
            if not thread.daemon:
                thread.join()
        failure = self._own_failure or self._stream_failure
        if failure is not None:
            raise failure

    def _guarded(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function; what it raises is why the transfer fails."""

        def call(value: Any) -> Any:
            try:
                return function(value)
            except (ContainerdError, OSError) as error:
                self._own_failure = self._own_failure or error
                raise

        return call

    def _open(self, prefix: str, pump: Callable[[MessageStream], None], *, awaited: bool = False) -> str:
        """Opens a stream and starts its thread; only one that is awaited keeps this process from ending."""
        name = f"{prefix}-{leases.random_id()}"
        client = self._client.another()
        try:
            stream = client.stream(streaming_v1.STREAMING, "Stream")
            stream.send(anys.pack(streaming_v1.StreamInit(id=name)))
            stream.receive()  # it can be found by its name from now on
        except Unimplemented as error:
            client.close()
            raise _without_service(error) from error
        except BaseException:
            client.close()
            raise

        def run() -> None:
            try:
                with client, stream:
                    pump(stream)
            except (ContainerdError, OSError) as error:
                self._stream_failure = self._stream_failure or error

        thread = threading.Thread(target=run, name=name, daemon=not awaited)
        self._threads.append(thread)
        thread.start()
        return name


def _without_service(error: Unimplemented) -> Unimplemented:
    return Unimplemented(
        f"the daemon can't transfer images by itself: {error}",
        hint="containerd has the transfer service since 1.7: do it from here with --local",
    )


def _send(stream: MessageStream, read: Callable[[int], bytes]) -> None:
    window = 0
    while True:
        while window <= 0:
            message = stream.receive()
            if message is None:
                return  # the daemon needs no more
            window += _unpack(message, transfer_types.WindowUpdate).update
        data = read(min(window, MAX_DATA_BYTES))
        if not data:
            break
        stream.send(anys.pack(transfer_types.Data(data=data)))
        window -= len(data)
    stream.close_send()
    while stream.receive() is not None:  # a connection that closes takes back what the daemon hasn't read
        pass


def _receive(stream: MessageStream, write: Callable[[bytes], object]) -> None:
    window = 0
    while True:
        if window <= WINDOW_BYTES // 2:
            stream.send(anys.pack(transfer_types.WindowUpdate(update=WINDOW_BYTES)))
            window += WINDOW_BYTES
        message = stream.receive()
        if message is None:
            return
        data = _unpack(message, transfer_types.Data).data
        write(data)
        window -= len(data)


def _answer(stream: MessageStream, credentials: Credentials) -> None:
    kinds = transfer_types.AuthType
    while (message := stream.receive()) is not None:
        request = _unpack(message, transfer_types.AuthRequest)
        username, secret = credentials(request.host)
        kind = kinds.CREDENTIALS if username else kinds.REFRESH if secret else kinds.NONE
        reply = transfer_types.AuthResponse(authType=kind, username=username, secret=secret)
        stream.send(anys.pack(reply))


def _report(stream: MessageStream, report: Callable[[Any], object]) -> None:
    while (message := stream.receive()) is not None:
        report(_unpack(message, transfer_types.Progress))


def _unpack(value: Any, message: Any) -> Any:
    if not anys.is_type(value, message):
        raise InvalidArgument(f"expected {anys.full_name(message)} on the stream, got {value.type_url}")
    return message.FromString(value.value)
