"""Who the peers are, read off the documents of topic `peers`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import NamedTuple

from weave_gossip.core.facts import PeerFacts
from weave_gossip.core.messages import Hello
from weave_gossip.core.status import PeerView
from weave_model.peer import PeerName


class _Entry(NamedTuple):
    incarnation: int
    facts: PeerFacts
    addresses: tuple[str, ...]


class Directory:
    """Facts by peer, and which views of them were shown to the shell."""

    def __init__(self, own_name: PeerName) -> None:
        self.own_name = own_name
        self._facts: dict[PeerName, _Entry] = {}
        self._shown: dict[PeerName, PeerView] = {}
        self._addresses: dict[str, PeerName] = {}
        # The instance before the present one, of peers that were seen to change it.
        self._former_instances: dict[PeerName, bytes] = {}
        self._collided: set[PeerName] = set()

    def update(self, name: PeerName, incarnation: int, facts: PeerFacts) -> PeerFacts | None:
        """Takes newer facts. Returns the former ones when they show two machines with one name.

        An instance is random per process, so one that comes back after another belongs to a second
        machine that is alive. Told once per name.
        """
        known = self._facts.get(name)
        self._forget_addresses(name)
        self._facts[name] = _Entry(incarnation, facts, addresses_of(facts))
        for address in self._facts[name].addresses:
            self._addresses.setdefault(address, name)
        if known is None or known.facts.instance == facts.instance:
            return None
        is_back = self._former_instances.get(name) == facts.instance
        self._former_instances[name] = known.facts.instance
        if not is_back or name in self._collided:
            return None
        self._collided.add(name)
        return known.facts

    def remove(self, name: PeerName) -> None:
        """The peer's facts are gone; unknown is success."""
        self._forget_addresses(name)
        self._facts.pop(name, None)
        self._former_instances.pop(name, None)
        self._collided.discard(name)

    def names(self) -> Collection[PeerName]:
        return self._facts.keys()

    def facts(self, name: PeerName) -> PeerFacts | None:
        known = self._facts.get(name)
        return None if known is None else known.facts

    def nickname(self, name: PeerName) -> str:
        known = self._facts.get(name)
        return "" if known is None else known.facts.nickname

    def addresses(self, name: PeerName) -> tuple[str, ...]:
        """Where the peer listens, preferred first."""
        known = self._facts.get(name)
        return () if known is None else known.addresses

    def at(self, address: str) -> PeerName | None:
        """The peer that says it listens there."""
        return self._addresses.get(address)

    def view(self, name: PeerName, *, reachable: bool) -> PeerView | None:
        known = self._facts.get(name)
        if known is None:
            return None
        facts = known.facts
        return PeerView(
            name=name,
            nickname=facts.nickname,
            is_self=name == self.own_name,
            reachable=reachable,
            incarnation=known.incarnation,
            node_uid=facts.node_uid,
            underlay_addresses=facts.underlay_addresses,
            universes=facts.universes,
            features=facts.features,
        )

    def show(
        self,
        name: PeerName,
        *,
        reachable: bool,
        changed: Callable[[PeerView, PeerView | None], None],
        removed: Callable[[PeerName], None],
    ) -> None:
        """Reports the peer if what is to be seen of it differs from what was shown last."""
        view = self.view(name, reachable=reachable)
        shown = self._shown.get(name)
        if view is None:
            if shown is not None:
                del self._shown[name]
                removed(name)
        elif view != shown:
            self._shown[name] = view
            changed(view, shown)

    def _forget_addresses(self, name: PeerName) -> None:
        for address in self.addresses(name):
            if self._addresses.get(address) == name:
                del self._addresses[address]


def addresses_of(facts: PeerFacts | Hello) -> tuple[str, ...]:
    """ "10.0.0.2:6783" or "[fd00::2]:6783" for each underlay address."""
    if not 1 <= facts.listen_port <= 65535:
        return ()
    texts = []
    for raw in facts.underlay_addresses:
        address = ip_address(raw)
        text = f"[{address}]" if address.version == 6 else str(address)
        texts.append(f"{text}:{facts.listen_port}")
    return tuple(texts)
