"""Results in the shape of each CNI version."""

from __future__ import annotations

from typing import Any

import pytest

from weave_cni_shim.core.address import InterfaceAddress
from weave_cni_shim.core.result import Attached, add_result, addresses_in, ipam_result
from weave_cni_shim.core.versions import SUPPORTED
from weave_model.attachment import Route
from weave_model.prefix import Family, Prefix, parse_address

ATTACHED = Attached(
    interface="eth0",
    netns="/run/netns/c1",
    mac=bytes.fromhex("0a580a200005"),
    host_interface="vethwepl1234567",
    host_mac=bytes.fromhex("0a00a9fe0101"),
    mtu=1450,
    addresses=(Prefix.parse("10.32.0.5"), Prefix.parse("fd00::5")),
    gateways=(Prefix.parse("169.254.1.1"), Prefix.parse("fe80::1")),
    routes=(
        Route(Prefix.parse("0.0.0.0/0"), Prefix.parse("169.254.1.1")),
        Route(Prefix.parse("169.254.1.1")),
    ),
)


def result(version: str = "1.1.0", previous: Any = None, **dns: Any) -> dict[str, Any]:
    return add_result(ATTACHED, cni_version=version, dns=dns, previous=previous)


def test_s19_a_result_of_the_newest_version_has_all_keys() -> None:
    assert result(nameservers=["10.96.0.10"]) == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "vethwepl1234567", "mac": "0a:00:a9:fe:01:01", "mtu": 1450},
            {
                "name": "eth0",
                "mac": "0a:58:0a:20:00:05",
                "mtu": 1450,
                "sandbox": "/run/netns/c1",
            },
        ],
        "ips": [
            {"address": "10.32.0.5/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd00::5/128", "gateway": "fe80::1", "interface": 1},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "169.254.1.1/32"}],
        "dns": {"nameservers": ["10.96.0.10"]},
    }


@pytest.mark.parametrize("version", SUPPORTED)
def test_s16_the_result_has_the_version_of_the_request(version: str) -> None:
    assert result(version)["cniVersion"] == version


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_s16_before_1_0_addresses_have_a_version(version: str) -> None:
    assert [entry["version"] for entry in result(version)["ips"]] == ["4", "6"]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_s16_since_1_0_they_have_none(version: str) -> None:
    assert not any("version" in entry for entry in result(version)["ips"])


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_s16_before_1_1_interfaces_have_no_mtu(version: str) -> None:
    assert not any("mtu" in entry for entry in result(version)["interfaces"])


def test_s20_addresses_point_at_the_interface_in_the_sandbox() -> None:
    previous = {"interfaces": [{"name": "lo"}, {"name": "other"}]}

    made = result(previous=previous)

    for entry in made["ips"]:
        interface = made["interfaces"][entry["interface"]]
        assert (interface["name"], interface["sandbox"]) == ("eth0", "/run/netns/c1")


def test_s21_a_previous_result_is_kept_with_what_we_do_not_know() -> None:
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net0", "pciID": "1"}],
        "ips": [{"address": "192.0.2.1/24", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24", "mtu": 9000}],
        "dns": {"search": ["x"]},
        "future": {"a": 1},
    }

    made = result(previous=previous)

    assert made["interfaces"][0] == {"name": "net0", "pciID": "1"}
    assert made["ips"][0] == {"address": "192.0.2.1/24", "interface": 0}
    assert made["routes"][0] == {"dst": "192.0.2.0/24", "mtu": 9000}
    assert made["dns"] == {"search": ["x"]}
    assert made["future"] == {"a": 1}
    assert (len(made["interfaces"]), len(made["ips"])) == (3, 3)


@pytest.mark.parametrize("version", SUPPORTED)
def test_s50_an_ipam_result_has_no_interfaces(version: str) -> None:
    made = ipam_result(
        (InterfaceAddress(*parse_address("10.32.0.5"), 12),),
        (Prefix.parse("10.32.0.1"),),
        (Route(Prefix.parse("0.0.0.0/0")),),
        cni_version=version,
        dns={},
    )

    assert made.keys() == {"cniVersion", "ips", "routes", "dns"}
    assert made["ips"][0]["address"] == "10.32.0.5/12"
    assert made["ips"][0]["gateway"] == "10.32.0.1"
    assert "interface" not in made["ips"][0]


def test_s50_a_gateway_belongs_to_its_family() -> None:
    addresses = (
        InterfaceAddress(*parse_address("10.32.0.5"), 12),
        InterfaceAddress(*parse_address("fd00::5"), 64),
    )

    made = ipam_result(addresses, (Prefix.parse("fd00::1"),), (), cni_version="1.0.0", dns={})

    assert made["ips"] == [
        {"address": "10.32.0.5/12"},
        {"address": "fd00::5/64", "gateway": "fd00::1"},
    ]


def test_the_addresses_of_a_result_are_found_whatever_their_length() -> None:
    previous = {"ips": [{"address": "10.32.0.5/12"}, {"address": "fd00::5/128"}]}

    assert addresses_in(previous) == {Prefix.parse("10.32.0.5"), Prefix.parse("fd00::5")}


@pytest.mark.parametrize("entry", [7, None, {}, {"address": 7}, {"address": "x"}, "10.32.0.5"])
def test_what_is_no_address_is_none(entry: Any) -> None:
    assert addresses_in({"ips": [entry]}) == frozenset()


def test_an_interface_address_keeps_its_subnet() -> None:
    address = InterfaceAddress(*parse_address("10.32.0.5"), 12)

    assert str(address) == "10.32.0.5/12"
    assert address.host == Prefix.parse("10.32.0.5")
    assert InterfaceAddress.alone(address.host) == InterfaceAddress(*parse_address("10.32.0.5"), 32)
    with pytest.raises(ValueError, match="33"):
        InterfaceAddress(Family.IPV4, 0, 33)
