"""What somebody sends who means harm, or leads elsewhere by rules of his own."""

from __future__ import annotations

import contextlib
from typing import Self

from tests.kernel import packets
from tests.kernel.cluster import Node
from tests.kernel.namespaces import Netns
from weave_router.core import naming

PORT = 8080
TUNNEL_PORT = 6784


def dnat(to: str, hook: str, match: str, *, masquerade: str = "") -> str:
    """Rules as kube-proxy makes them for a Service with one endpoint."""
    priority = "dstnat" if hook == "prerouting" else "-100"
    return f"""table ip services {{
        chain {hook}_nat {{
            type nat hook {hook} priority {priority};
            {match} dnat to {to}
        }}
        chain postrouting_nat {{
            type nat hook postrouting priority 99;
            {masquerade}
        }}
    }}"""


def arrives_by_tunnel(
    node: Node, sender: Netns, inner_source: str, *, address: str = "", port: int = TUNNEL_PORT
) -> bool:
    """Does a hand-made VXLAN packet from `sender` reach a pod of the node?"""
    with Forger(sender) as forger:
        return forger.arrives(node, inner_source, address or node.underlay, port)


class Forger:
    """Sends VXLAN by one socket, that is by one connection, during a `with` block."""

    def __init__(self, space: Netns) -> None:
        self._space = space
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._socket = self._stack.enter_context(packets.udp_socket(self._space))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def arrives(self, node: Node, inner_source: str, address: str, port: int) -> bool:
        """Does a packet to this address reach a pod of the node, out of its tunnel?"""
        target = node.pods[0] if node.pods[0].netns != self._space else node.pods[1]
        inner = packets.frame(
            b"\x02\0\0\0\0\x55",
            naming.tunnel_mac(node.name),
            packets.udp_packet(inner_source, target.ip, PORT, b"out of the tunnel"),
        )
        with packets.udp_socket(target.netns, PORT) as listener:
            self._socket.sendto(packets.vxlan(inner), (address, port))
            return packets.received(listener) is not None
