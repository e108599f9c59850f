"""The client's side of a transfer's streams, against a daemon that keeps a window and leaves streams open as containerd does."""

from __future__ import annotations

import io
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pycontainerd.client import transfer
from pycontainerd.client.transfer import Transfer
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import streaming_v1, transfer_types, transfer_v1, wkt
from pycontainerd.lib.errdefs import Canceled, InvalidArgument, NotFound, Unavailable, Unimplemented

if TYPE_CHECKING:
    from pathlib import Path

    from pycontainerd.lib.api.codec import Message

STORE, REGISTRY = transfer_types.ImageStore(name="a"), transfer_types.OCIRegistry(reference="b")


class Pipe:
    """One stream, seen from both ends; a None is the end of what one side sends."""

    def __init__(self) -> None:
        self.sent: queue.Queue[Any] = queue.Queue()
        self.to_come: queue.Queue[Any] = queue.Queue()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sent.put(None)

    def send(self, message: Message) -> None:
        self.sent.put(message)

    def close_send(self) -> None:
        self.sent.put(None)

    def receive(self) -> Any:
        message = self.to_come.get()
        if isinstance(message, Exception):
            raise message
        return message

    def answer(self, message: Message) -> None:
        self.to_come.put(anys.pack(message))

    def next(self, kind: Any) -> Any:
        message = self.sent.get(timeout=10)
        return None if message is None else kind.FromString(message.value)


class Daemon:
    """A client whose other end a test plays. `serve` runs as the Transfer call, with the streams by the prefix of their names."""

    def __init__(self, serve: Callable[[dict[str, Pipe]], None]) -> None:
        self._serve = serve
        self.pipes: dict[str, Pipe] = {}
        self.request: transfer_v1.TransferRequest | None = None

    def another(self) -> Daemon:
        return self

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """A connection of a stream's own has ended."""

    def stream(self, service: object, method: str) -> Pipe:
        assert (service, method) == (streaming_v1.STREAMING, "Stream")
        pipe = Pipe()
        pipe.answer(wkt.Empty())
        self.pipes[f"unnamed {len(self.pipes)}"] = pipe
        return pipe

    def call(self, service: object, method: str, request: transfer_v1.TransferRequest) -> None:
        assert (service, method) == (transfer_v1.TRANSFER, "Transfer")
        self.request = request
        named = {}
        for pipe in self.pipes.values():
            init = pipe.next(streaming_v1.StreamInit)
            named[init.id.partition("-")[0]] = pipe
        self._serve(named)


Make = Callable[[Callable[[dict[str, Pipe]], None]], tuple[Daemon, Transfer]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Transfers to daemons that a test plays; their streams break when it is over, and their threads end."""
    daemons: list[Daemon] = []

    def made(serve: Callable[[dict[str, Pipe]], None]) -> tuple[Daemon, Transfer]:
        daemons.append(Daemon(serve))
        return daemons[-1], Transfer(daemons[-1])  # type: ignore[arg-type]

    yield made
    for daemon in daemons:
        for pipe in daemon.pipes.values():
            pipe.to_come.put(Canceled("the test is over"))
    for thread in threading.enumerate():
        if thread.name.startswith(("import-", "export-", "creds-", "progress-")):
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """A tar file with a long name, in which the second of the empty blocks at the end is the last."""
    (tmp_path / ("n" * 120)).write_bytes(b"x" * 100_000)
    made = subprocess.run(
        ["tar", "-cf", "-", "-b", "1", "-C", tmp_path, "n" * 120], capture_output=True, check=True
    )
    return made.stdout


def send_archive(pipe: Pipe, data: bytes) -> None:
    window = 0
    while data:
        while window <= 0:
            window += pipe.next(transfer_types.WindowUpdate).update
        part = data[: min(window, 32 << 10)]
        pipe.answer(transfer_types.Data(data=part))
        window -= len(part)
        data = data[len(part) :]


def test_an_archive_is_whole_although_its_stream_stays_open(make: Make, archive: bytes) -> None:
    _, moved = make(lambda pipes: send_archive(pipes["export"], archive))
    out = io.BytesIO()
    name = moved.receives(out.write)
    moved.run(STORE, transfer_types.ImageExportStream(stream=name))
    assert out.getvalue() == archive


def test_an_archive_that_is_cut_off_is_an_error(make: Make, archive: bytes) -> None:
    def serve(pipes: dict[str, Pipe]) -> None:
        send_archive(pipes["export"], archive[:50_000])
        pipes["export"].to_come.put(None)

    _, moved = make(serve)
    name = moved.receives(lambda _: None)
    with pytest.raises(InvalidArgument, match="unexpected EOF"):
        moved.run(STORE, transfer_types.ImageExportStream(stream=name))


def test_an_archive_that_stalls_is_an_error(
    make: Make, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_STALL_S", 0.2)
    _, moved = make(lambda pipes: send_archive(pipes["export"], archive[:50_000]))
    name = moved.receives(lambda _: None)
    with pytest.raises(Unavailable, match="the daemon sent 50000 bytes of an archive and not its end"):
        moved.run(STORE, transfer_types.ImageExportStream(stream=name))


def test_bytes_go_out_as_far_as_the_window_allows(make: Make) -> None:
    data = bytes(range(256)) * 1000
    found: list[bytes] = []

    def serve(pipes: dict[str, Pipe]) -> None:
        pipe = pipes["import"]
        for window in (10, 100_000, len(data)):
            assert pipe.sent.empty()  # nothing beyond the window
            pipe.answer(transfer_types.WindowUpdate(update=window))
            left = window
            while left > 0 and (message := pipe.next(transfer_types.Data)) is not None:
                assert len(message.data) <= 32 << 10
                found.append(message.data)
                left -= len(message.data)

    _, moved = make(serve)
    name = moved.sends(io.BytesIO(data))
    moved.run(transfer_types.ImageImportStream(stream=name), STORE)
    assert b"".join(found) == data


@pytest.mark.parametrize(("given", "kind"), [(("me", "s"), 1), (("", "token"), 2), (("", ""), 0)])
def test_credentials_are_given_for_the_host_that_asks(make: Make, given: tuple[str, str], kind: int) -> None:
    asked: list[str] = []

    def credentials(host: str) -> tuple[str, str]:
        asked.append(host)
        return given

    def serve(pipes: dict[str, Pipe]) -> None:
        pipes["creds"].answer(transfer_types.AuthRequest(host="h:1", reference="r"))
        reply = pipes["creds"].next(transfer_types.AuthResponse)
        assert (reply.authType, reply.username, reply.secret) == (kind, *given)

    _, moved = make(serve)
    moved.answers(credentials)
    moved.run(REGISTRY, STORE)
    assert asked == ["h:1"]


def test_progress_is_told_until_the_daemon_has_no_more(make: Make) -> None:
    def serve(pipes: dict[str, Pipe]) -> None:
        for number in range(3):
            pipes["progress"].answer(transfer_types.Progress(event=f"e{number}"))
        pipes["progress"].to_come.put(None)

    daemon, moved = make(serve)
    events: list[str] = []
    moved.reports(lambda said: events.append(said.event))
    moved.run(REGISTRY, STORE)
    assert events == ["e0", "e1", "e2"]
    assert daemon.request is not None
    assert daemon.request.options.progress_stream.startswith("progress-")
    assert daemon.request.source.type_url == "containerd.types.transfer.OCIRegistry"


def test_what_fails_here_is_the_reason(make: Make, archive: bytes) -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    def serve(pipes: dict[str, Pipe]) -> None:
        send_archive(pipes["export"], archive)  # containerd 1.7 would wait for ever for who has gone away

    _, moved = make(serve)
    name = moved.receives(full)
    with pytest.raises(OSError, match="No space left"):
        moved.run(STORE, transfer_types.ImageExportStream(stream=name))


def test_what_the_daemon_says_is_said(make: Make) -> None:
    def refuse(_: dict[str, Pipe]) -> None:
        raise NotFound('image "a": not found')

    _, moved = make(refuse)
    with pytest.raises(NotFound, match='image "a": not found'):
        moved.run(STORE, STORE)


def test_a_daemon_without_transfers(make: Make) -> None:
    def refuse(_: dict[str, Pipe]) -> None:
        raise Unimplemented("unknown service x")

    _, moved = make(refuse)
    with pytest.raises(
        Unimplemented, match="the daemon can't transfer images by itself: unknown service x"
    ) as found:
        moved.run(STORE, STORE)
    assert "--local" in found.value.hint
