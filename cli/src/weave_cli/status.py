"""`weave status`: one block per part of a node, in the layout that Weave Net users know.

The block `router` joins what gossip knows (the mesh) with what the router knows (the paths packets
take), as in Weave Net one process knew both. An answer is missing where its service gave none;
`problems` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weave.cni.v1 import cni_pb2
from weave.gossip.v1 import gossip_pb2
from weave.ipam.v1 import ipam_pb2
from weave.router.v1 import router_pb2
from weave_cli import text
from weave_cli.node import ANSWER_TIMEOUT_S, Failure, Node, failures_of

# In the order in which they are counted.
_STATES = {
    gossip_pb2.CONNECTION_STATE_ESTABLISHED: "established",
    gossip_pb2.CONNECTION_STATE_PENDING: "pending",
    gossip_pb2.CONNECTION_STATE_RETRYING: "retrying",
    gossip_pb2.CONNECTION_STATE_FAILED: "failed",
    gossip_pb2.CONNECTION_STATE_CONNECTING: "connecting",
}
LIVE = (gossip_pb2.CONNECTION_STATE_ESTABLISHED, gossip_pb2.CONNECTION_STATE_PENDING)
_PATH_KINDS = {
    router_pb2.PATH_KIND_UNSPECIFIED: "?",
    router_pb2.PATH_KIND_NONE: "none",
    router_pb2.PATH_KIND_DIRECT: "direct",
    router_pb2.PATH_KIND_VXLAN: "vxlan",
    router_pb2.PATH_KIND_RELAY: "relay",
    router_pb2.PATH_KIND_SLEEVE: "sleeve",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What the services of a node said about themselves."""

    gossip: gossip_pb2.GetStatusResponse | None = None
    ipam: ipam_pb2.GetStatusResponse | None = None
    router: router_pb2.GetStatusResponse | None = None
    cni: cni_pb2.GetStatusResponse | None = None
    # Why an answer is missing, by service.
    problems: Mapping[str, str] = field(default_factory=dict)


def ask(node: Node, *services: str) -> Answers:
    """Asks these services, one after the other; who does not answer becomes a problem."""
    answers: dict[str, object] = {}
    problems: dict[str, str] = {}
    for service in services:
        try:
            with failures_of(service):
                answers[service] = _ASK[service](node)
        except Failure as failure:
            problems[service] = str(failure)
    return Answers(**answers, problems=problems)  # type: ignore[arg-type]


def path_kind(path: router_pb2.GetStatusResponse.Path | None) -> str:
    """The word for a path, `?` where the router says nothing of it."""
    return "?" if path is None else _PATH_KINDS.get(path.kind, str(path.kind))


def state_name(connection: gossip_pb2.Connection) -> str:
    """The word for a connection's state."""
    return _STATES.get(connection.state, "connecting")


def summary(answers: Answers) -> str:
    """All blocks of `weave status`."""
    version = answers.gossip.version if answers.gossip else "unknown"
    blocks = [
        [text.field("Version", version)],
        [text.field("Service", "router"), *_mesh(answers), *_data_path(answers)],
        [text.field("Service", "ipam"), *_ipam(answers)],
        [text.field("Service", "cni"), *_cni(answers)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def connections(answers: Answers) -> str:
    """One line per mesh connection, with the path that packets to that peer take."""
    if answers.gossip is None:
        return answers.problems["gossip"]
    paths = {path.peer: path for path in answers.router.paths} if answers.router else {}
    lines = [
        f"{'->' if connection.outbound else '<-'} {connection.address:<21} "
        f"{state_name(connection):<11} {_connection_info(connection, paths.get(connection.peer))}"
        for connection in answers.gossip.connections
    ]
    if answers.router is None:
        lines.append(f"paths are unknown: {answers.problems['router']}")
    return "\n".join(line.rstrip() for line in lines)


def peers(answers: Answers) -> str:
    """Each peer with its links as it publishes them."""
    if answers.gossip is None:
        return answers.problems["gossip"]
    lines = []
    for peer in answers.gossip.peers:
        lines.append(_peer_line(text.peer(peer.name, peer.nickname), peer.reachable))
        for link in peer.links:
            arrow = "->" if link.outbound else "<-"
            name = text.peer(link.peer, link.nickname)
            state = "established" if link.established else "pending"
            lines.append(f"   {arrow} {link.address:<21} {name:<37} {state}")
    return "\n".join(lines)


def targets(answers: Answers) -> str:
    """What this peer dials, one per line."""
    if answers.gossip is None:
        return answers.problems["gossip"]
    return "\n".join(answers.gossip.targets)


def paths(answers: Answers) -> str:
    """The path to each peer, with or without a mesh connection to it."""
    if answers.router is None:
        return answers.problems["router"]
    nicknames = {p.name: p.nickname for p in answers.gossip.peers} if answers.gossip else {}
    return "\n".join(
        f"{text.peer(path.peer, nicknames.get(path.peer, '')):<37} {path_kind(path):<6} "
        f"{' '.join(_path_attributes(path))}".rstrip()
        for path in answers.router.paths
    )


def ipam(answers: Answers) -> str:
    """Who owns how much of the range, this peer first."""
    if answers.ipam is None:
        return answers.problems["ipam"]
    lines = []
    for family in answers.ipam.families:
        if len(answers.ipam.families) > 1:
            lines.append(f"{text.cidr(family.universe)}:")
        if not family.shares:
            lines.append(family.status)
        shares = sorted(family.shares, key=lambda share: (not share.self, share.peer))
        lines += [_share_line(share, family.active) for share in shares]
        lines += [f"waiting: {pending}" for pending in family.pending]
        lines += [f"conflict: {conflict}" for conflict in family.conflicts]
    return "\n".join(lines)


def _mesh(answers: Answers) -> list[str]:
    gossip = answers.gossip
    if gossip is None:
        return [text.field("Mesh", answers.problems["gossip"])]
    states = [state_name(connection) for connection in gossip.connections]
    by_state = text.counted([(states.count(name), name) for name in _STATES.values()])
    links = [link.established for peer in gossip.peers for link in peer.links]
    by_link = text.counted([(links.count(True), "established"), (links.count(False), "pending")])
    lines = [
        text.field("Protocol", f"weave {gossip.min_protocol}..{gossip.max_protocol}"),
        text.field("Name", text.peer(gossip.name, gossip.nickname)),
        text.field("Encryption", "enabled" if gossip.encrypted else "disabled"),
        text.field("PeerDiscovery", "enabled" if gossip.discovery else "disabled"),
        text.field("Targets", len(gossip.targets)),
        text.field("Connections", _with_detail(len(states), by_state)),
        text.field(
            "Peers", _with_detail(len(gossip.peers), by_link and f"with {by_link} connections")
        ),
        text.field("TrustedSubnets", "none"),
    ]
    lines += [
        text.field("Quarantined", f"{item.topic}/{item.key} of {item.writer}: {item.reason}")
        for item in gossip.quarantined
    ]
    return lines


def _data_path(answers: Answers) -> list[str]:
    router = answers.router
    if router is None:
        return [text.field("DataPath", answers.problems["router"])]
    kinds = [path_kind(path) for path in router.paths]
    by_kind = text.counted([(kinds.count(name), name) for name in _PATH_KINDS.values()])
    addresses = " ".join(map(text.cidr, router.overlay_addresses)) or "none yet"
    if not router.exposed:
        addresses += " (hidden from the host)"
    lines = [
        text.field("DataPath", "ready" if router.ready else f"not ready: {router.reason}"),
        text.field("Overlay", addresses),
        text.field("MTU", router.mtu),
        text.field("Paths", _with_detail(len(kinds), by_kind)),
        text.field("Attachments", router.attachments),
    ]
    if router.blocked_by:
        lines.append(text.field("BlockedBy", router.blocked_by))
    lines += [
        text.field("Drift", f"{drift.what} ({'repaired' if drift.repaired else 'not repaired'})")
        for drift in router.drift
    ]
    return lines


def _ipam(answers: Answers) -> list[str]:
    if answers.ipam is None:
        return [text.field("Status", answers.problems["ipam"])]
    lines = []
    for family in answers.ipam.families:
        # A ring in order does not help while the service itself cannot give out addresses.
        is_held_up = family.status == "ready" and not family.ready
        lines += [
            text.field("Status", answers.ipam.reason if is_held_up else family.status),
            text.field("Range", text.cidr(family.universe)),
            text.field("DefaultSubnet", text.cidr(family.default_subnet)),
        ]
    return lines or [text.field("Status", answers.ipam.reason)]


def _cni(answers: Answers) -> list[str]:
    cni = answers.cni
    if cni is None:
        return [text.field("Status", answers.problems["cni"])]
    status = "ready" if cni.ready else f"not ready: {'; '.join(cni.reasons)}"
    return [
        text.field("Status", status),
        text.field("Config", cni.conflist or "none"),
        text.field("Executable", cni.executable),
    ]


def _connection_info(
    connection: gossip_pb2.Connection, path: router_pb2.GetStatusResponse.Path | None
) -> str:
    name = text.peer(connection.peer, connection.nickname) if connection.peer else ""
    if connection.state in LIVE:
        encryption = "encrypted   " if connection.encrypted else ""
        attributes = _path_attributes(path) if path else []
        if connection.rtt_s and not (path and path.rtt_s):
            attributes.append(f"rtt={text.rtt(connection.rtt_s)}")
        if connection.last_error:
            attributes.append(f"(last failure: mesh: {connection.last_error})")
        return " ".join([f"{encryption}{path_kind(path):<6} {name}", *attributes])
    if not connection.last_error:
        return name
    if connection.next_try_unix_s < 0:
        return f"{connection.last_error}, retry: never"
    if connection.next_try_unix_s:
        return f"{connection.last_error}, retry: {text.moment(connection.next_try_unix_s)}"
    return connection.last_error


def _path_attributes(path: router_pb2.GetStatusResponse.Path) -> list[str]:
    attributes = [f"mtu={path.mtu}"] if path.mtu else []
    if path.rtt_s:
        attributes.append(f"rtt={text.rtt(path.rtt_s)}")
    if path.via:
        attributes.append(f"via={path.via}")
    if path.last_error:
        attributes.append(f"(last failure: {path.last_error})")
    return attributes


def _share_line(share: ipam_pb2.GetStatusResponse.Share, active: int) -> str:
    name = text.peer(share.peer, share.nickname)
    line = f"{name:<37} {share.addresses:>8} IPs ({share.fraction * 100:04.1f}% of total)"
    if share.self:
        return f"{line} ({active} active)"
    return line if share.reachable else f"{line} - unreachable!"


def _peer_line(name: str, is_reachable: bool) -> str:
    return name if is_reachable else f"{name} - unreachable!"


def _with_detail(count: int, detail: str) -> str:
    return f"{count} ({detail})" if detail else str(count)


def _ask_gossip(node: Node) -> gossip_pb2.GetStatusResponse:
    return node.gossip.GetStatus(gossip_pb2.GetStatusRequest(), timeout=ANSWER_TIMEOUT_S)


def _ask_ipam(node: Node) -> ipam_pb2.GetStatusResponse:
    return node.ipam.GetStatus(ipam_pb2.GetStatusRequest(), timeout=ANSWER_TIMEOUT_S)


def _ask_router(node: Node) -> router_pb2.GetStatusResponse:
    return node.router.GetStatus(router_pb2.GetStatusRequest(), timeout=ANSWER_TIMEOUT_S)


def _ask_cni(node: Node) -> cni_pb2.GetStatusResponse:
    return node.cni.GetStatus(cni_pb2.GetStatusRequest(), timeout=ANSWER_TIMEOUT_S)


_ASK = {"gossip": _ask_gossip, "ipam": _ask_ipam, "router": _ask_router, "cni": _ask_cni}
