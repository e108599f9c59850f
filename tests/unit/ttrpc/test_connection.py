"""ttrpc state machines: the rules of streams, without a socket."""

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.lib.ttrpc import frame, wire
from pycontainerd.lib.ttrpc.connection import (
    ClientConnection,
    CloseEvent,
    DataEvent,
    RequestEvent,
    ResponseEvent,
    ServerConnection,
)


class Pair:
    """A client and a server joined by nothing but their bytes."""

    def __init__(self) -> None:
        self.client, self.server = ClientConnection(), ServerConnection()

    def to_server(self) -> list:
        return self.server.receive(self.client.take_output())

    def to_client(self) -> list:
        return self.client.receive(self.server.take_output())


@pytest.fixture
def pair() -> Pair:
    return Pair()


def request_frame(stream_id: int, flags: int = 0, body: bytes = b"\x0a\x01s\x12\x01m") -> bytes:
    return frame.encode(stream_id, frame.REQUEST, flags, body)


def only_status(server: ServerConnection) -> tuple[int, int, str]:
    (answer,) = frame.FrameReader().feed(server.take_output())
    assert answer.kind == frame.RESPONSE
    code, message, _ = wire.decode_response(answer.payload)
    return answer.stream_id, code, message


def test_unary_call_and_answer(pair: Pair) -> None:
    stream_id = pair.client.request("svc", "Do", b"in", {"Containerd-Namespace-Ttrpc": "k8s.io"}, 5)
    (event,) = pair.to_server()
    assert isinstance(event, RequestEvent)
    assert (event.request.service, event.request.method, event.request.payload) == ("svc", "Do", b"in")
    assert (event.request.metadata, event.request.timeout_nanos) == (
        {"containerd-namespace-ttrpc": "k8s.io"},
        5,
    )
    pair.server.respond(event.stream_id, b"out")
    (answer,) = pair.to_client()
    assert isinstance(answer, ResponseEvent)
    assert (answer.stream_id, answer.payload, answer.error) == (stream_id, b"out", None)
    assert pair.client.open_streams == pair.server.open_streams == 0


def test_stream_ids_are_odd_and_grow(pair: Pair) -> None:
    assert [pair.client.request("s", "m", b"") for _ in range(3)] == [1, 3, 5]


def test_answers_may_come_in_any_order(pair: Pair) -> None:
    first, second = pair.client.request("s", "a", b""), pair.client.request("s", "b", b"")
    pair.to_server()
    pair.server.respond(second, b"2")
    pair.server.respond(first, b"1")
    assert [(e.stream_id, e.payload) for e in pair.to_client()] == [(second, b"2"), (first, b"1")]


@pytest.mark.parametrize(
    "error",
    [errdefs.NotFound("x: not found"), errdefs.Conflict("conflict"), errdefs.Unimplemented("method Z")],
)
def test_errors_keep_their_type_and_text(pair: Pair, error: errdefs.ContainerdError) -> None:
    pair.client.request("s", "m", b"")
    pair.to_server()
    pair.server.fail(1, error)
    (answer,) = pair.to_client()
    assert type(answer.error) is type(error)
    assert str(answer.error) == str(error)


def test_bidirectional_stream_ends_on_both_sides(pair: Pair) -> None:
    stream_id = pair.client.request("s", "m", b"", client_streaming=True, server_streaming=True)
    (opened,) = pair.to_server()
    assert opened.client_streaming
    pair.client.send_data(stream_id, b"a")
    pair.client.send_data(stream_id, b"")
    pair.client.close_send(stream_id)
    pair.client.close_send(stream_id)
    first, second, closed = pair.to_server()
    assert isinstance(first, DataEvent) and first.payload == b"a"
    assert isinstance(second, DataEvent) and second.payload == b""
    assert isinstance(closed, CloseEvent)
    pair.server.send_data(stream_id, b"b")
    pair.server.close(stream_id)
    data, end = pair.to_client()
    assert isinstance(data, DataEvent) and data.payload == b"b"
    assert isinstance(end, CloseEvent)
    with pytest.raises(errdefs.FailedPrecondition):
        pair.client.send_data(stream_id, b"late")


def test_a_message_in_two_pieces_is_one(pair: Pair) -> None:
    stream_id = pair.client.request("s", "m", b"", client_streaming=True)
    pair.to_server()
    pair.client.send_data(stream_id, b"begin", memoryview(b"-end"))
    (data,) = pair.to_server()
    assert data.payload == b"begin-end"
    with pytest.raises(errdefs.ResourceExhausted):
        pair.client.send_data(stream_id, b"x", bytes(frame.MAX_PAYLOAD))
    body = bytearray(b"body")
    pair.client.send_data(stream_id, b"head", memoryview(body))
    assert [bytes(chunk)[-4:] for chunk in pair.client.take_chunks()] == [b"head", b"body"]


def test_server_stream_may_end_with_an_error(pair: Pair) -> None:
    stream_id = pair.client.request("s", "m", b"", server_streaming=True)
    pair.to_server()
    pair.server.send_data(stream_id, b"x")
    pair.server.fail(stream_id, errdefs.Aborted("stop"))
    data, end = pair.to_client()
    assert data.payload == b"x"
    assert isinstance(end.error, errdefs.Aborted)


def test_request_flags_on_the_wire() -> None:
    client = ClientConnection()
    client.request("s", "m", b"")
    client.request("s", "m", b"", client_streaming=True)
    client.request("s", "m", b"", server_streaming=True)
    sent = frame.FrameReader().feed(client.take_output())
    assert [f.flags for f in sent] == [0, frame.REMOTE_OPEN, frame.REMOTE_CLOSED]


@pytest.mark.parametrize(
    ("bad", "code", "text"),
    [
        (request_frame(2), 3, "StreamID must be odd for client initiated streams"),
        (request_frame(5), 3, "StreamID cannot be re-used"),
        (request_frame(3), 3, "StreamID cannot be re-used"),
        (frame.encode(9, frame.DATA, 0, b"x"), 3, "StreamID is no longer active"),
        (request_frame(7, body=b"\x0a"), 3, "unmarshal request error: unexpected EOF"),
        (
            b"\xff\xff\xff\xff\0\0\0\x07\x01\0",
            8,
            "message length 4294967295 exceed maximum message size of 4194304",
        ),
    ],
)
def test_bad_frames_are_answered_and_survived(bad: bytes, code: int, text: str) -> None:
    server = ServerConnection()
    server.receive(request_frame(5))
    server.respond(5, b"")
    server.take_output()
    assert server.receive(bad) == []
    assert only_status(server)[1:] == (code, text)


def test_data_after_close_is_refused() -> None:
    server = ServerConnection()
    server.receive(request_frame(1, frame.REMOTE_CLOSED))
    server.receive(frame.encode(1, frame.DATA, 0, b"x"))
    assert only_status(server) == (1, 3, "data handling error: stream is closed for data")


def test_answer_over_the_cap_becomes_resource_exhausted(pair: Pair) -> None:
    pair.client.request("s", "m", b"")
    pair.to_server()
    pair.server.respond(1, bytes(frame.MAX_PAYLOAD))
    (answer,) = pair.to_client()
    assert isinstance(answer.error, errdefs.ResourceExhausted)


def test_request_over_the_cap_is_refused_before_it_is_sent(pair: Pair) -> None:
    with pytest.raises(errdefs.ResourceExhausted):
        pair.client.request("s", "m", bytes(frame.MAX_PAYLOAD + 1))
    assert not pair.client.has_output()
    assert pair.client.request("s", "m", b"") == 1


def test_second_answer_and_answer_for_a_forgotten_call_vanish(pair: Pair) -> None:
    pair.client.request("s", "m", b"")
    pair.to_server()
    pair.server.respond(1, b"a")
    pair.server.respond(1, b"b")
    pair.client.forget(1)
    assert pair.to_client() == []


def test_unknown_frame_types_are_ignored() -> None:
    server = ServerConnection()
    assert server.receive(frame.encode(1, 77, 0, b"future")) == []
    assert not server.has_output()
