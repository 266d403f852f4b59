"""Traces. Off unless an endpoint is configured, and then free: OpenTelemetry is not imported.

Whether traces are on is OpenTelemetry's own state; this module keeps none. Contexts travel as W3C
`traceparent` text: in gRPC metadata between services, in TRACEPARENT from a CNI runtime. Streams
are not traced: watches last as long as their services.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import grpc

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

METADATA_KEY = "traceparent"
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
# An absent collector must not delay a stop: spans not delivered within this time are lost.
_EXPORT_TIMEOUT_S = 1


class Span(Protocol):
    """The part of a span that services use."""

    def set_attribute(self, key: str, value: str | float | bool) -> object: ...


class _NoSpan:
    def set_attribute(self, key: str, value: str | float | bool) -> None:
        pass


_OFF = contextlib.nullcontext(_NoSpan())


class Tracer:
    """Starts the spans of one component. Costs a dictionary look-up while traces are off."""

    def __init__(self, name: str) -> None:
        self._name = name

    def span(
        self,
        name: str,
        *,
        parent: str = "",
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> contextlib.AbstractContextManager[Span]:
        """Opens a span that is current inside the `with`; an exception is recorded on it.

        `parent` is traceparent text; without it, or if it is malformed, the current span is.
        """
        api = _api()
        if api is None:
            return _OFF
        span: contextlib.AbstractContextManager[Span] = api.get_tracer(
            self._name
        ).start_as_current_span(name, context=_context(api, parent), attributes=attributes)
        return span


def tracer(name: str) -> Tracer:
    """Gives the tracer of a component; works before and without `start`."""
    return Tracer(name)


def start(
    endpoint: str, service: str, *, exporter: SpanExporter | None = None
) -> Callable[[], None]:
    """Turns traces on, once per process, and gives the function that flushes and ends them.

    An empty endpoint leaves them off. `exporter` replaces the one for OTLP over gRPC.
    """
    if not endpoint and exporter is None:
        return lambda: None
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        is_plain = not endpoint.startswith("https:")
        exporter = OTLPSpanExporter(endpoint, insecure=is_plain, timeout=_EXPORT_TIMEOUT_S)
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def traceparent() -> str:
    """Gives the current span as traceparent text; empty outside of any."""
    api = _api()
    context = api.get_current_span().get_span_context() if api else None
    if context is None or not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def trace_id() -> str:
    """Gives the current trace's id, for logs; empty outside of any."""
    return traceparent()[3:35]


def parent_in(metadata: Iterable[tuple[str, Any]] | None) -> str:
    """Finds the traceparent text in the metadata of a call; empty without."""
    return next((str(value) for key, value in metadata or () if key == METADATA_KEY), "")


def client_interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """Gives what hands the current span to callees: nothing while traces are off."""
    return [_Propagation()] if _api() else []


class _Propagation(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        if parent := traceparent():
            metadata = grpc.aio.Metadata(
                *(client_call_details.metadata or ()), (METADATA_KEY, parent)
            )
            client_call_details = client_call_details._replace(metadata=metadata)
        return await continuation(client_call_details, request)


def _api() -> Any:
    return sys.modules.get("opentelemetry.trace")


def _context(api: Any, parent: str) -> Any:
    found = _TRACEPARENT.fullmatch(parent)
    if not found:
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    context = api.SpanContext(trace, span, is_remote=True, trace_flags=api.TraceFlags(flags))
    return api.set_span_in_context(api.NonRecordingSpan(context))
