"""Elements of the sets that ruleset.py declares."""

from __future__ import annotations

from collections.abc import Mapping

from weave_model.prefix import Family, Prefix, coalesce
from weave_router.core import ports, routes, ruleset
from weave_router.core.inputs import Inputs
from weave_router.core.state import Element, KernelState


def elements(inputs: Inputs, found: KernelState) -> dict[str, frozenset[Element]]:
    """Elements by set; those that depend on what is not known yet stand as found."""
    sets: dict[str, frozenset[Element]] = {}
    for stem, prefixes in _prefix_sets(inputs).items():
        for family in Family:
            name = f"{stem}{family}"
            if prefixes is None:
                sets[name] = found.sets.get(name, frozenset())
                continue
            wanted = [prefix for prefix in prefixes if prefix.family is family]
            # Interval sets refuse overlaps; adjacent blocks of several owners become one.
            sets[name] = frozenset(coalesce(wanted) if ruleset.holds_prefixes(name) else wanted)
    for family in Family:
        name = ports.binding_set(family)
        sets[name] = frozenset(
            element
            for port in inputs.ports
            if port.open
            for element in ports.bindings(port).get(name, ())
        )
    return sets


def peers(of: Mapping[str, frozenset[Element]]) -> frozenset[Prefix]:
    """The peers' addresses among elements by set."""
    names = [f"peers{family}" for family in Family]
    found = (element for name in names for element in of.get(name, ()))
    return frozenset(element for element in found if isinstance(element, Prefix))


def _prefix_sets(inputs: Inputs) -> dict[str, list[Prefix] | None]:
    """Contents of the sets of prefixes, both families together; None: not known yet."""
    own = inputs.options.name
    local: list[Prefix] | None = None
    remote: list[Prefix] | None = None
    if inputs.rings is not None:
        owned = routes.blocks_by_owner(inputs.rings)
        local = owned.pop(own, [])
        remote = [block for blocks in owned.values() for block in blocks]
    peers: list[Prefix] | None = None
    if inputs.peers is not None:
        peers = [a for peer in inputs.peers if peer.name != own for a in peer.underlay]
    return {
        "universe": routes.universes(inputs),
        "local": local,
        "remote": remote,
        "relayed": routes.relayed(inputs),
        "peers": peers,
    }
