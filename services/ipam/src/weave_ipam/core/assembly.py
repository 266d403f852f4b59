"""Puts the parts of an allocator together from what is stored and what is wanted."""

from __future__ import annotations

import random
from dataclasses import dataclass

from weave_ipam.core.desk import Desk
from weave_ipam.core.documents import AcceptorState
from weave_ipam.core.effects import Effect
from weave_ipam.core.initial import Initial
from weave_ipam.core.leaving import Leaving
from weave_ipam.core.ledger import Ledger
from weave_ipam.core.obedience import Obedience
from weave_ipam.core.options import Options
from weave_ipam.core.orphans import Orphans
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.reclaims import Reclaims
from weave_ipam.core.records import State
from weave_ipam.core.restart import fitting
from weave_model.prefix import Family


@dataclass(frozen=True, slots=True)
class Parts:
    """What an allocator is made of. All leave their effects in one list."""

    peers: Peers
    pools: dict[Family, Pool]
    desk: Desk
    obedience: Obedience
    reclaims: Reclaims
    orphans: Orphans
    leaving: Leaving


def assemble(
    options: Options, state: State, rng: random.Random, now: float, effects: list[Effect]
) -> Parts:
    """A state of another peer or another universe is taken over as far as it fits: allocations stay
    known, own documents do not."""
    peers = Peers(options.name, options.nickname)
    fit = fitting(state, options, effects)
    pools: dict[Family, Pool] = {}
    for family_options in options.families:
        family = family_options.family
        acceptor = fit.acceptors.get(family, AcceptorState())
        initial = Initial(
            family_options.universe, options.name, options.init, acceptor, rng, effects
        )
        departed = {w: document for (f, w), document in fit.departed.items() if f is family}
        own = fit.documents.get(family)
        pools[family] = Pool(family_options, own, departed, initial, peers, rng, effects)
    all_pools = tuple(pools.values())
    desk = Desk(Ledger(fit.allocations, fit.generation), pools, effects)
    desk.load(fit.quarantine, now, options.quarantine_s)
    obedience = Obedience(peers, all_pools, fit.fence_revision, fit.owed, rng, effects)
    reclaims = Reclaims(peers, all_pools, obedience, effects)
    return Parts(
        peers=peers,
        pools=pools,
        desk=desk,
        obedience=obedience,
        reclaims=reclaims,
        orphans=Orphans(peers, all_pools, obedience, reclaims, rng, effects),
        leaving=Leaving(peers, all_pools, effects),
    )
