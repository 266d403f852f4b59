"""Each service as a client that knows nothing of it sees it: health and reflection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from weave_lab import Node
from weave_lab.services import SERVICES, Service

pytestmark = pytest.mark.lab

COMMON = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
OFFERED = {
    "gossip": {"weave.gossip.v1.Gossip", "weave.gossip.v1.Coordination"},
    "ipam": {"weave.ipam.v1.Ipam"},
    "router": {"weave.router.v1.Router"},
    "cni-shim": {"weave.cni.v1.Cni"},
}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_lists_what_it_offers_and_is_healthy(n1: Node, service: Service) -> None:
    path = n1.layout.run_dir / service.folder / "api.sock"
    with grpc.insecure_channel(f"unix://{path}") as channel:
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        check: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        statuses = {
            name: check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
            for name in ("", *OFFERED[service.name])
        }

    assert listed == COMMON | OFFERED[service.name]
    assert set(statuses.values()) == {health_pb2.HealthCheckResponse.SERVING}
