"""The services of one node as the command reaches them: sockets, deadlines, failures in words."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc

from weave.cni.v1 import cni_pb2_grpc
from weave.gossip.v1 import gossip_pb2_grpc
from weave.ipam.v1 import ipam_pb2_grpc
from weave.router.v1 import router_pb2_grpc

# A service answers questions about its state from memory.
ANSWER_TIMEOUT_S = 5.0
# The ring of 10,000 blocks is well below 1 MiB; the services use the same limit.
_MAX_MESSAGE_BYTES = 16 << 20


class Failure(Exception):
    """One line for the user; the exit status is 1."""


class NotAnswering(Failure):
    """A service could not be reached at all."""


class Node:
    """Stubs of one node's services, made when first used. Closed with the context."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels.values():
            channel.close()

    @property
    def gossip(self) -> gossip_pb2_grpc.GossipStub:
        """Raises NotAnswering."""
        return gossip_pb2_grpc.GossipStub(self._channel("gossip"))

    @property
    def ipam(self) -> ipam_pb2_grpc.IpamStub:
        """Raises NotAnswering."""
        return ipam_pb2_grpc.IpamStub(self._channel("ipam"))

    @property
    def router(self) -> router_pb2_grpc.RouterStub:
        """Raises NotAnswering."""
        return router_pb2_grpc.RouterStub(self._channel("router"))

    @property
    def cni(self) -> cni_pb2_grpc.CniStub:
        """Raises NotAnswering."""
        return cni_pb2_grpc.CniStub(self._channel("cni"))

    def _channel(self, service: str) -> grpc.Channel:
        if service not in self._channels:
            path = (self._run_dir / service / "api.sock").absolute()
            _probe(service, path)
            self._channels[service] = grpc.insecure_channel(
                f"unix://{path}",
                options=(
                    ("grpc.enable_http_proxy", 0),
                    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ),
            )
        return self._channels[service]


@contextlib.contextmanager
def failures_of(service: str) -> Iterator[None]:
    """Turns what a call answers with into a `Failure` of one line."""
    try:
        yield
    except grpc.RpcError as error:
        # Every error a channel raises is a call too; grpc does not say so in its types.
        call: Any = error
        text = " ".join((call.details() or call.code().name.lower().replace("_", " ")).split())
        kind = NotAnswering if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED else Failure
        raise kind(f"{service}: {text}") from error


def _probe(service: str, path: Path) -> None:
    """Connects once, since gRPC would hide why it cannot."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            raise NotAnswering(f"{service} does not answer: {_reason(error, path)}") from error


def _reason(error: OSError, path: Path) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"there is no {path}; is the service running, is --run-dir right?"
        case errno.ECONNREFUSED:
            return f"nobody listens on {path}; the service is down"
        case errno.EACCES | errno.EPERM:
            return f"you may not use {path}; run this as root"
        case _:
            return f"{path}: {error.strerror or error}"
