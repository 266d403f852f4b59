"""Names and hardware addresses that the router derives, so that every node and every restart
derives the same."""

from __future__ import annotations

import base64
import hashlib

from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix

BRIDGE = "weave"
VXLAN = {Family.IPV4: "vxlan-6784", Family.IPV6: "vxlan6-6784"}
POD_LINK_PREFIX = "vethwepl"
# Device groups (IFLA_GROUP): an integer is compared in less time than a name, and each packet is
# asked for it. The first two digits are our routes' protocol.
POD_GROUP = 8401
TUNNEL_GROUP = 8402

# One hardware address for every pod's gateway on every node: a pod's neighbour entry never ages.
# The bridge has it too, since a bridge without an explicit address takes that of its ports, which
# come and go.
GATEWAY_MAC = bytes.fromhex("0eeeeeeeee01")
# The gateway as a pod sees it; the IPv4 one also stays on our devices for ever, because the kernel
# flushes a device's routes with its last IPv4 address.
GATEWAY_IPV4 = Prefix.parse("169.254.1.1/32")
GATEWAY_IPV6 = Prefix.parse("fe80::1/128")

# Linux: IFALIASZ is 256 with the terminating zero.
MAX_ALIAS_LENGTH = 255


def pod_link(key: AttachmentKey, attempt: int = 0) -> str:
    """Name of the host end of an attachment; `attempt` > 0 gives others, should a name be taken.

    7 characters of base 32 are 35 bits: two of 250 attachments share a name in one case of a
    million.
    """
    digest = hashlib.sha256(f"{key}\0{attempt}".encode()).digest()
    return POD_LINK_PREFIX + base64.b32encode(digest)[:7].decode().lower()


def alias(key: AttachmentKey) -> str:
    """What the host end bears as its ifalias. Raises ValueError when the kernel would not take
    it."""
    value = str(key)
    if len(value.encode()) > MAX_ALIAS_LENGTH:
        raise ValueError(
            f"attachment {value!r} has {len(value)} characters; the kernel keeps {MAX_ALIAS_LENGTH}"
        )
    return value


def parse_alias(value: str) -> AttachmentKey | None:
    """The attachment that an ifalias names; None when it names none."""
    parts = value.split("/")
    if len(parts) != 3:
        return None
    try:
        return AttachmentKey(parts[0], ContainerId(parts[1]), parts[2])
    except ValueError:
        return None


def tunnel_mac(peer: PeerName) -> bytes:
    """Hardware address of a peer's VXLAN devices.

    Hashed, since names given by hand may differ only in the two bits that a unicast, locally
    administered address fixes.
    """
    digest = hashlib.sha256(b"tunnel " + peer).digest()
    return bytes([(digest[0] & 0xFC) | 0x02]) + digest[1:6]


def tunnel_link_local(peer: PeerName) -> Prefix:
    """Link-local address by which IPv6 routes name a peer's tunnel end."""
    return Prefix.host(Family.IPV6, int.from_bytes(peer.link_local, "big"))


def pod_mac(address: Prefix) -> bytes:
    """Hardware address of a pod, from its first address: the same address always has the same
    one."""
    if address.family is Family.IPV4:
        return b"\x0a\x20" + address.to_bytes()
    digest = hashlib.sha256(address.to_bytes()).digest()
    return b"\x0a\x26" + digest[:4]
