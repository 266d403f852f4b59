"""What the kernel's data path says of this node."""

from pathlib import Path

import pytest

from services.gossip.tests.shell.conftest import peer_name
from weave_gossip.witness import name_in_kernel

MINE = peer_name(7)
LOOPBACK = f"{1:032x} 01 80 10 80       lo"


def line(address: str, device: str) -> str:
    return f"{address} 05 40 20 80 {device:>8}"


@pytest.fixture
def addresses(tmp_path: Path) -> Path:
    return tmp_path / "if_inet6"


@pytest.mark.parametrize("device", ["vxlan-6784", "vxlan6-6784"])
def test_the_tunnel_end_bears_the_name(device: str, addresses: Path) -> None:
    overlay = line("fd00003200000000" + "0" * 15 + "1", device)
    addresses.write_text("\n".join([LOOPBACK, overlay, line(MINE.link_local.hex(), device)]))

    assert name_in_kernel(addresses) == MINE


def test_addresses_of_other_devices_say_nothing(addresses: Path) -> None:
    addresses.write_text("\n".join([LOOPBACK, line(MINE.link_local.hex(), "eth0")]))

    assert name_in_kernel(addresses) is None


def test_a_kernel_without_ipv6_says_nothing(addresses: Path) -> None:
    assert name_in_kernel(addresses) is None
