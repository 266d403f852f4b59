"""Two nodes with a routed VXLAN and one masquerade rule, made by hand: as fast as a kernel gets.

The same wire as the lab's (a bridge in a namespace of its own), pods on routed veths, one static
neighbour and forwarding entry per peer; no filter, no set, no check of anything.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from bench.throughput import Way

PREFIX = "weave-bench-vx"
WIRE = f"{PREFIX}-wire"
UNDERLAY = "10.98.0"
PODS = "10.251"
GATEWAY = "169.254.1.1"
VNI = 42
MTU = 1450
_MASQUERADE = f"""
table ip bench {{
    chain postrouting {{
        type nat hook postrouting priority 100
        ip saddr {PODS}.0.0/16 ip daddr != {PODS}.0.0/16 masquerade
    }}
}}
"""


@contextlib.contextmanager
def vxlan() -> Iterator[Way]:
    """The way from a pod of one such node to one of the other."""
    names = [WIRE, *(_node(n) for n in (1, 2)), *(_pod(n) for n in (1, 2))]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _batch(
            WIRE, "link add wire type bridge forward_delay 0 mcast_snooping 0", "link set wire up"
        )
        for number in (1, 2):
            _make(number, 3 - number)
        yield Way(
            "routed kernel VXLAN with one masquerade rule",
            _enter(_pod(2)),
            _enter(_pod(1)),
            _pod_address(2),
        )
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def make_bare(wire: str) -> None:
    """Takes the rules from a lab's wire by which it can cut nodes off: ours has none either."""
    _run(*_enter(wire), "nft", "flush", "ruleset")


def _make(number: int, other: int) -> None:
    node, pod = _node(number), _pod(number)
    _batch(
        WIRE,
        f"link add n{number} type veth peer name eth0 netns {node}",
        f"link set n{number} master wire up",
    )
    _batch(
        node,
        f"addr add {UNDERLAY}.{number}/24 dev eth0",
        "link set eth0 up",
        f"link add vx address {_mac(number)} mtu {MTU} type vxlan id {VNI} dstport 4789"
        " nolearning df set ttl 64",
        f"addr add {PODS}.{number}.0/32 dev vx",
        "link set vx up",
        f"neigh add {UNDERLAY}.{other} lladdr {_mac(other)} dev vx nud permanent",
        f"route add {PODS}.{other}.0/24 via {UNDERLAY}.{other} dev vx onlink",
        f"link add pod mtu {MTU} type veth peer name eth0 mtu {MTU} netns {pod}",
        "link set pod up",
        f"addr add {GATEWAY}/32 dev pod",
        f"route add {_pod_address(number)} dev pod",
    )
    fdb = ["fdb", "add", _mac(other), "dev", "vx", "dst", f"{UNDERLAY}.{other}", "self"]
    _run("bridge", "-n", node, *fdb, "permanent")
    _batch(
        pod,
        f"addr add {_pod_address(number)}/32 dev eth0",
        "link set eth0 up",
        f"route add {GATEWAY} dev eth0 scope link",
        f"route add default via {GATEWAY}",
    )
    _run(*_enter(node), "sysctl", "-qw", "net.ipv4.ip_forward=1")
    _run(*_enter(node), "nft", "-f", "-", stdin=_MASQUERADE)


def _node(number: int) -> str:
    return f"{PREFIX}{number}"


def _pod(number: int) -> str:
    return f"{PREFIX}{number}-pod"


def _pod_address(number: int) -> str:
    return f"{PODS}.{number}.2"


def _mac(number: int) -> str:
    return f"0e:00:00:00:00:0{number}"


def _enter(netns: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{netns}", "--"]


def _batch(netns: str, *commands: str) -> None:
    _run("ip", "-n", netns, "-batch", "-", stdin="\n".join(commands) + "\n")


def _ip(*argv: str) -> None:
    _run("ip", *argv)


def _run(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True, timeout=30)
