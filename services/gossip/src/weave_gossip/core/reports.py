"""Builds what `weave status` and the watches show, from the parts of the core."""

from __future__ import annotations

from dataclasses import replace

from weave_gossip.core.admission import SELF_REASON
from weave_gossip.core.clock import Clock
from weave_gossip.core.dialling import NEVER, Dialler, Target
from weave_gossip.core.directory import Directory
from weave_gossip.core.knowledge import Knowledge
from weave_gossip.core.links import LinkTable
from weave_gossip.core.status import (
    Connection,
    ConnectionState,
    PeerLink,
    PeerLinks,
    PeerView,
    QuarantinedDocument,
)
from weave_model.peer import PeerName


def peers(knowledge: Knowledge) -> list[PeerView]:
    """All known peers, sorted by name."""
    found = []
    for name in sorted(knowledge.directory.names()):
        view = knowledge.directory.view(name, reachable=knowledge.topology.is_reachable(name))
        assert view is not None
        found.append(view)
    return found


def peer_links(knowledge: Knowledge) -> list[PeerLinks]:
    """All known peers with the links they say they hold."""
    found = []
    for view in peers(knowledge):
        links = []
        for link in knowledge.listed_links(view.name):
            addresses = knowledge.directory.addresses(link.peer)
            links.append(
                PeerLink(
                    peer=link.peer,
                    nickname=knowledge.directory.nickname(link.peer),
                    outbound=link.outbound,
                    established=knowledge.topology.is_linked(view.name, link.peer),
                    address=addresses[0] if addresses else "",
                )
            )
        found.append(PeerLinks(view, tuple(links)))
    return found


def common_features(knowledge: Knowledge) -> frozenset[str]:
    """What every reachable peer lists."""
    common: frozenset[str] | None = None
    for name in knowledge.directory.names():
        facts = knowledge.directory.facts(name)
        if facts is not None and knowledge.topology.is_reachable(name):
            features = frozenset(facts.features)
            common = features if common is None else common & features
    return common or frozenset()


def connections(
    links: LinkTable, dialler: Dialler, directory: Directory, clock: Clock
) -> list[Connection]:
    """Links, and addresses that are dialled, failed or wanted by the operator."""
    found = [
        Connection(
            address=link.address,
            outbound=link.outbound,
            state=ConnectionState.ESTABLISHED,
            peer=link.peer,
            nickname=link.hello.nickname,
            rtt_s=link.rtt_s,
        )
        for link in links
    ]
    linked = {link.peer for link in links}
    for target in dialler.targets():
        peer = target.peer if target.peer is not None else directory.at(target.address)
        # Not what the operator has forgotten, unless a peer is known to be there.
        is_known = directory.at(target.address) is not None and target.last_error
        is_wanted = target.is_dialling or is_known or target.address in dialler.direct
        if is_wanted and peer not in linked:
            found.append(_wanted(target, peer, directory, clock))
    return found


def quarantined(knowledge: Knowledge, clock: Clock) -> list[QuarantinedDocument]:
    """Versions set aside."""
    return [
        replace(each, since=clock.outside(each.since)) for each in knowledge.quarantine.values()
    ]


def _wanted(
    target: Target, peer: PeerName | None, directory: Directory, clock: Clock
) -> Connection:
    error, planned = target.last_error, False
    if peer == directory.own_name and not target.is_dialling:
        # Mostly never dialled: where we listen is known.
        state, error = ConnectionState.FAILED, error or SELF_REASON
    elif error and not target.is_dialling and target.next_try > float("-inf"):
        state, planned = ConnectionState.FAILED, target.next_try != NEVER
    else:
        # Under way, or its turn comes as soon as the limit on dials allows.
        state = ConnectionState.RETRYING if error else ConnectionState.CONNECTING
    return Connection(
        address=target.address,
        outbound=True,
        state=state,
        peer=peer,
        nickname="" if peer is None else directory.nickname(peer),
        last_error=error,
        next_try=clock.outside(target.next_try) if planned else None,
    )
