"""The planner: what the kernel should hold, as a pure function of ring, peers, attachments and
options.

The parts are in modules of their own: `tunnels`, `routes`, `sets`, `ruleset`, `ports`, `switches`.

Part of the input may be unknown yet (ring and peers after a start while their services are away):
what depends on it is then taken over from `found` as it stands.
"""

from __future__ import annotations

from dataclasses import replace

from weave_router.core import naming, ports, routes, ruleset, sets, switches, tunnels
from weave_router.core.inputs import Inputs
from weave_router.core.state import LEGACY_CHAIN, Blocker, KernelState, LinkKind


def plan(inputs: Inputs, found: KernelState) -> KernelState:
    """The desired state. Deterministic; of `found` only what unknown inputs leave open is used."""
    # The end of a sandbox takes its link with it: nothing stands on a link that is gone.
    links_found = {link.name for link in found.links}
    alive = tuple(port for port in inputs.ports if port.link in links_found)
    inputs = replace(inputs, ports=alive)
    options = inputs.options
    devices = tunnels.devices(options)
    vxlans = [link for link in devices if link.kind is LinkKind.VXLAN]
    if inputs.rings is not None and inputs.peers is not None:
        others = [peer for peer in inputs.peers if peer.name != options.name]
        block_routes = routes.block_routes(inputs, tunnels.hops(options, others))
        neighbours, fdb = tunnels.entries(options, others, vxlans)
    else:
        block_routes = routes.found_block_routes(inputs, found)
        neighbours = [n for n in found.neighbours if n.link in naming.VXLAN.values()]
        fdb = list(found.fdb)
    neighbours += [entry for port in inputs.ports for entry in ports.neighbours(port)]
    return KernelState(
        links=frozenset(devices) | frozenset(ports.link(port) for port in inputs.ports),
        addresses=tunnels.addresses(inputs, devices, found),
        routes=frozenset(block_routes) | frozenset(routes.port_routes(inputs)),
        neighbours=frozenset(neighbours),
        fdb=frozenset(fdb),
        sysctls=frozenset(switches.wanted(options, found)),
        accepts=frozenset(b.where for b in found.blockers if _can_pass(b)),
        ruleset=ruleset.text(
            ruleset.RulesetOptions(
                exposed=options.exposed,
                no_masq_local=options.no_masq_local,
                # Also where we cannot add the rule: an administrator can.
                mark_forwarded=bool(found.blockers),
            )
        ),
        sets=sets.elements(inputs, found),
    )


def impassable(found: KernelState) -> list[str]:
    """Foreign chains that drop our packets and which no rule of ours can help against."""
    return sorted(
        f"{b.where.family} {b.where.table} {b.where.chain}"
        for b in found.blockers
        if not _can_pass(b) and not b.knows_mark
    )


def _can_pass(blocker: Blocker) -> bool:
    """Can a rule of ours help? Packets must bear our mark before they come to the chain."""
    return blocker.priority > ruleset.MARK_PRIORITY and blocker.where != LEGACY_CHAIN
