"""The nftables table `inet weave`: its text, and updates of its sets' elements.

Priorities are the design's; guard (-300) runs before connection tracking (-200).

| hook        | chain     | what it is for                                                      |
|-------------|-----------|---------------------------------------------------------------------|
| prerouting  | guard     | A pod's port: only what is bound to it passes. A tunnel: only other |
|             |           | peers' blocks as source. What goes on to another peer is not        |
|             |           | tracked, or `ct state invalid drop` of kube-proxy kills TCP on      |
|             |           | asymmetric relay paths; and it is relayed no second time.           |
| input       | guard_in  | Pods do not speak to this node's mesh and tunnel ports (after       |
|             |           | DNAT); tunnel packets are taken from known peers only.              |
| output      | guard_out | No redirects: same-node pods would be told to speak to each other   |
|             |           | directly.                                                           |
| prerouting  | new_from  | No device with a name of ours passes by the guard for want of its   |
|             |           | group: it opens no connection.                                      |
| postrouting | new_out   | Pods do not speak to other peers' mesh and tunnel ports (after      |
|             |           | DNAT), nor to a tunnel port outside the universe: masqueraded, that |
|             |           | would come from a peer.                                             |
| forward,    | marks,    | Only where a foreign forward chain drops by policy.                 |
| postrouting | unmark    |                                                                     |
| postrouting | nat       | Masquerade (a) pods towards outside the universe, (b) what enters   |
|             |           | the overlay with a source outside it, so that the answer comes back |
|             |           | by the overlay.                                                     |

Every packet runs through some of the first three, so each asks first what tells most packets apart
(where they come from, a port, a protocol) and has the rest in chains of its own; what a translation
alone can bring about on the way through is asked once a connection (docs/adr/0012). Peers' packets
around the overlay's are not tracked: all that could be known of them is who sent them.

The table is replaced in one transaction: no packet sees it without its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weave_model.prefix import Family, Prefix, format_address
from weave_router.core import guards
from weave_router.core import state as kernel_state
from weave_router.core.guards import HEADER, PODS, PROBES, TUNNELS, Chains, hook
from weave_router.core.state import Binding, Element

MAIN_TABLE = kernel_state.MAIN_TABLE
TABLE = "inet weave"
# The one bit of the packet mark that is ours; kube-proxy, Calico and Cilium use others.
MARK = 0x00100000
MARK_PRIORITY = -90
# Tells our rule in a foreign chain.
FOREIGN_COMMENT = "weave-net: forward overlay packets"
# Two in each family for each of the peers that a mesh can have; 512 KiB of the kernel's memory.
MAX_PEER_ADDRESSES = 32_768
_ADDRESS_TYPE = {Family.IPV4: "ipv4_addr", Family.IPV6: "ipv6_addr"}
# Name of each set and how it is declared; those of intervals hold prefixes, the others hosts.
SETS: Mapping[str, str] = {
    **{f"bindings{f}": f"type ifname . ether_addr . {_ADDRESS_TYPE[f]}" for f in Family},
    **{
        f"{stem}{f}": f"type {_ADDRESS_TYPE[f]}; flags interval"
        for stem in ("universe", "local", "remote", "relayed")
        for f in Family
    },
    # With a size the kernel takes a hash table of fixed size, in which it finds addresses fastest.
    **{f"peers{f}": f"type {_ADDRESS_TYPE[f]}; size {MAX_PEER_ADDRESSES}" for f in Family},
}


@dataclass(frozen=True, slots=True)
class RulesetOptions:
    """What changes the rules themselves rather than the sets' elements."""

    exposed: bool = True
    no_masq_local: bool = True
    mark_forwarded: bool = False


def text(options: RulesetOptions) -> str:
    """The table's body as nft reads it: declarations of sets, then chains with their rules."""
    lines = [f"set {name} {{ {declaration}; }}" for name, declaration in SETS.items()]
    for chain, (declared, rules) in _chains(options).items():
        lines += [f"chain {chain} {{", *([declared] if declared else []), *rules, "}"]
    return "\n".join(lines) + "\n"


def replacement(body: str, existing_chains: Iterable[str]) -> str:
    """Commands of one transaction that make the table's rules those of `body` and keep the sets'
    elements."""
    commands = [f"add table {TABLE}"]
    commands += [f"flush chain {TABLE} {chain}" for chain in existing_chains]
    kept = chain_names(body)
    # First emptied, then removed: a chain that others jump to is still referenced until they are
    # empty.
    commands += [f"delete chain {TABLE} {c}" for c in existing_chains if c not in kept]
    commands.append(f"table {TABLE} {{\n{body}}}")
    return "\n".join(commands) + "\n"


def chain_names(body: str) -> list[str]:
    """The chains that a table's text declares."""
    return [line.split()[1] for line in body.splitlines() if line.startswith("chain ")]


def accept_rule() -> str:
    """The rule in a foreign chain, without the place."""
    return f'meta mark and {MARK:#010x} == {MARK:#010x} accept comment "{FOREIGN_COMMENT}"'


def update(removed: Mapping[str, Iterable[Element]], added: Mapping[str, Iterable[Element]]) -> str:
    """Commands that change elements of sets; in one transaction, removals first, since intervals
    must not overlap.

    A binding that is gone already may be removed: it is added first, which is never an error.
    """
    commands = []
    for verb, changes in (("delete", removed), ("add", added)):
        for name, elements in sorted(changes.items()):
            listed = ", ".join(element_text(element) for element in elements)
            if listed and verb == "delete" and name.startswith("bindings"):
                commands.append(f"add element {TABLE} {name} {{ {listed} }}")
            if listed:
                commands.append(f"{verb} element {TABLE} {name} {{ {listed} }}")
    return "\n".join(commands) + "\n" if commands else ""


def holds_prefixes(name: str) -> bool:
    """Are the elements of this set prefixes, which the kernel may show merged?"""
    return "interval" in SETS.get(name, "")


def element_text(element: Element) -> str:
    """One element as nft writes it."""
    if isinstance(element, Binding):
        return f'"{element.link}" . {element.mac.hex(":")} . {_bare(element.address)}'
    return _bare(element) if element.is_host else str(element)


def _chains(options: RulesetOptions) -> Chains:
    chains = guards.chains(exposed=options.exposed)
    chains["nat"] = (hook("nat", "postrouting", 100), _nat(options))
    if options.mark_forwarded:
        chains |= _marking()
    return chains


def _nat(options: RulesetOptions) -> list[str]:
    rules = [f"oifname {TUNNELS} {PROBES} return"]
    rules += [
        f"{HEADER[f]} saddr @local{f} {HEADER[f]} daddr != @universe{f} masquerade fully-random"
        for f in Family
    ]
    rules += [
        f"oifname {TUNNELS} {HEADER[f]} saddr != @universe{f} masquerade fully-random"
        for f in Family
    ]
    if not options.no_masq_local:
        rules += [
            f"oifname {PODS} {HEADER[f]} saddr != @universe{f} masquerade fully-random"
            for f in Family
        ]
    return rules


def _marking() -> Chains:
    ours = f"meta mark set meta mark or {MARK:#010x}"
    cleared = f"meta mark set meta mark and {0xFFFFFFFF ^ MARK:#010x}"
    marks = [
        f"{direction} {devices} {ours}"
        for direction in ("iifname", "oifname")
        for devices in (PODS, TUNNELS)
    ]
    return {
        "marks": (hook("filter", "forward", MARK_PRIORITY), marks),
        # The bit must not travel on with the packet, into the tunnel or to another table's rules.
        "unmark": (
            hook("filter", "postrouting", 101),
            [f"meta mark and {MARK:#010x} == {MARK:#010x} {cleared}"],
        ),
    }


def _bare(prefix: Prefix) -> str:
    return format_address(prefix.family, prefix.address)
