"""The first ring: how a list of seeds shares the universe, and which of two lists stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis

# More seeds than any mesh has peers are a broken or hostile document.
MAX_SEEDS = 4096


def shares(universe: Prefix, genesis: Genesis) -> list[tuple[PeerName, Prefix]]:
    """Each seed's share, by recursive halving: the first half of the names, rounded down, get the
    lower half.

    A single address goes to the first of its names; the others get nothing.
    """
    found: list[tuple[PeerName, Prefix]] = []
    _share(universe, genesis.seeds, found)
    return found


def _share(part: Prefix, seeds: Sequence[PeerName], found: list[tuple[PeerName, Prefix]]) -> None:
    if len(seeds) == 1 or part.is_host:
        found.append((seeds[0], part))
        return
    lower, upper = part.halves()
    middle = len(seeds) // 2
    _share(lower, seeds[:middle], found)
    _share(upper, seeds[middle:], found)


def standing(candidates: Iterable[Genesis]) -> Genesis | None:
    """The one genesis that stands, the same on all peers that hold the same candidates.

    More seeds win, so that a peer that founded a ring by itself by mistake gives way to the others;
    then the lower SHA-256 of the seeds. The order is total and does not depend on anything that
    changes, so nobody ever switches back.
    """
    return min(set(candidates), key=_rank, default=None)


def differing(received: Genesis, ours: Genesis) -> str:
    """Weave Net's words for two rings that met."""
    return (
        "IP allocation was seeded by different peers"
        f" (received: {seeds_text(received)}, ours: {seeds_text(ours)})"
    )


def seeds_text(genesis: Genesis) -> str:
    """The seeds as a list; long ones are cut."""
    shown = [str(seed) for seed in genesis.seeds[:8]]
    if len(genesis.seeds) > len(shown):
        shown.append(f"and {len(genesis.seeds) - len(shown)} more")
    return f"[{' '.join(shown)}]"


def _rank(genesis: Genesis) -> tuple[int, bytes]:
    return -len(genesis.seeds), hashlib.sha256(b"".join(genesis.seeds)).digest()
