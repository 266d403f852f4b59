"""Traces: free while off, continued across services while on."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from weave_runtime import logs, telemetry
from weave_runtime.testing import serving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Turns traces on for one test."""
    exporter = InMemorySpanExporter()
    stop = telemetry.start("", "toy", exporter=exporter)
    yield exporter
    stop()
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()


def finished(exporter: InMemorySpanExporter) -> dict[str, Any]:
    provider: Any = trace.get_tracer_provider()
    provider.force_flush()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_off_without_endpoint() -> None:
    telemetry.start("", "toy")()

    with telemetry.tracer("x").span("work") as span:
        span.set_attribute("a", 1)

        assert telemetry.traceparent() == ""
        assert telemetry.trace_id() == ""


def test_span_continues_the_parent_of_the_caller(spans: InMemorySpanExporter) -> None:
    with telemetry.tracer("x").span("work", parent=PARENT, attributes={"a": 1}):
        inside = telemetry.traceparent()

    span = finished(spans)["work"]
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent.span_id == 0xB7AD6B7169203331
    assert span.attributes == {"a": 1}
    assert span.resource.attributes["service.name"] == "toy"
    assert inside == f"00-{TRACE_ID}-{span.context.span_id:016x}-01"


@pytest.mark.parametrize("parent", ["", "nonsense", PARENT + "-more", "00-" + "0" * 32 + "-x-01"])
def test_malformed_parent_starts_a_trace_of_its_own(
    spans: InMemorySpanExporter, parent: str
) -> None:
    with telemetry.tracer("x").span("work", parent=parent):
        pass

    assert finished(spans)["work"].parent is None


def test_nested_span_has_the_outer_one_as_parent(spans: InMemorySpanExporter) -> None:
    tracer = telemetry.tracer("x")

    with tracer.span("outer"), tracer.span("inner"):
        pass

    found = finished(spans)
    assert found["inner"].parent.span_id == found["outer"].context.span_id


def test_exception_is_recorded(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="broken"), telemetry.tracer("x").span("work"):
        raise ValueError("broken")

    assert finished(spans)["work"].events[0].name == "exception"


async def test_trace_goes_through_calls(toy: Any, spans: InMemorySpanExporter) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return telemetry.trace_id().encode()

    toy.answer = answer
    async with serving(toy.register, toy) as channel:
        with telemetry.tracer("x").span("ADD", parent=PARENT):
            answered = await toy.call(channel)

    found = finished(spans)
    assert answered == TRACE_ID.encode()
    assert found["/toy.Toy/Answer"].parent.span_id == found["ADD"].context.span_id


async def test_call_outside_of_a_span_starts_a_trace(toy: Any, spans: InMemorySpanExporter) -> None:
    async with serving(toy.register, toy) as channel:
        await toy.call(channel)

    assert finished(spans)["/toy.Toy/Answer"].parent is None


def test_json_log_line_carries_the_trace(spans: InMemorySpanExporter) -> None:
    record = logging.makeLogRecord({"msg": "done"})

    with telemetry.tracer("x").span("work", parent=PARENT):
        line = json.loads(logs.JsonFormatter("toy").format(record))

    assert line["trace_id"] == TRACE_ID
