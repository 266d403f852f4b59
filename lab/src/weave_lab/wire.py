"""The underlay: one namespace with a bridge to which each node has a virtual cable.

The bridge's own address plays everything outside the cluster. Cuts are rules in the bridge's
forward path, so both ends keep their carrier and nothing tells them: a switch that died far away.
"""

from __future__ import annotations

import json

from weave_lab import layout
from weave_lab.command import check, run
from weave_lab.layout import NETNS_ROOT, LabLayout, NodeLayout

BRIDGE = "wire"

# An array of both directions per cut; ports are called like their nodes.
_RULES = """
table bridge weave-lab {
    set cuts { type ifname . ifname; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        iifname . oifname @cuts drop
    }
}
"""


def create(lab: LabLayout) -> None:
    """Makes the namespace with the bridge. Raises CommandFailed."""
    check(["ip", "netns", "add", lab.wire_netns])
    commands = [
        "link set lo up",
        f"link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0",
        f"addr add {layout.UNDERLAY_IPV4}.{layout.WIRE_HOST}/24 dev {BRIDGE}",
        f"addr add {layout.UNDERLAY_IPV6}:{layout.WIRE_HOST}/64 dev {BRIDGE} nodad",
        f"link set {BRIDGE} up",
    ]
    ip_batch(lab.wire_netns, commands)
    check(_in_wire(lab, ["nft", "-f", "-"]), stdin=_RULES)


def plug_in(lab: LabLayout, node: NodeLayout) -> None:
    """Makes the node's network namespace with `eth0` on the wire. Raises CommandFailed."""
    check(["ip", "netns", "add", node.netns])
    ip_batch(
        lab.wire_netns,
        [
            f"link add {node.name} type veth peer name eth0 netns {node.netns}",
            f"link set {node.name} master {BRIDGE} up",
        ],
    )
    ip_batch(
        node.netns,
        [
            "link set lo up",
            f"addr add {node.address}/24 dev eth0",
            f"addr add {node.address6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {layout.UNDERLAY_IPV4}.{layout.WIRE_HOST}",
            f"route add default via {layout.UNDERLAY_IPV6}:{layout.WIRE_HOST}",
        ],
    )


def cut(lab: LabLayout, one: NodeLayout, other: NodeLayout) -> None:
    """Stops all packets between two nodes. Idempotent."""
    _nft(lab, f"add element bridge weave-lab cuts {_both_ways(one, other)}")


def heal(lab: LabLayout, one: NodeLayout, other: NodeLayout) -> None:
    """Undoes `cut`. Idempotent."""
    # Deleting what is not there is an error, adding what is there is none.
    elements = _both_ways(one, other)
    _nft(
        lab,
        f"add element bridge weave-lab cuts {elements}\n"
        f"delete element bridge weave-lab cuts {elements}",
    )


def cuts(lab: LabLayout) -> list[tuple[str, str]]:
    """Pairs of node names between which nothing passes, each pair once, sorted."""
    listing = json.loads(
        check(_in_wire(lab, ["nft", "-j", "list", "set", "bridge", "weave-lab", "cuts"]))
    )
    elements = [
        element["concat"]
        for item in listing["nftables"]
        for element in item.get("set", {}).get("elem", [])
    ]
    return sorted({(one, other) for one, other in map(sorted, elements)})


def remove(lab: LabLayout, nodes: list[NodeLayout]) -> None:
    """Removes all namespaces of the underlay. Idempotent; processes in them must be gone."""
    for name in [*(node.netns for node in nodes), lab.wire_netns]:
        if (NETNS_ROOT / name).exists():
            run(["ip", "netns", "delete", name])


def ip_batch(netns: str, commands: list[str]) -> None:
    """Runs several `ip` commands in a named namespace, all or up to the first that fails."""
    check(["ip", "-n", netns, "-batch", "-"], stdin="\n".join(commands) + "\n")


def _both_ways(one: NodeLayout, other: NodeLayout) -> str:
    return f'{{ "{one.name}" . "{other.name}", "{other.name}" . "{one.name}" }}'


def _nft(lab: LabLayout, command: str) -> None:
    check(_in_wire(lab, ["nft", "-f", "-"]), stdin=command + "\n")


def _in_wire(lab: LabLayout, argv: list[str]) -> list[str]:
    return ["nsenter", f"--net={NETNS_ROOT / lab.wire_netns}", "--", *argv]
