"""Kernel switches that the data plane needs."""

from __future__ import annotations

from collections.abc import Iterable

from weave_model.prefix import Family
from weave_router.core import tunnels
from weave_router.core.inputs import Options
from weave_router.core.state import KernelState, LinkKind, Sysctl

_CONF = "net/ipv4/conf/"
_FORWARDING = "/forwarding"
# RFC 3704 section 2.4: any route back will do. Beats a strict setting for all devices.
_LOOSE = "2"
_OFF = "0"
# The kernel takes the larger one of this and the device's own (ip-sysctl.rst).
_FILTER_OF_ALL = f"{_CONF}all/rp_filter"


def wanted(options: Options, found: KernelState) -> list[Sysctl]:
    """All of them: those of the whole host, of its uplinks and of our own devices."""
    return [
        *_advertised(options, found),
        *_forwarding(found),
        *_of_host(options),
        *_of_devices(options, found),
    ]


def paths(options: Options) -> list[str]:
    """The switches that `wanted` may name or depends on."""
    return [
        *_advertisements(options),
        *(switch.path for switch in (*_of_host(options), *_of_devices(options, KernelState()))),
        _FILTER_OF_ALL,
    ]


def left_behind(options: Options, found: KernelState) -> list[str]:
    """What stays when everything else of ours goes, as an administrator writes it."""
    stays = [*_advertised(options, found), *_of_host(options)]
    return [f"{switch.path.replace('/', '.')}={switch.value}" for switch in stays]


def _advertisements(options: Options) -> list[str]:
    if all(universe.family is not Family.IPV6 for universe in options.universes):
        return []
    return [f"net/ipv6/conf/{name}/accept_ra" for name in sorted(set(options.uplinks))]


def _advertised(options: Options, found: KernelState) -> list[Sysctl]:
    """A node that forwards takes no router advertisements unless it is told to (ip-sysctl.rst), and
    would lose the default route that came by one. One that takes none is left alone."""
    values = {switch.path: switch.value for switch in found.sysctls}
    return [Sysctl(p, "2") for p in _advertisements(options) if values.get(p) in ("1", "2")]


def device_forwarding(name: str) -> str:
    """The switch by which one device does not forward although the host does."""
    return f"{_CONF}{name}{_FORWARDING}"


def _forwarding(found: KernelState) -> list[Sysctl]:
    """Devices have it on from the host's switch; it is found with them, so a new one is not told to
    be wrong."""
    return [
        Sysctl(switch.path, "1")
        for switch in found.sysctls
        if switch.path.startswith(_CONF) and switch.path.endswith(_FORWARDING)
    ]


def _of_host(options: Options) -> Iterable[Sysctl]:
    """Switches of the whole host: set, never taken back."""
    families = {universe.family for universe in options.universes}
    if Family.IPV4 in families:
        yield Sysctl("net/ipv4/ip_forward", "1")
    if Family.IPV6 in families:
        yield Sysctl("net/ipv6/conf/all/forwarding", "1")
    if options.direct:
        # A peer may come directly while the way back to it still is the tunnel.
        for name in sorted(set(options.uplinks)):
            yield Sysctl(f"{_CONF}{name}/rp_filter", _LOOSE)


def _of_devices(options: Options, found: KernelState) -> Iterable[Sysctl]:
    """What our own devices need, whatever a host has set for all."""
    # The way back may be another device: the other family's tunnel, or none. The guard has checked
    # the source already, so the kernel need not look its route up where nobody tells it to.
    is_off = Sysctl(_FILTER_OF_ALL, _OFF) in found.sysctls
    for device in tunnels.devices(options):
        if device.kind is LinkKind.VXLAN:
            yield Sysctl(f"{_CONF}{device.name}/rp_filter", _OFF if is_off else _LOOSE)
        if tunnels.carries_probes(device):
            yield Sysctl(f"net/ipv6/conf/{device.name}/disable_ipv6", "0")
