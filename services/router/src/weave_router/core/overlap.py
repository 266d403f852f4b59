"""Does the universe share addresses with a route that the host had before?"""

from __future__ import annotations

from collections.abc import Iterable

from weave_model.prefix import Prefix

# Default routes, and the two halves by which VPN clients shadow them, contain every universe.
_MAX_DEFAULT_LENGTH = 1


def overlaps(universes: Iterable[Prefix], routes: Iterable[Prefix]) -> list[tuple[Prefix, Prefix]]:
    """Pairs of a universe and a route that share addresses, sorted."""
    return sorted(
        (universe, route)
        for universe in universes
        for route in set(routes)
        if route.length > _MAX_DEFAULT_LENGTH and universe.overlaps(route)
    )
