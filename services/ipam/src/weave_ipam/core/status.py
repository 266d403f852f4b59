"""The status of the families, in the words that Weave Net's users know."""

from __future__ import annotations

from weave_ipam.core.desk import Desk
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.requests import AllocateRequest, ClaimRequest
from weave_ipam.core.results import AddressConflict, FamilyStatus, Share, Status
from weave_model.prefix import Prefix

ALL_UNREACHABLE = "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead"
WAITING = "waiting for IP(s) to become available"
READY = "ready"


def describe(pools: tuple[Pool, ...], peers: Peers, desk: Desk, obstacle: str | None) -> Status:
    """Everything `weave status ipam` shows."""
    families = tuple(_family(pool, peers, desk, obstacle) for pool in pools)
    unready = next((family.status for family in families if not family.ready), "")
    reason = obstacle if obstacle is not None else unready
    return Status(families, not reason, reason)


def status_text(pool: Pool, peers: Peers, desk: Desk) -> str:
    """Weave Net's precedence: election, unreachable owners, waiting callers, ready."""
    view = pool.ring.view
    if view is None:
        return pool.ring.initial.status()
    if not any(peers.is_reachable(segment.owner) for segment in view.segments):
        return ALL_UNREACHABLE
    if desk.wants(pool.family):
        return WAITING
    return READY


def _family(pool: Pool, peers: Peers, desk: Desk, obstacle: str | None) -> FamilyStatus:
    text = status_text(pool, peers, desk)
    allocates, claims = desk.waiting(AllocateRequest), desk.waiting(ClaimRequest)
    return FamilyStatus(
        universe=pool.options.universe,
        default_subnet=pool.options.default_subnet,
        status=text,
        ready=text == READY and obstacle is None,
        shares=_shares(pool, peers),
        ring=pool.ring.seen if pool.ring.view is not None else None,
        active=len(pool.space.used),
        quarantined=len(pool.space.resting),
        free=pool.space.free_count(),
        pending=(*claims, *allocates),
        pending_allocates=len(allocates),
        pending_claims=len(claims),
        conflicting=_conflicts(pool, desk),
        troubles=_troubles(pool, peers),
        exhausted=pool.exhaustion(),
    )


def _troubles(pool: Pool, peers: Peers) -> tuple[str, ...]:
    rejected = pool.ring.initial.rejected | pool.ring.rejected
    found = [f"{peers.label(writer)}: {reason}" for writer, reason in rejected.items()]
    contradiction = pool.ring.contradiction()
    return (*found, contradiction) if contradiction else tuple(found)


def _shares(pool: Pool, peers: Peers) -> tuple[Share, ...]:
    if pool.ring.view is None:
        return ()
    sizes = pool.ring.view.sizes()
    total = pool.options.universe.size
    return tuple(
        Share(
            peer=peer,
            nickname=peers.nickname(peer),
            reachable=peers.is_reachable(peer),
            self_=peer == peers.me,
            addresses=sizes[peer],
            fraction=sizes[peer] / total,
        )
        for peer in sorted(sizes, key=lambda peer: (peer != peers.me, peer))
    )


def _conflicts(pool: Pool, desk: Desk) -> tuple[AddressConflict, ...]:
    found = []
    for number in sorted(pool.space.conflicting):
        key = pool.space.used[number]
        allocation = desk.ledger.get(key)
        assert allocation is not None
        view = pool.ring.view
        found.append(
            AddressConflict(
                address=Prefix.host(pool.family, number),
                key=key,
                owner=view.owner_of(number) if view is not None else None,
                since=allocation.since,
            )
        )
    return tuple(found)
