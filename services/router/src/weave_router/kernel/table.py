"""The table `inet weave` in the kernel: load, compare, update.

nft prints rules in a form of its own, so what was loaded is read back once and later listings are
compared with that.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from weave_model.prefix import Prefix, coalesce, cover, parse_address
from weave_router.core import ruleset
from weave_router.core.state import Binding, Element
from weave_router.kernel.nftables import Nftables, NftablesError

# A listing may fail for a moment, as when the table changes faster than it can be read.
LIST_TRIES = 5
LIST_PAUSE_S = 0.05

log = logging.getLogger(__name__)


class WeaveTable:
    """Reads and writes the router's table. Not safe for two threads at once, but for `update`."""

    def __init__(self, nft: Nftables) -> None:
        self._nft = nft
        # What was loaded last, and how nft lists it.
        self._body = ""
        self._listing = ""

    def found(self) -> tuple[str, dict[str, frozenset[Element]]]:
        """The loaded text, empty when the rules in the kernel are others, and the elements of the
        sets. Raises NftablesError."""
        objects = self._list()
        if objects is None:
            return "", {}
        body = self._body if self._body and _rules(objects) == self._listing else ""
        return body, _elements(objects)

    def load(self, body: str) -> None:
        """Makes the rules those of `body` in one transaction; elements stay. Raises
        NftablesError."""
        try:
            self._nft.run(ruleset.replacement(body, self._chains()))
        except NftablesError:
            # A set of an older release has another type: the table is made anew, elements and all.
            self._nft.run(self._anew(body))
        self._body = body
        self._listing = _rules(self._nft.run_json(f"list table {ruleset.TABLE}", elements=False))

    def update(
        self, removed: Mapping[str, Iterable[Element]], added: Mapping[str, Iterable[Element]]
    ) -> None:
        """Changes elements in one transaction. Raises NftablesError, and then nothing has
        changed."""
        commands = ruleset.update(removed, added)
        if commands:
            self._nft.run(commands)

    def remove(self) -> None:
        """Removes the table. Idempotent."""
        # Adding first makes the removal succeed when there is none.
        self._nft.run(f"add table {ruleset.TABLE}\ndelete table {ruleset.TABLE}\n")
        self._body = self._listing = ""

    def _list(self, *, elements: bool = True) -> list[dict[str, Any]] | None:
        """What nft lists of the table; None when there is none. Raises NftablesError."""
        for tries_left in reversed(range(LIST_TRIES)):
            try:
                return self._nft.run_json(f"list table {ruleset.TABLE}", elements=elements)
            except NftablesError as error:
                # Anything else must not pass for an empty table: the ports of all pods would close.
                if os.strerror(errno.ENOENT) in str(error):
                    return None
                log.warning("cannot list table %s: %s", ruleset.TABLE, error)
                if not tries_left:
                    raise
                time.sleep(LIST_PAUSE_S)
        return None

    def _chains(self) -> list[str]:
        objects = self._list(elements=False) or []
        return [item["chain"]["name"] for item in objects if "chain" in item]

    def _anew(self, body: str) -> str:
        elements = _elements(self._list() or [])
        kept = {name: found for name, found in elements.items() if name in ruleset.SETS}
        return (
            f"add table {ruleset.TABLE}\ndelete table {ruleset.TABLE}\n"
            f"table {ruleset.TABLE} {{\n{body}}}\n" + ruleset.update({}, kept)
        )


def _rules(objects: Iterable[Mapping[str, Any]]) -> str:
    """Chains and rules without what differs from load to load: a value to compare."""
    kept = [
        {name: value for name, value in item[kind].items() if name not in ("handle", "index")}
        for item in objects
        for kind in ("chain", "rule")
        if kind in item
    ]
    return json.dumps(kept, sort_keys=True)


def _elements(objects: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[Element]]:
    sets = [item["set"] for item in objects if "set" in item]
    return {found["name"]: _set_elements(found) for found in sets}


def _set_elements(found: Mapping[str, Any]) -> frozenset[Element]:
    elements: list[Element] = []
    for element in found.get("elem", ()):
        match element:
            case {"concat": [str(link), str(mac), str(address)]}:
                raw = bytes(int(part, 16) for part in mac.split(":"))
                elements.append(Binding(link, raw, Prefix.parse(address)))
            case {"prefix": {"addr": str(address), "len": int(length)}}:
                elements.append(Prefix.parse(f"{address}/{length}"))
            case {"range": [str(first), str(last)]}:
                family, start = parse_address(first)
                elements += cover(family, start, parse_address(last)[1] + 1)
            case str(address):
                elements.append(Prefix.parse(address))
            case _:
                raise ValueError(f"set {found['name']} has an element of unknown form: {element!r}")
    prefixes = [element for element in elements if isinstance(element, Prefix)]
    if len(prefixes) < len(elements):
        return frozenset(elements)
    if ruleset.holds_prefixes(found["name"]):
        # The kernel may show two adjacent elements as one.
        return frozenset(coalesce(prefixes))
    # In an older release's table this set held intervals.
    return frozenset(
        Prefix.host(prefix.family, address)
        for prefix in prefixes
        if prefix.size <= ruleset.MAX_PEER_ADDRESSES
        for address in range(prefix.address, prefix.address + prefix.size)
    )
