"""What the Nodes of the cluster mean for the mesh. Pure functions of Node objects and peers.

A Node is recognised by its name and UID, never by an address: nodes may share a virtual one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weave_gossip.core.status import PeerView
from weave_gossip.target import format_endpoint
from weave_model.peer import PeerName

# Reason of the condition NetworkUnavailable=False, as Weave Net writes it.
WORKS = "WeaveIsUp"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One Node. `addresses` are IP addresses in the order of preference."""

    name: str
    uid: str
    addresses: tuple[str, ...]


def parse_node(item: Mapping[str, Any]) -> NodeFacts:
    """Reads a Node: internal addresses, else external ones. What is no IP address is left out."""
    given: dict[str, list[str]] = {"InternalIP": [], "ExternalIP": []}
    for entry in _entries(item, "addresses"):
        kind, text = str(entry.get("type")), str(entry.get("address"))
        if kind in given and _is_address(text):
            given[kind].append(str(ipaddress.ip_address(text)))
    addresses = given["InternalIP"] or given["ExternalIP"]
    metadata = item["metadata"]
    return NodeFacts(
        metadata["name"], str(metadata.get("uid", "")), tuple(dict.fromkeys(addresses))
    )


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """All that is held of a Node object, which has tens of kilobytes.

    `serves`: the Node says that it is ready, and that our network works there.
    """

    facts: NodeFacts
    serves: bool


def see(item: Mapping[str, Any]) -> NodeSeen:
    """Reads a Node."""
    return NodeSeen(parse_node(item), _serves(item))


def targets(nodes: Iterable[NodeFacts], own_name: str, port: int) -> tuple[str, ...]:
    """Where to dial: one address of every other node, one that no other node has if it can be."""
    nodes = sorted(nodes, key=lambda node: node.name)
    shared = _shared(nodes)
    found = []
    for node in nodes:
        if node.name != own_name and node.addresses:
            alone = [address for address in node.addresses if address not in shared]
            found.append(format_endpoint((alone or list(node.addresses))[0], port))
    return tuple(dict.fromkeys(found))


def underlay_addresses(
    nodes: Iterable[NodeFacts], own_name: str, is_local: Callable[[str], bool]
) -> tuple[bytes, ...]:
    """Where others send us packets: at most one address per family, ours alone, IPv4 first."""
    nodes = list(nodes)
    shared = _shared(nodes)
    own = next((node for node in nodes if node.name == own_name), None)
    found: dict[int, bytes] = {}
    for text in own.addresses if own else ():
        address = ipaddress.ip_address(text)
        if text not in shared and address.version not in found and is_local(text):
            found[address.version] = address.packed
    return tuple(found[version] for version in sorted(found))


def departed(nodes: Mapping[str, NodeFacts], peers: Iterable[PeerView]) -> frozenset[PeerName]:
    """Peers whose machine the cluster no longer knows, and that nobody reaches.

    A Node that was registered anew under its name is the same machine, unless another peer has
    taken its place there; so has a peer that is there under the same Node, whose machine came back
    without its state.
    """
    peers = list(peers)
    uids = {node.uid: node.name for node in nodes.values()}
    taken = {uids[peer.node_uid] for peer in peers if peer.node_uid in uids}
    present = {peer.node_uid for peer in peers if peer.reachable}

    def is_gone(peer: PeerView) -> bool:
        if peer.node_uid in uids:
            return peer.node_uid in present
        return peer.nickname not in nodes or peer.nickname in taken

    return frozenset(
        peer.name
        for peer in peers
        if not peer.is_self and not peer.reachable and peer.node_uid and is_gone(peer)
    )


def _serves(item: Mapping[str, Any]) -> bool:
    found = {str(each.get("type")): each for each in _entries(item, "conditions")}
    network = found.get("NetworkUnavailable") or {}
    ready = (found.get("Ready") or {}).get("status") == "True"
    return ready and network.get("status") == "False" and network.get("reason") == WORKS


def unreached(
    nodes: Iterable[NodeFacts], own_name: str, peers: Iterable[PeerView]
) -> list[NodeFacts]:
    """Nodes that no reachable peer is of."""
    reachable = [peer for peer in peers if peer.reachable]
    known = {peer.node_uid for peer in reachable} | {peer.nickname for peer in reachable}
    return [node for node in nodes if node.name != own_name and not {node.uid, node.name} & known]


def _entries(item: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of the status; what is of another shape than Kubernetes' is left out."""
    status = item.get("status")
    entries = status.get(name) if isinstance(status, dict) else None
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _shared(nodes: Iterable[NodeFacts]) -> frozenset[str]:
    counts = Counter(address for node in nodes for address in node.addresses)
    return frozenset(address for address, count in counts.items() if count > 1)


def _is_address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_link_local
    except ValueError:
        return False
