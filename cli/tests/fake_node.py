"""A node whose services answer with fixed values and note what they were asked for."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from weave.cni.v1 import cni_pb2, cni_pb2_grpc
from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.router.v1 import router_pb2, router_pb2_grpc
from weave.types.v1 import types_pb2

N1, N2, N3 = "1a:2b:3c:4d:5e:01", "1a:2b:3c:4d:5e:02", "1a:2b:3c:4d:5e:03"
UNIVERSE = types_pb2.Prefix(address=bytes([10, 32, 0, 0]), length=12)
CONTAINER = "c0ffee" * 10


def host(*octets: int, length: int = 32) -> types_pb2.Prefix:
    return types_pb2.Prefix(address=bytes(octets), length=length)


def key(container_id: str, interface: str = "eth0") -> types_pb2.AttachmentKey:
    return types_pb2.AttachmentKey(network="weave", container_id=container_id, interface=interface)


def gossip_status() -> gossip_pb2.GetStatusResponse:
    """Three peers; one link is up, the others failed, are tried again or come up."""
    status = gossip_pb2.GetStatusResponse
    link = status.PeerLinks.Link
    return status(
        version="0.1.0",
        name=N1,
        nickname="n1",
        min_protocol=1,
        max_protocol=1,
        discovery=True,
        port=6783,
        targets=["10.99.0.2", "10.99.0.3"],
        connections=[
            gossip_pb2.Connection(
                address="10.99.0.2:6783",
                outbound=True,
                state=gossip_pb2.CONNECTION_STATE_ESTABLISHED,
                peer=N2,
                nickname="n2",
                rtt_s=0.0012,
                last_error="nothing received for 8 s",
            ),
            gossip_pb2.Connection(
                address="10.99.0.3:6783",
                outbound=True,
                state=gossip_pb2.CONNECTION_STATE_FAILED,
                last_error="no answer within 5 s",
                next_try_unix_s=1709611869,
            ),
            gossip_pb2.Connection(
                address="10.99.0.7:6783",
                outbound=True,
                state=gossip_pb2.CONNECTION_STATE_RETRYING,
                last_error="wrong secret",
            ),
            gossip_pb2.Connection(
                address="10.99.0.4:6783",
                outbound=True,
                state=gossip_pb2.CONNECTION_STATE_FAILED,
                last_error="cannot connect to ourself",
                next_try_unix_s=-1,
            ),
            gossip_pb2.Connection(
                address="10.99.0.5:40123",
                state=gossip_pb2.CONNECTION_STATE_CONNECTING,
            ),
            gossip_pb2.Connection(
                address="10.99.0.6:40124",
                state=gossip_pb2.CONNECTION_STATE_FAILED,
                last_error="wrong secret",
            ),
        ],
        peers=[
            status.PeerLinks(
                name=N1,
                nickname="n1",
                reachable=True,
                incarnation=3,
                links=[
                    link(
                        address="10.99.0.2:6783",
                        peer=N2,
                        nickname="n2",
                        outbound=True,
                        established=True,
                    )
                ],
                underlay_addresses=[bytes([10, 99, 0, 1])],
            ),
            status.PeerLinks(
                name=N2,
                nickname="n2",
                reachable=True,
                links=[
                    link(address="10.99.0.1:51234", peer=N1, nickname="n1", established=True),
                    link(address="10.99.0.3:6783", peer=N3, nickname="n3", outbound=True),
                ],
            ),
            status.PeerLinks(name=N3, nickname="n3"),
        ],
        incarnation=3,
        documents=7,
        connection_limit=30,
    )


def ipam_status() -> ipam_pb2.GetStatusResponse:
    """A ring of three peers, one of which is out of reach."""
    status = ipam_pb2.GetStatusResponse
    share = status.Share
    family = status.Family(
        family=4,
        universe=UNIVERSE,
        default_subnet=UNIVERSE,
        status="ready",
        ready=True,
        shares=[
            share(peer=N3, nickname="n3", addresses="262144", fraction=0.25),
            share(peer=N2, nickname="n2", addresses="262144", fraction=0.25, reachable=True),
            share(
                peer=N1,
                nickname="n1",
                addresses="524288",
                fraction=0.5,
                reachable=True,
                self=True,
            ),
        ],
        ring=ipam_pb2.RingView(
            family=4,
            universe=UNIVERSE,
            blocks=[
                ipam_pb2.OwnedBlock(prefix=host(10, 32, 0, 0, length=13), owner=N1),
                ipam_pb2.OwnedBlock(prefix=host(10, 40, 0, 0, length=14), owner=N2),
                ipam_pb2.OwnedBlock(prefix=host(10, 44, 0, 0, length=14), owner=N3),
            ],
        ),
        active=3,
        quarantined=1,
        free="524284",
    )
    return status(name=N1, families=[family], ready=True, store="sqlite")


def router_status() -> router_pb2.GetStatusResponse:
    """One path works, one is down."""
    path = router_pb2.GetStatusResponse.Path
    return router_pb2.GetStatusResponse(
        ready=True,
        overlay_addresses=[host(10, 32, 0, 1)],
        exposed=True,
        mtu=1450,
        paths=[
            path(
                peer=N2,
                kind=router_pb2.PATH_KIND_VXLAN,
                underlay_address=bytes([10, 99, 0, 2]),
                mtu=1450,
                rtt_s=0.00043,
                last_error="direct: no answer",
            ),
            path(peer=N3, kind=router_pb2.PATH_KIND_NONE, last_error="vxlan: no answer"),
        ],
        attachments=2,
        repairs=1,
    )


def cni_status() -> cni_pb2.GetStatusResponse:
    return cni_pb2.GetStatusResponse(
        ready=True,
        conflist="/etc/cni/net.d/10-weave.conflist",
        executable="/opt/cni/bin/weave-net",
        cni_versions=["0.4.0", "1.0.0", "1.1.0"],
        adds=2,
    )


class FakeNode:
    """Serves what is in `answers` by RPC name; `requests` holds what came in, in order."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.answers: dict[tuple[str, str], Any] = {
            ("gossip", "GetStatus"): gossip_status(),
            ("gossip", "Connect"): gossip_pb2.ConnectResponse(),
            ("gossip", "Forget"): gossip_pb2.ForgetResponse(),
            ("ipam", "GetStatus"): ipam_status(),
            ("ipam", "Prime"): ipam_pb2.PrimeResponse(),
            ("ipam", "Leave"): ipam_pb2.LeaveResponse(addresses="524288"),
            ("ipam", "Reclaim"): ipam_pb2.ReclaimResponse(peer=N3, addresses="262144"),
            ("ipam", "List"): ipam_pb2.ListResponse(
                allocations=[
                    ipam_pb2.Allocation(key=key(CONTAINER), addresses=[host(10, 32, 0, 2)]),
                    ipam_pb2.Allocation(
                        key=key("weave:expose", "weave"), addresses=[host(10, 32, 0, 1)]
                    ),
                ]
            ),
            ("router", "GetStatus"): router_status(),
            ("router", "ListAttachments"): router_pb2.ListAttachmentsResponse(
                items=[
                    router_pb2.ListAttachmentsResponse.Item(
                        attachment=router_pb2.Attachment(
                            key=key(CONTAINER), mac=bytes([14, 0, 10, 32, 0, 2])
                        )
                    )
                ]
            ),
            ("router", "Expose"): router_pb2.ExposeResponse(addresses=[host(10, 32, 0, 1)]),
            ("router", "Hide"): router_pb2.HideResponse(addresses=[host(10, 32, 0, 1)]),
            ("router", "Reset"): router_pb2.ResetResponse(left=["net.ipv4.ip_forward=1"]),
            ("cni", "GetStatus"): cni_status(),
            ("cni", "Withdraw"): cni_pb2.WithdrawResponse(removed=["/opt/cni/bin/weave-net"]),
            ("cni", "Attach"): cni_pb2.AttachResponse(addresses=[host(10, 32, 0, 9)]),
            ("cni", "Detach"): cni_pb2.DetachResponse(addresses=[host(10, 32, 0, 9)]),
        }
        self.requests: list[tuple[str, str, Any]] = []
        self._servers = {name: self._serve(name) for name in ("gossip", "ipam", "router", "cni")}

    def fail(self, service: str, rpc: str, code: grpc.StatusCode, text: str) -> None:
        """From now on this RPC answers with an error."""
        self.answers[service, rpc] = (code, text)

    def down(self, service: str) -> None:
        """Stops a service as a crash does: its socket stays and nobody listens."""
        self._servers.pop(service).stop(None).wait()
        path = self.run_dir / service / "api.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))

    def close(self) -> None:
        for server in self._servers.values():
            server.stop(None).wait()

    def handle(self, service: str, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append((service, rpc, request))
        answer = self.answers[service, rpc]
        if isinstance(answer, tuple):
            context.abort(*answer)
        return answer

    def _serve(self, service: str) -> grpc.Server:
        folder = self.run_dir / service
        folder.mkdir()
        server = grpc.server(ThreadPoolExecutor(2))
        _REGISTER[service](_AnyServicer(self, service), server)
        server.add_insecure_port(f"unix://{folder / 'api.sock'}")
        server.start()
        return server


_REGISTER: dict[str, Any] = {
    "gossip": gossip_pb2_grpc.add_GossipServicer_to_server,
    "ipam": ipam_pb2_grpc.add_IpamServicer_to_server,
    "router": router_pb2_grpc.add_RouterServicer_to_server,
    "cni": cni_pb2_grpc.add_CniServicer_to_server,
}


class _AnyServicer:
    """Any RPC of a service, handed to the node."""

    def __init__(self, node: FakeNode, service: str) -> None:
        self._node = node
        self._service = service

    def __getattr__(self, rpc: str) -> Any:
        return lambda request, context: self._node.handle(self._service, rpc, request, context)
