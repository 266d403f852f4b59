"""The commands that change something or list something; each returns what to print."""

from __future__ import annotations

from collections.abc import Sequence

from weave.cni.v1 import cni_pb2
from weave.gossip.v1 import gossip_pb2
from weave.ipam.v1 import ipam_pb2
from weave.router.v1 import router_pb2
from weave.types.v1 import types_pb2
from weave_cli import sandboxes, text
from weave_cli.node import ANSWER_TIMEOUT_S, Failure, Node, NotAnswering, failures_of
from weave_model.attachment import NODE_CONTAINER_ID

# As much of a container id as people read.
_SHORT_ID = 12
# Other peers take part: the ring to agree on, blocks to hand over, a fence to write.
CLUSTER_TIMEOUT_S = 60.0


def ps(node: Node, wanted: Sequence[str]) -> str:
    """Containers with their MAC and addresses, the host's own address first.

    `wanted` are beginnings of container ids; empty means all.
    """
    with failures_of("ipam"):
        allocations = node.ipam.List(ipam_pb2.ListRequest(), timeout=ANSWER_TIMEOUT_S).allocations
    macs = _macs(node)
    rows = [
        " ".join(
            [
                _short(allocation.key.container_id),
                text.mac(macs.get(_identity(allocation.key), b"")),
                *map(text.cidr, allocation.addresses),
            ]
        )
        for allocation in sorted(allocations, key=lambda each: _order(each.key))
        if not wanted or allocation.key.container_id.startswith(tuple(wanted))
    ]
    return "\n".join(rows)


def connect(node: Node, targets: Sequence[str], *, replace: bool) -> str:
    """Adds targets, or replaces all of them."""
    request = gossip_pb2.ConnectRequest(targets=targets, replace=replace)
    with failures_of("gossip"):
        node.gossip.Connect(request, timeout=ANSWER_TIMEOUT_S)
    return ""


def forget(node: Node, targets: Sequence[str]) -> str:
    """Removes targets."""
    with failures_of("gossip"):
        node.gossip.Forget(gossip_pb2.ForgetRequest(targets=targets), timeout=ANSWER_TIMEOUT_S)
    return ""


def prime(node: Node) -> str:
    """Waits until the peers have agreed on a ring."""
    with failures_of("ipam"):
        node.ipam.Prime(ipam_pb2.PrimeRequest(), timeout=CLUSTER_TIMEOUT_S)
    return ""


def rmpeer(node: Node, peers: Sequence[str], *, force: bool) -> str:
    """Takes over the addresses of dead peers; one line each.

    Without `force` not while other owners of addresses are out of reach: one that lives may have
    been given some of them last, and nobody here would know. Raises Failure.
    """
    others = [] if force else _out_of_reach(node, peers)
    if others:
        raise Failure(
            f"{', '.join(others)} cannot be reached either and may have been given some of these"
            " addresses: wait for it, name it too if it is dead for good, or add --force"
        )
    lines = []
    for peer in peers:
        with failures_of("ipam"):
            request = ipam_pb2.ReclaimRequest(peer=peer)
            response = node.ipam.Reclaim(request, timeout=CLUSTER_TIMEOUT_S)
        lines.append(f"{response.addresses} IPs taken over from {response.peer}")
    return "\n".join(lines)


def _out_of_reach(node: Node, but: Sequence[str]) -> list[str]:
    """Owners of addresses that this node does not reach, except those named."""
    with failures_of("ipam"):
        status = node.ipam.GetStatus(ipam_pb2.GetStatusRequest(), timeout=ANSWER_TIMEOUT_S)
    return sorted(
        {
            text.peer(share.peer, share.nickname)
            for family in status.families
            for share in family.shares
            if not share.reachable and not {share.peer, share.nickname} & set(but)
        }
    )


def check_ipam(node: Node, *, repair: bool) -> tuple[str, int]:
    """Names every leak and conflict; the status is 1 while one is not repaired."""
    request = ipam_pb2.CheckRequest(repair=repair)
    with failures_of("ipam"):
        findings = node.ipam.Check(request, timeout=CLUSTER_TIMEOUT_S).findings
    lines = [
        " ".join(
            [
                f"{finding.kind}:",
                _short(finding.key.container_id),
                *map(text.cidr, finding.addresses),
                *([f"since {text.moment(finding.since_unix_s)}:"] if finding.since_unix_s else []),
                "repaired" if finding.repaired else finding.advice,
            ]
        )
        for finding in findings
    ]
    return "\n".join(lines), int(not all(finding.repaired for finding in findings))


def reset(node: Node, *, force: bool) -> str:
    """Hands this peer's addresses over, then takes the plugin off the host and the data path out
    of the kernel.

    With `force` all steps follow also when one before them fails.
    """
    lines = []
    try:
        with failures_of("ipam"):
            left = node.ipam.Leave(ipam_pb2.LeaveRequest(), timeout=CLUSTER_TIMEOUT_S)
        lines.append(f"{left.addresses} IPs handed over to other peers")
    except NotAnswering as failure:
        if not force:
            raise Failure(
                f"weave is not running; unable to remove from cluster ({failure});"
                " --force removes the data path all the same"
            ) from failure
        lines.append(f"not removed from the cluster: {failure}")
    except Failure as failure:
        if not force:
            raise
        lines.append(f"not removed from the cluster: {failure}")
    try:
        with failures_of("cni-shim"):
            withdrawn = node.cni.Withdraw(cni_pb2.WithdrawRequest(), timeout=ANSWER_TIMEOUT_S)
        lines += [f"removed: {path}" for path in withdrawn.removed]
    except Failure as failure:
        if not force:
            raise
        lines.append(f"conflist and executables are left: {failure}")
    with failures_of("router"):
        response = node.router.Reset(router_pb2.ResetRequest(), timeout=CLUSTER_TIMEOUT_S)
    lines += [f"removed: {path}" for path in sandboxes.let_go_of_all()]
    lines += [f"left as it is: {switch}" for switch in response.left]
    lines.append("stop the services; `weave reset --files` then removes what they keep on disk")
    return "\n".join(lines)


def expose(node: Node) -> str:
    """Gives the host access to the overlay; prints its addresses."""
    with failures_of("router"):
        response = node.router.Expose(router_pb2.ExposeRequest(), timeout=CLUSTER_TIMEOUT_S)
    return " ".join(map(text.cidr, response.addresses))


def hide(node: Node) -> str:
    """Takes the host's access away; prints the addresses it had."""
    with failures_of("router"):
        response = node.router.Hide(router_pb2.HideRequest(), timeout=CLUSTER_TIMEOUT_S)
    return " ".join(map(text.cidr, response.addresses))


def _macs(node: Node) -> dict[tuple[str, str, str], bytes]:
    """MAC per attachment; none while the router is away: addresses are worth printing alone."""
    try:
        with failures_of("router"):
            request = router_pb2.ListAttachmentsRequest()
            items = node.router.ListAttachments(request, timeout=ANSWER_TIMEOUT_S).items
    except Failure:
        return {}
    return {_identity(item.attachment.key): item.attachment.mac for item in items}


def _identity(key: types_pb2.AttachmentKey) -> tuple[str, str, str]:
    return key.network, key.container_id, key.interface


def _order(key: types_pb2.AttachmentKey) -> tuple[bool, tuple[str, str, str]]:
    return key.container_id != NODE_CONTAINER_ID, _identity(key)


def _short(container_id: str) -> str:
    return container_id if container_id == NODE_CONTAINER_ID else container_id[:_SHORT_ID]
