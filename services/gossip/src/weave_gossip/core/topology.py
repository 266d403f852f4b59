"""Who reaches whom: the graph of links that both ends list, seen from one peer.

Reachability is kept in a spanning tree (a parent for each reachable peer) that changes follow step
by step, since at 1,000 peers a full search per changed link would be most of the work. A link that
appears grows the tree; one that disappears matters only when it was a tree link, and then usually
another neighbour adopts the child. Only when none does is the tree built anew, by `settle`, which
the caller may delay to gather several losses.

Paths for unicasts are shortest paths, so that each hop comes closer even when hops see the graph a
little differently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from weave_model.peer import PeerName

_NO_NEIGHBOURS: dict[PeerName, None] = {}


class Topology:
    """The graph as one peer knows it."""

    def __init__(self, own_name: PeerName) -> None:
        self._own_name = own_name
        # What each peer lists, and of that what the other end lists too.
        self._listed: dict[PeerName, tuple[PeerName, ...]] = {}
        # Dictionaries rather than sets: their order is that of arrival, so that runs repeat
        # exactly.
        self._neighbours: dict[PeerName, dict[PeerName, None]] = {own_name: {}}
        self._parents: dict[PeerName, PeerName] = {own_name: own_name}
        self._next_hops: dict[PeerName, PeerName] | None = None
        # Peers whose reachability changed since it was last asked for.
        self._changed: dict[PeerName, None] = {}
        self.is_unsettled = False

    # Changes

    def set_links(self, peer: PeerName, listed: Iterable[PeerName]) -> None:
        """Replaces the links that `peer` says it holds."""
        now = tuple(listed)
        before = self._listed.get(peer, ())
        if now == before:
            return
        if now:
            self._listed[peer] = now
        else:
            del self._listed[peer]
        neighbours = self._neighbours.get(peer, _NO_NEIGHBOURS)
        if neighbours and before:
            kept = set(now)
            for other in before:
                if other not in kept and other in neighbours:
                    self._unlink(peer, other)
        listed_by = self._listed.get
        for other in now:
            if other not in neighbours and other != peer and peer in listed_by(other, ()):
                self._link(peer, other)

    def settle(self) -> None:
        """Builds the tree anew if a loss left it in doubt.

        Until then peers cut off still count as reachable.
        """
        if not self.is_unsettled:
            return
        self.is_unsettled = False
        before = self._parents
        self._parents = {self._own_name: self._own_name}
        self._grow(deque([self._own_name]))
        for peer in sorted(before.keys() - self._parents.keys()):
            self._changed[peer] = None

    def take_changed(self) -> list[PeerName]:
        """Peers whose reachability may have changed since the last call."""
        changed, self._changed = list(self._changed), {}
        return changed

    # What is known

    def is_reachable(self, peer: PeerName) -> bool:
        return peer in self._parents

    def reachable(self) -> Collection[PeerName]:
        """All peers that a path of two-way links leads to, ourselves first."""
        return self._parents.keys()

    def degree(self, peer: PeerName) -> int:
        """How many two-way links the peer has."""
        return len(self._neighbours.get(peer, _NO_NEIGHBOURS))

    def is_linked(self, one: PeerName, other: PeerName) -> bool:
        """Both list the link."""
        return other in self._neighbours.get(one, _NO_NEIGHBOURS)

    def lists(self, peer: PeerName, other: PeerName) -> bool:
        """`peer` says that it holds a link to `other`."""
        return other in self._listed.get(peer, ())

    def next_hop(self, destination: PeerName) -> PeerName | None:
        """The neighbour on a shortest path, the lowest name among equals; None without a path."""
        if self._next_hops is None:
            self._next_hops = self._search_next_hops()
        return self._next_hops.get(destination)

    def has_path_without(self, neighbour: PeerName) -> bool:
        """Whether a neighbour of ours stays reachable when our link to it ends."""
        own = self._own_name
        seen = {own}
        queue = deque(each for each in self._neighbours[own] if each != neighbour)
        seen.update(queue)
        while queue:
            here = queue.popleft()
            for other in self._neighbours[here]:
                if other == neighbour:
                    return True
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
        return False

    # The tree

    def _link(self, one: PeerName, other: PeerName) -> None:
        for here, there in ((one, other), (other, one)):
            neighbours = self._neighbours.get(here)
            if neighbours is None:
                self._neighbours[here] = {there: None}
            else:
                neighbours[there] = None
        self._next_hops = None
        parents = self._parents
        if one in parents and other not in parents:
            self._adopt(other, one)
        elif other in parents and one not in parents:
            self._adopt(one, other)

    def _adopt(self, peer: PeerName, parent: PeerName) -> None:
        self._parents[peer] = parent
        self._changed[peer] = None
        self._grow(deque([peer]))

    def _grow(self, queue: deque[PeerName]) -> None:
        parents = self._parents
        changed = self._changed
        while queue:
            here = queue.popleft()
            for other in self._neighbours.get(here, _NO_NEIGHBOURS):
                if other not in parents:
                    parents[other] = here
                    changed[other] = None
                    queue.append(other)

    def _unlink(self, one: PeerName, other: PeerName) -> None:
        for here, there in ((one, other), (other, one)):
            neighbours = self._neighbours[here]
            del neighbours[there]
            if not neighbours and here != self._own_name:
                del self._neighbours[here]
        self._next_hops = None
        if self.is_unsettled:
            return
        for child, parent in ((one, other), (other, one)):
            if self._parents.get(child) == parent and child != self._own_name:
                self.is_unsettled = not self._find_parent(child)

    def _find_parent(self, child: PeerName) -> bool:
        """Hangs `child` below another neighbour that does not hang below it."""
        for candidate in self._neighbours.get(child, _NO_NEIGHBOURS):
            if candidate in self._parents and not self._hangs_below(candidate, child):
                self._parents[child] = candidate
                return True
        return False

    def _hangs_below(self, peer: PeerName, ancestor: PeerName) -> bool:
        while peer != self._own_name:
            if peer == ancestor:
                return True
            peer = self._parents[peer]
        return False

    def _search_next_hops(self) -> dict[PeerName, PeerName]:
        own = self._own_name
        hops = {neighbour: neighbour for neighbour in sorted(self._neighbours[own])}
        queue = deque(hops)
        while queue:
            here = queue.popleft()
            for other in self._neighbours[here]:
                if other not in hops and other != own:
                    hops[other] = hops[here]
                    queue.append(other)
        return hops
