"""Transfers by the daemon: pull, push, import, export and tag, with the streams that the daemon asks a client for.

    Streaming.Stream <─ StreamInit(name) ─ one call per stream, each on a connection and in a thread of its own
    Transfer(source, destination, names of the streams)

    bytes out    WindowUpdate ◀── …  Data ──▶ …  the end of our side is the end of the bytes
    bytes in     WindowUpdate ──▶ …  Data ◀── …  containerd never ends its side: the archive itself tells its end
    credentials  AuthRequest ◀──  AuthResponse ──▶
    progress     Progress ◀── …

Spec: containerd core/transfer/proxy, core/transfer/streaming
"""

from __future__ import annotations

import threading
from time import monotonic

from pycontainerd.client import leases
from pycontainerd.client.tar_reader import BLOCK, TarReader
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import streaming_v1, transfer_types, transfer_v1
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, Unavailable, Unimplemented

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
_STALL_S: Final = 60.0  # without a byte of an archive that hasn't come to its end


class Transfer:
    """One transfer: first its streams are opened by name, then `run` names them in source and destination."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last_thread: threading.Thread | None = None
        self._archive: _Arriving | None = None
        self._progress: threading.Thread | None = None
        self._progress_name = ""
        self._own_failure: Exception | None = None

    def sends(self, source: Source) -> str:
        """The name of a stream on which the daemon reads `source`, to its end."""
        read = self._guarded(source.read)
        return self._open("import", lambda stream: _send(stream, read))

    def receives(self, write: Callable[[bytes], object]) -> str:
        """The name of a stream on which an archive comes, which goes to `write`."""
        self._archive = _Arriving(self._guarded(write))
        return self._open("export", self._archive.receive, on_error=self._archive.fail)

    def answers(self, credentials: Credentials) -> str:
        """The name of a stream on which the daemon asks for a registry's credentials."""
        guarded = self._guarded(credentials)
        return self._open("creds", lambda stream: _answer(stream, guarded))

    def reports(self, report: Callable[[Any], object]) -> None:
        """Has `report` called, in a thread, with each Progress message of the transfer."""
        self._progress_name = self._open("progress", lambda stream: _report(stream, report))
        self._progress = self._last_thread

    def run(self, source: Message, destination: Message) -> None:
        """Waits for the transfer and for the bytes that it sends here; raises its error, or what writing them met."""
        options = transfer_v1.TransferOptions(progress_stream=self._progress_name)
        request = transfer_v1.TransferRequest(
            source=anys.pack(source), destination=anys.pack(destination), options=options
        )
        failure: ContainerdError | None = None
        try:
            self._client.call(transfer_v1.TRANSFER, "Transfer", request)
        except Unimplemented as error:
            raise _without_service(error) from error
        except ContainerdError as error:
            failure = error
        if self._progress is not None:
            self._progress.join(_PROGRESS_WAIT_S)
        if self._own_failure is not None:  # of which the daemon saw only that we went away
            raise self._own_failure
        if failure is not None:
            raise failure
        if self._archive is not None:
            self._archive.wait()
            if self._own_failure is not None:
                raise self._own_failure

    def _guarded(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function; what it raises is why the transfer fails."""

        def call(value: Any) -> Any:
            try:
                return function(value)
            except (ContainerdError, OSError) as error:
                self._own_failure = self._own_failure or error
                raise

        return call

    def _open(
        self,
        prefix: str,
        pump: Callable[[MessageStream], None],
        on_error: Callable[[Exception], None] | None = None,
    ) -> str:
        """Opens a stream and starts its thread, which doesn't keep this process from ending.

        Without `on_error` a stream's own errors say nothing that the Transfer call doesn't say.
        """
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
                if on_error is not None:
                    on_error(error)

        self._last_thread = threading.Thread(target=run, name=name, daemon=True)
        self._last_thread.start()
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


class _Arriving:
    """An archive on its way here: written as it comes, and read along for where it ends."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._stream: MessageStream | None = None
        self._window = 0
        self._buffer = bytearray()
        self._came = 0
        self._at_end = False
        self._failure: Exception | None = None
        self._has_ended = threading.Event()

    def receive(self, stream: MessageStream) -> None:
        """The whole archive; InvalidArgument when the stream ends before it does."""
        self._stream = stream
        for _ in TarReader(self):
            pass
        self.read(BLOCK)  # the second of the two empty blocks at the end
        self._has_ended.set()

    def fail(self, error: Exception) -> None:
        """The stream broke."""
        self._failure = error
        self._has_ended.set()

    def wait(self) -> None:
        """Until the archive has come; raises why it hasn't, Unavailable when the daemon sends nothing for a minute."""
        came, since = -1, monotonic()
        while not self._has_ended.wait(0.1):
            if came != self._came:
                came, since = self._came, monotonic()
            if monotonic() - since > _STALL_S:
                raise Unavailable(f"the daemon sent {came} bytes of an archive and not its end")
        if self._failure is not None:
            raise self._failure

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, fewer at the stream's end: for the tar reader."""
        assert self._stream is not None
        while len(self._buffer) < size and not self._at_end:
            if self._window <= WINDOW_BYTES // 2:
                self._stream.send(anys.pack(transfer_types.WindowUpdate(update=WINDOW_BYTES)))
                self._window += WINDOW_BYTES
            message = self._stream.receive()
            if message is None:
                self._at_end = True
                break
            data = _unpack(message, transfer_types.Data).data
            try:
                self._write(data)
            except (ContainerdError, OSError):  # which `run` raises once the transfer has ended
                # containerd 1.7 doesn't notice who goes away: the rest is taken, and thrown away.
                self._write = len
            self._window -= len(data)
            self._came += len(data)
            self._buffer += data
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found


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
