"""Events: in order, again after a loss, by the publish binary when there is no socket."""

import os
import socket
import threading

import pytest

from pycontainerd.lib.api.light import events, events_ttrpc_v1, wkt
from pycontainerd.lib.log import Logger
from pycontainerd.lib.ttrpc.connection import RequestEvent, ServerConnection
from pycontainerd.shim.loop import Loop
from pycontainerd.shim.publisher import Publisher
from pycontainerd.shim.reaper import Reaper
from pycontainerd.shim.world import World


class Daemon:
    """Accepts connections one after another; hangs up on the first `refuse` events instead of answering."""

    def __init__(self, path: str, refuse: int = 0) -> None:
        self.topics: list[str] = []
        self._refuse = refuse
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                self._serve_one(peer)

    def _serve_one(self, peer: socket.socket) -> None:
        connection = ServerConnection()
        while data := peer.recv(65536):
            for event in connection.receive(data):
                assert isinstance(event, RequestEvent)
                if self._refuse:
                    self._refuse -= 1
                    return
                self.topics.append(
                    events_ttrpc_v1.ForwardRequest.FromString(event.request.payload).envelope.topic
                )
                connection.respond(event.stream_id, wkt.Empty().SerializeToString())
            peer.sendall(connection.take_output())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def world():
    loop = Loop()
    reaper = Reaper(lambda exited: None)
    loop.on_signal(17, reaper.reap)
    null_fd = os.open(os.devnull, os.O_WRONLY)
    yield World(loop, reaper, Logger(null_fd), "ns", "/run/c.sock")
    loop.close()
    os.close(null_fd)


def run_until_sent(publisher: Publisher, world: World, timeout_s: float = 5) -> None:
    from pycontainerd.shim.future import spawn

    spawn(publisher.drained(timeout_s)).when_done(lambda _: world.loop.stop())
    world.loop.later(timeout_s + 1, world.loop.stop)
    world.loop.run()


def send(publisher: Publisher, count: int) -> list[str]:
    topics = [f"/tasks/t{number}" for number in range(count)]
    for topic in topics:
        publisher.publish(topic, events.TaskStart(container_id="c", pid=1))
    return topics


def test_events_arrive_in_order(world, tmp_path) -> None:
    daemon = Daemon(str(tmp_path / "s"))
    publisher = Publisher(world, str(tmp_path / "s"), "")
    topics = send(publisher, 50)
    run_until_sent(publisher, world)
    publisher.close()
    daemon.close()
    assert daemon.topics == topics


def test_a_lost_event_is_sent_again_and_order_stays(world, tmp_path) -> None:
    daemon = Daemon(str(tmp_path / "s"), refuse=1)
    publisher = Publisher(world, str(tmp_path / "s"), "")
    topics = send(publisher, 3)
    run_until_sent(publisher, world)
    publisher.close()
    daemon.close()
    assert daemon.topics == topics


def test_queue_is_bounded(world, tmp_path) -> None:
    publisher = Publisher(world, str(tmp_path / "nobody"), "")
    send(publisher, 3000)
    assert len(publisher._queue) == 2048
    publisher.close()


def test_without_a_socket_the_publish_binary_is_run(world, tmp_path) -> None:
    binary, out = tmp_path / "publish", tmp_path / "out"
    binary.write_text(f'#!/bin/sh\n(echo "$@"; cat) >> {out}\n')
    binary.chmod(0o755)
    publisher = Publisher(world, "", str(binary))
    (topic,) = send(publisher, 1)
    run_until_sent(publisher, world)
    publisher.close()
    line, _, data = out.read_bytes().partition(b"\n")
    assert line.decode() == f"--address /run/c.sock publish --topic {topic} --namespace ns"
    assert wkt.Any.FromString(data).type_url == "containerd.events.TaskStart"
