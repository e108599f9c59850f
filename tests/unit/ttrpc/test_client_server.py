"""The sync and asyncio clients against the asyncio server, over real sockets."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.lib.ttrpc import aio
from pycontainerd.lib.ttrpc.client import Client, Closed


async def echo(call: aio.Call, payload: bytes) -> bytes:
    return payload + b"|" + call.metadata.get("k", "").encode()


async def fail(call: aio.Call, payload: bytes) -> bytes:
    raise errdefs.NotFound(f"{payload.decode()}: not found")


async def crash(call: aio.Call, payload: bytes) -> bytes:
    raise ValueError("bug")


async def sleep(call: aio.Call, payload: bytes) -> bytes:
    await asyncio.sleep(30)
    return b""


async def double(call: aio.Call, stream: aio.ServerStream) -> None:
    async for message in stream:
        await stream.send(message * 2)


async def count(call: aio.Call, stream: aio.ServerStream) -> None:
    first = await stream.receive()
    for number in range(int(first or b"0")):
        await stream.send(b"%d" % number)


async def total(call: aio.Call, stream: aio.ServerStream) -> bytes:
    return b"%d" % sum([len(m) async for m in stream])


def make_server() -> aio.Server:
    server = aio.Server()
    for handler in (echo, fail, crash, sleep):
        server.register("t.S", handler.__name__, handler)
    server.register_stream("t.S", "double", double, client_streaming=True, server_streaming=True)
    server.register_stream("t.S", "count", count, client_streaming=False, server_streaming=True)
    server.register_stream("t.S", "total", total, client_streaming=True, server_streaming=False)
    return server


def bind(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    return listener


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """A server in a thread of its own."""
    path = str(tmp_path / "s")
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        server = make_server()
        await server.listen(bind(path))
        ready.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    yield "unix://" + path
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_call_returns_the_answer(address: str) -> None:
    with Client.connect(address) as client:
        assert client.call("t.S", "echo", b"hi", {"k": "v"}) == b"hi|v"
        big = bytes(3 << 20)
        assert client.call("t.S", "echo", big) == big + b"|"


def test_errors_arrive_typed(address: str) -> None:
    with Client.connect(address) as client:
        with pytest.raises(errdefs.NotFound, match=r"^x: not found$"):
            client.call("t.S", "fail", b"x")
        with pytest.raises(errdefs.Unknown, match=r"^bug$"):
            client.call("t.S", "crash")
        with pytest.raises(errdefs.Unimplemented, match=r"^service no.S$"):
            client.call("no.S", "echo")
        with pytest.raises(errdefs.Unimplemented, match=r"^method nope$"):
            client.call("t.S", "nope")


def test_deadline_passes_on_one_call_only(address: str) -> None:
    with Client.connect(address) as client:
        with pytest.raises(errdefs.DeadlineExceeded):
            client.call("t.S", "sleep", timeout_s=0.05)
        assert client.call("t.S", "echo", b"still") == b"still|"


def test_calls_share_a_connection(address: str) -> None:
    with Client.connect(address) as client:
        slow = client.start("t.S", "sleep", timeout_s=0.2)
        assert client.call("t.S", "echo", b"fast") == b"fast|"
        assert not slow.done
        while not slow.done:
            client.wait(None)
        with pytest.raises(errdefs.DeadlineExceeded):
            slow.result()


def test_streams_of_three_kinds(address: str) -> None:
    with Client.connect(address) as client:
        assert list(client.stream("t.S", "count", b"100")) == [b"%d" % n for n in range(100)]
        both = client.stream("t.S", "double", client_streaming=True)
        both.send(b"ab")
        assert both.receive(timeout_s=5) == b"abab"
        both.close_send()
        assert both.receive(timeout_s=5) is None
        up = client.stream("t.S", "total", client_streaming=True, server_streaming=False)
        for _ in range(50):
            up.send(bytes(1000))
        up.close_send()
        assert list(up) == [b"50000"]


def test_lost_connection_ends_calls_with_closed(tmp_path) -> None:
    listener = bind(str(tmp_path / "s"))
    listener.listen()
    with Client.connect(str(tmp_path / "s")) as client, listener:
        pending = client.start("t.S", "echo")
        listener.accept()[0].close()
        while not pending.done:
            client.wait(None)
        with pytest.raises(Closed, match=r"^ttrpc: closed$"):
            pending.result()
        with pytest.raises(Closed):
            client.call("t.S", "echo")


def test_connect_to_nobody_is_unavailable(tmp_path) -> None:
    with pytest.raises(errdefs.Unavailable, match="failed to dial"):
        Client.connect(str(tmp_path / "none"))
    with pytest.raises(errdefs.InvalidArgument, match="too long"):
        Client.connect("/" + "x" * 120)


def test_async_client_does_all_of_it(tmp_path) -> None:
    async def scenario() -> None:
        server = make_server()
        await server.listen(bind(str(tmp_path / "s")))
        client = await aio.Client.connect(str(tmp_path / "s"))
        answers = await asyncio.gather(*(client.call("t.S", "echo", b"%d" % n) for n in range(20)))
        assert answers == [b"%d|" % n for n in range(20)]
        with pytest.raises(errdefs.NotFound):
            await client.call("t.S", "fail", b"x")
        with pytest.raises(errdefs.DeadlineExceeded):
            await client.call("t.S", "sleep", timeout_s=0.05)
        assert [m async for m in client.stream("t.S", "count", b"1000")] == [b"%d" % n for n in range(1000)]
        stream = client.stream("t.S", "double", client_streaming=True)
        await stream.send(b"x")
        assert await stream.receive() == b"xx"
        stream.close_send()
        assert await stream.receive() is None
        waiting = asyncio.ensure_future(client.call("t.S", "sleep"))
        await asyncio.sleep(0.01)
        await server.close()
        with pytest.raises((Closed, errdefs.Canceled)):
            await waiting
        await client.closed.wait()

    asyncio.run(scenario())


def test_unauthorized_peer_is_hung_up_on(tmp_path) -> None:
    async def scenario() -> None:
        server = aio.Server(authorize=lambda peer: peer.uid == -1)
        server.register("t.S", "echo", echo)
        await server.listen(bind(str(tmp_path / "s")))
        client = await aio.Client.connect(str(tmp_path / "s"))
        with pytest.raises(Closed):
            await client.call("t.S", "echo")
        await server.close()

    asyncio.run(scenario())
