"""Other people's forward chains that drop by policy (Docker's, ufw's), and our one rule in each.

An accept in our own table is not final: every chain of the hook is asked. So where one drops all it
does not know, what we forward is marked, and one rule at its head accepts that mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from weave_router.core import ruleset
from weave_router.core.state import LEGACY_CHAIN, Accept, Blocker
from weave_router.kernel import legacy_tables
from weave_router.kernel.legacy_tables import Verdict
from weave_router.kernel.nftables import Nftables

# Families whose forward chains see routed packets.
_FAMILIES = {"ip", "ip6", "inet"}


def found(nft: Nftables) -> tuple[frozenset[Blocker], frozenset[Accept]]:
    """The chains that drop by policy, and those that hold our rule. Raises NftablesError."""
    chains = list(_forward_chains(nft))
    blockers = frozenset(
        Blocker(_place(chain), int(chain["prio"]))
        for chain in chains
        if chain.get("policy") == "drop"
    )
    verdict = legacy_tables.forward_verdict()
    if verdict is not Verdict.ACCEPTS:
        blockers |= {Blocker(LEGACY_CHAIN, 0, knows_mark=verdict is Verdict.DROPS_OTHERS)}
    accepts = frozenset(place for place in map(_place, chains) if _handles(nft, place))
    return blockers, accepts


def add(nft: Nftables, where: Accept) -> None:
    """Puts our rule at the head of a chain. Raises NftablesError."""
    nft.run(f"insert rule {_words(where)} {ruleset.accept_rule()}\n")


def remove(nft: Nftables, where: Accept) -> None:
    """Removes our rule from a chain, however often it is there. Raises NftablesError."""
    commands = [f"delete rule {_words(where)} handle {handle}" for handle in _handles(nft, where)]
    if commands:
        nft.run("\n".join(commands) + "\n")


def _forward_chains(nft: Nftables) -> Iterable[Mapping[str, Any]]:
    for item in nft.run_json("list chains"):
        chain = item.get("chain", {})
        is_ours = f"{chain.get('family')} {chain.get('table')}" == ruleset.TABLE
        if chain.get("hook") == "forward" and chain["family"] in _FAMILIES and not is_ours:
            yield chain


def _handles(nft: Nftables, where: Accept) -> list[int]:
    return [
        item["rule"]["handle"]
        for item in nft.run_json(f"list chain {_words(where)}")
        if item.get("rule", {}).get("comment") == ruleset.FOREIGN_COMMENT
    ]


def _place(chain: Mapping[str, Any]) -> Accept:
    return Accept(chain["family"], chain["table"], chain["name"])


def _words(where: Accept) -> str:
    return f"{where.family} {where.table} {where.chain}"
