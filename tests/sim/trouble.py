"""One seed of trouble: a mesh forms, suffers, is healed, and must agree again."""

from __future__ import annotations

import time

from tests.sim.cluster import Cluster
from tests.sim.faults import Chaos
from tests.sim.invariants import Broken, Watchman
from weave_gossip.codec.facts import FactsCodec
from weave_gossip.core.options import MeshOptions

FORM_WITHIN_S = 30.0
# Longest pause between two dials of one address is 9 minutes; a mesh of peers has many addresses.
AGREE_WITHIN_S = 120.0
# Encoding takes longer than all else a frame costs; a run still encodes some ten thousand.
ENCODE_EVERY = 8


def run_trouble(seed: int, *, peers: int, seconds: float, connection_limit: int = 30) -> str:
    """Returns a line of what happened. Raises AssertionError, with the last events."""
    started = time.perf_counter()
    options = MeshOptions(connection_limit=connection_limit)
    cluster = Cluster(peers, seed, options=options, codec=FactsCodec())
    cluster.network.encode_every = ENCODE_EVERY
    Watchman(cluster, connection_limit)
    chaos = Chaos(cluster)
    try:
        cluster.start(within_s=3)
        formed = cluster.run_to(cluster.is_converged, within_s=FORM_WITHIN_S)
        chaos.run(seconds)
        chaos.heal()
        agreed = cluster.run_to(cluster.is_converged, within_s=AGREE_WITHIN_S)
        wrong = chaos.find_wrong()
        if wrong is not None:
            raise Broken(wrong)
    except AssertionError as error:
        events = "\n  ".join(chaos.history[-40:])
        raise AssertionError(f"seed {seed}: {error}\nlast events:\n  {events}") from error
    took = time.perf_counter() - started
    return (
        f"formed in {formed:.1f} s, {len(chaos.history)} events, agreed in {agreed:.1f} s, "
        f"{cluster.scheduler.steps} steps, {cluster.now / took:.1f} virtual s/s"
    )
