"""Who this node is according to its kernel, whose data path outlives services and their state."""

from __future__ import annotations

from pathlib import Path

from weave_model.peer import PeerName

_ADDRESSES = Path("/proc/net/if_inet6")
# The router gives each of them the link-local address of this peer.
_TUNNELS = ("vxlan-6784", "vxlan6-6784")


def name_in_kernel(addresses: Path = _ADDRESSES) -> PeerName | None:
    """The peer whose tunnel end is in this kernel; None when there is none, or without IPv6.

    Lines as in proc(5): address, index, prefix length, scope, flags, device.
    """
    try:
        lines = addresses.read_text().splitlines()
    except OSError:
        return None
    for address, *_, device in map(str.split, lines):
        if device in _TUNNELS:
            try:
                return PeerName.from_link_local(bytes.fromhex(address))
            except ValueError:
                continue
    return None
