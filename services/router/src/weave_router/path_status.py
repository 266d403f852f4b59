"""How each peer is reached, for status and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_router.core import tunnels
from weave_router.core.inputs import Path, PathKind
from weave_router.core.liveness import State
from weave_router.core.prober import Verdict
from weave_router.node import Node


@dataclass(frozen=True, slots=True)
class PathStatus:
    """The way to one peer. `mtu` is that of its routes; 0: there is none."""

    peer: PeerName
    kind: PathKind
    via: PeerName | None = None
    underlay: Prefix | None = None
    mtu: int = 0
    rtt_s: float = 0.0
    last_error: str = ""


def path_statuses(node: Node) -> list[PathStatus]:
    """How each peer is reached; empty while the node itself is not set up."""
    if node.lacks():
        return []
    options = node.options()
    statuses = []
    for peer in node.peers or ():
        if peer.name == node.name:
            continue
        path = node.paths.get(peer.name, Path())
        end = tunnels.tunnel_to(options, peer)
        kind = PathKind.NONE if end is None else path.kind
        verdict = node.verdicts.get(peer.name, Verdict())
        mtu = path.mtu or verdict.limit or node.mtu
        underlay = end[1] if end is not None else None
        statuses.append(
            PathStatus(
                peer=peer.name,
                kind=kind,
                via=path.via,
                underlay=underlay,
                mtu=mtu if kind is not PathKind.NONE else 0,
                rtt_s=verdict.rtt_s if verdict.state is State.UP else 0.0,
                last_error=_failure(verdict),
            )
        )
    return statuses


def _failure(verdict: Verdict) -> str:
    if verdict.state is State.DOWN:
        return "no answer through the tunnel"
    if verdict.too_small:
        return "only packets smaller than the overlay's least MTU pass the tunnel"
    return ""
