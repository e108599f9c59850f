"""The event exchange."""

from __future__ import annotations

import asyncio

import pytest

from pycontainerd.daemon.core import events
from pycontainerd.daemon.core.events import Envelope, Exchange
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.lib.errdefs import InvalidArgument, ResourceExhausted

EVENT = TypedValue("x", b"1")


def make_exchange() -> Exchange:
    return Exchange(lambda value, path: "c1" if list(path) == ["id"] else None, lambda *_, **__: None)


def run(coroutine):
    return asyncio.run(coroutine)


def test_subscribers_get_what_matches_in_order():
    async def scenario() -> list[str]:
        exchange = make_exchange()
        with exchange.subscribe(['topic~="^/tasks/",event.id==c1']) as subscription:
            for topic in ("/tasks/create", "/images/create", "/tasks/exit"):
                exchange.publish("ns", topic, EVENT)
            return [(await anext(subscription)).topic for _ in range(2)]

    assert run(scenario()) == ["/tasks/create", "/tasks/exit"]


def test_events_of_other_threads_arrive():
    async def scenario() -> str:
        exchange = make_exchange()
        with exchange.subscribe(()) as subscription:
            waiting = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            await asyncio.to_thread(exchange.publish, "ns", "/a", EVENT)
            return (await asyncio.wait_for(waiting, 5)).namespace

    assert run(scenario()) == "ns"


def test_a_closed_subscription_gets_nothing():
    async def scenario() -> int:
        exchange = make_exchange()
        with exchange.subscribe(()):
            pass
        return exchange.subscriber_count

    assert run(scenario()) == 0


def test_a_subscriber_too_far_behind_is_ended(monkeypatch):
    monkeypatch.setattr(events, "QUEUE_LIMIT", 3)

    async def scenario() -> int:
        exchange = make_exchange()
        received = 0
        with exchange.subscribe(()) as subscription:
            for _ in range(5):
                exchange.publish("ns", "/a", EVENT)
            while True:
                try:
                    await anext(subscription)
                except ResourceExhausted:
                    return received
                received += 1

    assert run(scenario()) == 3


def test_a_gate_drops_events():
    async def scenario() -> str:
        exchange = make_exchange()
        exchange.add_gate(lambda envelope: envelope.topic != "/dropped")
        with exchange.subscribe(()) as subscription:
            exchange.publish("ns", "/dropped", EVENT)
            exchange.publish("ns", "/kept", EVENT)
            return (await anext(subscription)).topic

    assert run(scenario()) == "/kept"


@pytest.mark.parametrize("topic", ["", "a", "/", "/a//b", "/a/", "/-a", "/a b"])
def test_bad_topics_are_refused(topic):
    async def scenario() -> None:
        make_exchange().publish("ns", topic, EVENT)

    with pytest.raises(InvalidArgument):
        run(scenario())


@pytest.mark.parametrize(
    "envelope",
    [Envelope(1, "", "/a", EVENT), Envelope(0, "ns", "/a", EVENT), Envelope(1, "ns", "a", EVENT)],
)
def test_bad_envelopes_are_refused(envelope):
    async def scenario() -> None:
        make_exchange().forward(envelope)

    with pytest.raises(InvalidArgument):
        run(scenario())
