"""Rebuilding the attachments of this node from what the kernel still shows.

After the loss of all state the kernel is the last witness: a host end bears its attachment's key as
ifalias, its permanent neighbours are the pod's addresses, and a binding says whether its port was
open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from weave_model.attachment import Route
from weave_model.prefix import Prefix
from weave_router.core import naming
from weave_router.core.attachments import Attachment, Phase, Record
from weave_router.core.state import Binding, KernelState, Link


@dataclass(frozen=True, slots=True)
class Witness:
    """A pod's link, and what was found in its sandbox as far as that could be entered."""

    link: Link
    netns_path: str
    mtu: int
    routes: tuple[Route, ...]


def rebuild(witness: Witness, found: KernelState) -> Record | None:
    """The record of a link that the store does not know; None for one that never got its
    address."""
    key = naming.parse_alias(witness.link.alias)
    entries = sorted(
        (entry.address, entry.mac) for entry in found.neighbours if entry.link == witness.link.name
    )
    if key is None or not entries:
        return None
    addresses = tuple(address for address, _ in entries)
    mac = entries[0][1]
    try:
        attachment = Attachment(key, addresses, netns_path=witness.netns_path)
        if attachment.hardware_address != mac:
            attachment = replace(attachment, mac=mac)
    except ValueError:
        return None
    return Record(
        attachment=attachment,
        link=witness.link.name,
        phase=Phase.ACTIVE if is_open(witness.link.name, addresses, found) else Phase.PREPARED,
        mtu=witness.mtu or witness.link.mtu,
        routes=witness.routes,
    )


def confirmed(record: Record, found: KernelState) -> Record:
    """A record as the kernel confirms it: records are written behind, so a crash right after a port
    was opened leaves one that says it is closed."""
    if record.phase is Phase.PREPARED and is_open(record.link, record.attachment.addresses, found):
        return replace(record, phase=Phase.ACTIVE)
    return record


def is_open(link: str, addresses: Iterable[Prefix], found: KernelState) -> bool:
    """Has the port of this link a binding for each of its addresses?"""
    bound = {
        element.address
        for elements in found.sets.values()
        for element in elements
        if isinstance(element, Binding) and element.link == link
    }
    return set(addresses) <= bound
