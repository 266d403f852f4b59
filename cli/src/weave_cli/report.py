"""`weave report`: everything at once as JSON, with the names that Weave Net's report has.

What this system adds: `Router.Paths`, `Router.DataPath`, `CNI`, `Problems`. No secret is in any
answer of a service, so none can be in here.
"""

from __future__ import annotations

from typing import Any

from weave.cni.v1 import cni_pb2
from weave.gossip.v1 import gossip_pb2
from weave.ipam.v1 import ipam_pb2
from weave.router.v1 import router_pb2
from weave_cli import text
from weave_cli.status import LIVE, Answers, path_kind, state_name

Json = dict[str, Any]


def report(answers: Answers) -> Json:
    """The report as plain values. A service that did not answer has no part but in `Problems`."""
    families = list(answers.ipam.families) if answers.ipam else []
    result: Json = {
        "Ready": not answers.problems and bool(answers.cni and answers.cni.ready),
        "Version": answers.gossip.version if answers.gossip else "",
        "Router": _mesh(answers.gossip, answers.router) | _data_path(answers.router),
        # The first family under Weave Net's name, a second one beside it.
        "IPAM": _ipam(answers.ipam, families[0]) if answers.ipam and families else None,
    }
    if answers.ipam and len(families) > 1:
        result["IPAM6"] = _ipam(answers.ipam, families[1])
    result["CNI"] = _cni(answers.cni)
    result["Problems"] = dict(answers.problems)
    return {key: value for key, value in result.items() if value is not None}


def _mesh(
    gossip: gossip_pb2.GetStatusResponse | None, router: router_pb2.GetStatusResponse | None
) -> Json:
    if gossip is None:
        return {}
    paths = {path.peer: path for path in router.paths} if router else {}
    return {
        "Protocol": "weave",
        "ProtocolMinVersion": gossip.min_protocol,
        "ProtocolMaxVersion": gossip.max_protocol,
        "Encryption": gossip.encrypted,
        "PeerDiscovery": gossip.discovery,
        "Name": gossip.name,
        "NickName": gossip.nickname,
        "Port": gossip.port,
        "Incarnation": gossip.incarnation,
        "Peers": [_peer(peer) for peer in gossip.peers],
        "Connections": [_connection(each, paths.get(each.peer)) for each in gossip.connections],
        "TerminationCount": gossip.terminated_connections,
        "ConnectionLimit": gossip.connection_limit,
        "Targets": list(gossip.targets),
        "TrustedSubnets": [],
        "Documents": gossip.documents,
        "Quarantined": [
            {
                "Topic": item.topic,
                "Writer": item.writer,
                "Key": item.key,
                "Incarnation": item.incarnation,
                "Version": item.version,
                "Reason": item.reason,
                "Since": text.moment(item.since_unix_s),
            }
            for item in gossip.quarantined
        ],
    }


def _peer(peer: gossip_pb2.GetStatusResponse.PeerLinks) -> Json:
    return {
        "Name": peer.name,
        "NickName": peer.nickname,
        "Reachable": peer.reachable,
        "Incarnation": peer.incarnation,
        "UnderlayAddresses": list(map(text.address, peer.underlay_addresses)),
        "Connections": [
            {
                "Name": link.peer,
                "NickName": link.nickname,
                "Address": link.address,
                "Outbound": link.outbound,
                "Established": link.established,
            }
            for link in peer.links
        ],
    }


def _connection(
    connection: gossip_pb2.Connection, path: router_pb2.GetStatusResponse.Path | None
) -> Json:
    is_live = connection.state in LIVE
    live = f"{path_kind(path)} {connection.peer}".strip()
    return {
        "Address": connection.address,
        "Outbound": connection.outbound,
        "State": state_name(connection),
        "Info": live if is_live or not connection.last_error else connection.last_error,
        "Attrs": {
            "name": path_kind(path),
            "encrypted": connection.encrypted,
            "mtu": path.mtu if path else 0,
            "rtt": connection.rtt_s,
        },
        "Peer": connection.peer,
        "NickName": connection.nickname,
        "LastError": connection.last_error,
        "NextTry": connection.next_try_unix_s,
    }


def _data_path(router: router_pb2.GetStatusResponse | None) -> Json:
    if router is None:
        return {}
    return {
        "DataPath": {
            "Ready": router.ready,
            "Reason": router.reason,
            "OverlayAddresses": list(map(text.cidr, router.overlay_addresses)),
            "Exposed": router.exposed,
            "MTU": router.mtu,
            "Attachments": router.attachments,
            "Repairs": router.repairs,
            "BlockedBy": router.blocked_by,
            "Drift": [
                {
                    "What": drift.what,
                    "Since": text.moment(drift.since_unix_s),
                    "Repaired": drift.repaired,
                }
                for drift in router.drift
            ],
        },
        "Paths": [
            {
                "Peer": path.peer,
                "Kind": path_kind(path),
                "Via": path.via,
                "UnderlayAddress": text.address(path.underlay_address),
                "MTU": path.mtu,
                "RTT": path.rtt_s,
                "LastError": path.last_error,
            }
            for path in router.paths
        ],
    }


def _ipam(ipam: ipam_pb2.GetStatusResponse, family: ipam_pb2.GetStatusResponse.Family) -> Json:
    shares = {share.peer: share for share in family.shares}
    return {
        "Status": family.status,
        "Ready": family.ready,
        "Range": text.cidr(family.universe),
        "RangeNumIPs": text.size(family.universe),
        "ActiveIPs": family.active,
        "QuarantinedIPs": family.quarantined,
        "ConflictingIPs": family.conflicting,
        "FreeIPs": family.free,
        "DefaultSubnet": text.cidr(family.default_subnet),
        "Entries": [
            {
                "Token": text.address(block.prefix.address),
                "Size": text.size(block.prefix),
                "Peer": block.owner,
                "Nickname": shares[block.owner].nickname if block.owner in shares else "",
                "IsKnownPeer": block.owner in shares and shares[block.owner].reachable,
            }
            for block in family.ring.blocks
        ],
        "PendingAllocates": list(family.pending),
        "Conflicts": list(family.conflicts),
        "Store": ipam.store,
    }


def _cni(cni: cni_pb2.GetStatusResponse | None) -> Json | None:
    if cni is None:
        return None
    return {
        "Ready": cni.ready,
        "Reasons": list(cni.reasons),
        "Config": cni.conflist,
        "Executable": cni.executable,
        "Versions": list(cni.cni_versions),
        "Adds": cni.adds,
        "Dels": cni.dels,
        "Failures": cni.failures,
        "Spooled": cni.spooled,
    }
