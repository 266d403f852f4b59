"""The guard's chains of the table `inet weave`: what each is for is said in `ruleset`.

Each chain of a hook asks first what tells nearly all packets apart; the rest is in chains of its
own. Chains of type nat see the first packet of a connection only, and a later one of it when the
first was dropped: what has to be known only once is asked there (docs/adr/0012).
"""

from __future__ import annotations

from weave_model.prefix import Family
from weave_router.core import naming

MESH_PORTS = "6783-6785"
MESH_PORT = "6783"
TUNNEL_PORT = "6784"

HEADER = {Family.IPV4: "ip", Family.IPV6: "ip6"}
PODS = f'"{naming.POD_LINK_PREFIX}*"'
TUNNELS = "{ " + ", ".join(f'"{name}"' for name in naming.VXLAN.values()) + " }"

# Between tunnel ends only: link-local packets are never forwarded (RFC 4291 section 2.5.6).
# IANA protocol numbers: nft looks names up in /etc/protocols, which an image need not have.
ICMP, ICMPV6 = 1, 58
PROBES = "ip6 saddr fe80::/10 ip6 daddr fe80::/10 icmpv6 type { echo-request, echo-reply }"
# Tells nearly all packets apart at once. Other protocols may have anything in a port's place, so
# what matches is looked at again.
_TO_MESH_PORTS = f"th dport {MESH_PORTS}"
# Before every other chain that translates: the first that does so ends the asking.
_FIRST = -199


Chains = dict[str, tuple[str, list[str]]]


def chains(*, exposed: bool) -> Chains:
    """Hook, empty for none, and rules of each chain."""
    return {
        "from_pod": ("", _from_pod()),
        "transit": ("", _transit()),
        "from_tunnel": ("", _from_tunnel()),
        "mesh_ports": ("", [f"udp dport {MESH_PORTS} drop", f"tcp dport {MESH_PORT} drop"]),
        "mesh_in": ("", _mesh_in()),
        "redirects": ("", _redirects()),
        "guard": (hook("filter", "prerouting", -300), _guard()),
        "guard_in": (hook("filter", "input", -300), _guard_in(exposed=exposed)),
        "guard_out": (hook("filter", "output", -300), _guard_out(exposed=exposed)),
        "new_from": (hook("nat", "prerouting", _FIRST), _new_from()),
        "new_out": (hook("nat", "postrouting", _FIRST), _new_out()),
    }


def hook(kind: str, where: str, priority: int) -> str:
    """The declaration of a chain that is a hook."""
    return f"type {kind} hook {where} priority {priority}; policy accept;"


def _guard() -> list[str]:
    return [
        f"iifgroup {naming.POD_GROUP} goto from_pod",
        f"iifgroup {naming.TUNNEL_GROUP} goto from_tunnel",
        *(f"udp dport {TUNNEL_PORT} {HEADER[f]} saddr @peers{f} notrack accept" for f in Family),
    ]


def _from_pod() -> list[str]:
    return [
        *(f"iifname . ether saddr . {HEADER[f]} saddr @bindings{f} accept" for f in Family),
        "drop",
    ]


def _from_tunnel() -> list[str]:
    return [
        # What follows lets this pass as well; nearly all is for pods of this node.
        *(f"{HEADER[f]} saddr @remote{f} {HEADER[f]} daddr @local{f} accept" for f in Family),
        f"{PROBES} accept",
        *(f"{HEADER[f]} saddr != @remote{f} drop" for f in Family),
        *(f"{HEADER[f]} daddr @remote{f} goto transit" for f in Family),
    ]


def _transit() -> list[str]:
    return [
        "ip daddr @relayed4 reject with icmp host-unreachable",
        "ip6 daddr @relayed6 reject with icmpv6 addr-unreachable",
        "notrack",
    ]


def _new_from() -> list[str]:
    return [
        f"iifname {PODS} iifgroup != {naming.POD_GROUP} drop",
        f"iifname {TUNNELS} iifgroup != {naming.TUNNEL_GROUP} drop",
    ]


def _new_out() -> list[str]:
    rules = []
    for f in Family:
        outside = f"{HEADER[f]} daddr != @universe{f}"
        # By its source what came by a tunnel: a tunnel's own packet still has the device, too.
        for origin in (f"iifname {PODS}", f"{HEADER[f]} saddr @remote{f}"):
            rules += [
                f"{origin} {HEADER[f]} daddr @peers{f} goto mesh_ports",
                # Masqueraded it comes from a peer, and nobody knows all addresses of one.
                f"{origin} {outside} udp dport {TUNNEL_PORT} drop",
                f"{origin} ct status dnat {outside} goto mesh_ports",
            ]
    return rules


def _guard_in(*, exposed: bool) -> list[str]:
    # No pod and no tunnel can have one of these for a source: the guard has seen to it.
    rules = [f"udp dport {TUNNEL_PORT} {HEADER[f]} saddr @peers{f} accept" for f in Family]
    rules.append(f"{_TO_MESH_PORTS} jump mesh_in")
    if not exposed:
        rules += [f"iifname {TUNNELS} {PROBES} accept"]
        rules += [f"iifname {PODS} drop", f"iifname {TUNNELS} drop"]
    return rules


def _mesh_in() -> list[str]:
    return [
        f"iifname {PODS} goto mesh_ports",
        f"iifname {TUNNELS} goto mesh_ports",
        # By a direct path, or because its node was told not to track it.
        *(f"{HEADER[f]} saddr @remote{f} goto mesh_ports" for f in Family),
        f"udp dport {TUNNEL_PORT} drop",
    ]


def _redirects() -> list[str]:
    return [
        f"oifname {devices} {redirect} drop"
        for devices in (PODS, TUNNELS, f'"{naming.BRIDGE}"')
        for redirect in ("icmp type redirect", "icmpv6 type nd-redirect")
    ]


def _guard_out(*, exposed: bool) -> list[str]:
    # No pod and no tunnel leads to a peer's address.
    rules = [f"udp dport {TUNNEL_PORT} {HEADER[f]} daddr @peers{f} notrack accept" for f in Family]
    if not exposed:
        # What the kernel itself has to say about pods' packets still leaves.
        errors = "{ destination-unreachable, time-exceeded, parameter-problem }"
        errors6 = "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"
        rules.append(f"oifname {TUNNELS} {PROBES} accept")
        for devices in (PODS, TUNNELS):
            rules += [
                f"oifname {devices} icmp type {errors} accept",
                f"oifname {devices} icmpv6 type {errors6} accept",
                f"oifname {devices} drop",
            ]
    return [*rules, f"meta l4proto {{ {ICMP}, {ICMPV6} }} jump redirects"]
