"""A real collector of traces: OTLP over gRPC, for tests.

python -m tests.otlp HOST:PORT      prints each span as a line of JSON, until it is ended
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class Received:
    """One span as it arrived."""

    service: str
    name: str
    trace: str
    span: str
    parent: str


class _TraceService(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, take: Callable[[Received], object]) -> None:
        self._take = take

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        for span in _spans(request):
            self._take(span)
        return pb.ExportTraceServiceResponse()


def _spans(request: Any) -> Iterator[Received]:
    for group in request.resource_spans:
        facts = {item.key: item.value.string_value for item in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                ids = (raw.hex() for raw in (span.trace_id, span.span_id, span.parent_span_id))
                yield Received(facts["service.name"], span.name, *ids)


@contextmanager
def collecting(address: str, take: Callable[[Received], object]) -> Iterator[grpc.Server]:
    """Listens at host:port and hands each span over, from threads of its own."""
    server = grpc.server(ThreadPoolExecutor(2))
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(_TraceService(take), server)
    server.add_insecure_port(address)
    server.start()
    try:
        yield server
    finally:
        server.stop(grace=None).wait()


# What each service does for an ADD.
STEPS_OF_ADD = {
    ("cni-shim", "CNI ADD"),
    ("ipam", "/weave.ipam.v1.Ipam/Allocate"),
    ("router", "/weave.router.v1.Router/Prepare"),
}


def whole_add(spans: Iterable[Received]) -> list[Received]:
    """The spans of one ADD to which all services have contributed; empty: none has arrived yet."""
    traces: dict[str, list[Received]] = {}
    for span in spans:
        traces.setdefault(span.trace, []).append(span)
    for members in traces.values():
        known = {"", *(span.span for span in members)}
        is_whole = all(span.parent in known for span in members)
        if is_whole and {(span.service, span.name) for span in members} >= STEPS_OF_ADD:
            return members
    return []


def main() -> None:
    """The command line."""
    (address,) = sys.argv[1:]
    with collecting(address, lambda span: print(json.dumps(asdict(span)), flush=True)) as server:
        print("listening", flush=True)
        server.wait_for_termination()


if __name__ == "__main__":
    main()
