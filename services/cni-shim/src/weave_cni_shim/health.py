"""Hears from the services an ADD needs that they became ready, or no longer are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# A service that stops ends the watch at once; its successor is there within a second.
RETRY_S = 0.5


async def follow(channel: grpc.aio.Channel, service: str, changed: Callable[[], None]) -> None:
    """Calls `changed` at each change of a service's health, and when the service is lost or back,
    for ever.

    `service` is the full name of the gRPC service. The protocol is gRPC's health checking, `Watch`:
    https://github.com/grpc/grpc/blob/master/doc/health-checking.md
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in stub.Watch(request, wait_for_ready=True):
                changed()
        changed()
        await asyncio.sleep(RETRY_S)
