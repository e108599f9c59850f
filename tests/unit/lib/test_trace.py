"""Spans and their context."""

from __future__ import annotations

import asyncio
import threading

from pycontainerd.lib import trace

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def test_spans_nest_and_take_a_remote_parent():
    def run():
        trace.adopt(PARENT)
        with trace.span("outer") as outer, trace.span("inner") as inner:
            header = trace.traceparent()
        return outer, inner, header, trace.traceparent()

    outer, inner, header, after = _in_thread(run)
    assert (outer.trace_id, outer.parent_id) == ("a" * 32, "b" * 16)
    assert (inner.trace_id, inner.parent_id) == ("a" * 32, outer.span_id)
    assert header == f"00-{'a' * 32}-{inner.span_id}-01"
    assert after == PARENT


def test_requests_that_run_at_once_keep_their_own_chains():
    async def request(number: int) -> tuple[str, str, str]:
        trace.adopt(f"00-{number:032x}-{number:016x}-01")
        with trace.span("outer") as outer:
            await asyncio.sleep(0.001 * (number % 3))
            with trace.span("inner") as inner:
                await asyncio.sleep(0.001)
        return outer.trace_id, outer.parent_id, "child" if inner.parent_id == outer.span_id else "stray"

    async def many():
        return await asyncio.gather(*(request(n) for n in range(1, 20)))

    assert asyncio.run(many()) == [(f"{n:032x}", f"{n:016x}", "child") for n in range(1, 20)]


def test_an_error_is_kept_with_its_span():
    try:
        with trace.span("fails") as span:
            raise ValueError("why")
    except ValueError:
        pass
    assert span.error == "why"
    assert span in trace.finished()


def test_foreign_headers_start_a_trace_of_their_own():
    for value in ("", "x", "00-zz-yy-01", PARENT.upper()):
        assert trace.parse_traceparent(value) is None


def _in_thread(run):
    results = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    return results[0]
