"""What an ADD asks for, read from configuration and CNI_ARGS."""

from __future__ import annotations

from typing import Any

import pytest

from weave_cni_shim.core.config import NetworkConfig
from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.wishes import Wishes, parse_mac, parse_wishes
from weave_model.attachment import Route, Workload
from weave_model.prefix import Prefix


def wishes(arguments: str = "", *, is_ipam: bool = False, **raw: Any) -> Wishes:
    return parse_wishes(NetworkConfig("1.1.0", "weave", raw), arguments, is_ipam=is_ipam)


def failure(arguments: str = "", **raw: Any) -> CniError:
    with pytest.raises(CniError) as caught:
        wishes(arguments, **raw)
    return caught.value


def prefixes(*words: str) -> tuple[Prefix, ...]:
    return tuple(map(Prefix.parse, words))


def test_nothing_asked_for_is_nothing_wished() -> None:
    assert wishes() == Wishes()


def test_s09_the_pods_name_is_read() -> None:
    """What the CRI passes, with IgnoreUnknown before fields nobody knows."""
    arguments = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;"
        "K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1;FUTURE=x"
    )

    assert wishes(arguments).workload == Workload("shop", "cart-0", "u-1")


def test_s09_unknown_arguments_are_refused_unless_told_otherwise() -> None:
    error = failure("FUTURE=x;IP=10.32.0.1")

    assert error.code is Code.INVALID_ENVIRONMENT
    assert "['FUTURE']" in error.message
    assert "['FUTURE']" in failure("FUTURE=x;IgnoreUnknown=0").message


@pytest.mark.parametrize("text", ["IP", "IP=10.32.0.1;nonsense"])
def test_s09_a_pair_without_a_value_is_refused(text: str) -> None:
    assert "invalid pair" in failure(text).message


def test_s09_an_address_may_be_asked_for_in_three_places() -> None:
    args = {"cni": {"ips": ["10.32.0.1"]}}
    runtime = {"ips": ["10.32.0.2/12", "fd00::2"]}

    assert wishes("IP=10.32.0.3").requested == prefixes("10.32.0.3")
    assert wishes(runtimeConfig=runtime).requested == prefixes("10.32.0.2", "fd00::2")
    assert wishes(args=args).requested == prefixes("10.32.0.1")


def test_s09_args_wins_over_the_runtime_and_that_over_cni_args() -> None:
    args = {"cni": {"ips": ["10.32.0.1"]}}
    runtime = {"ips": ["10.32.0.2"]}

    both = wishes("IP=10.32.0.3", runtimeConfig=runtime)
    assert both.requested == prefixes("10.32.0.2")
    every = wishes("IP=10.32.0.3", runtimeConfig=runtime, args=args)
    assert every.requested == prefixes("10.32.0.1")


def test_a_mac_may_be_asked_for_in_the_same_places() -> None:
    args = {"cni": {"mac": "02:00:00:00:00:01"}}
    runtime = {"mac": "02:00:00:00:00:02"}

    assert wishes("MAC=02:00:00:00:00:03").mac == b"\x02\0\0\0\0\x03"
    assert wishes("MAC=02:00:00:00:00:03", runtimeConfig=runtime).mac == b"\x02\0\0\0\0\x02"
    assert wishes(runtimeConfig=runtime, args=args).mac == b"\x02\0\0\0\0\x01"


@pytest.mark.parametrize("word", ["x", "02:00", "01:00:00:00:00:01", "02:00:00:00:00:00:01"])
def test_a_mac_that_no_interface_can_have_is_refused(word: str) -> None:
    assert failure(runtimeConfig={"mac": word}).code is Code.INVALID_CONFIG
    assert failure(f"MAC={word}").code is Code.INVALID_ENVIRONMENT
    with pytest.raises(ValueError, match=word):
        parse_mac(word)


@pytest.mark.parametrize("word", ["x", "10.32.0.256", "10.32.0.1.1"])
def test_an_address_that_is_none_is_refused(word: str) -> None:
    by_config = failure(runtimeConfig={"ips": [word]})
    by_argument = failure(f"IP={word}")

    assert (by_config.code, by_argument.code) == (Code.INVALID_CONFIG, Code.INVALID_ENVIRONMENT)
    assert word in by_config.message
    assert word in by_argument.message


@pytest.mark.parametrize(
    "raw",
    [
        {"args": []},
        {"args": {"cni": 7}},
        {"runtimeConfig": "x"},
        {"runtimeConfig": {"ips": "10.32.0.1"}},
        {"runtimeConfig": {"mac": 7}},
        {"dns": []},
        {"ipam": "x"},
        {"ipam": {"subnet": 7}},
        {"ipam": {"routes": {}}},
    ],
)
def test_a_field_of_another_type_is_undecodable(raw: Any) -> None:
    assert failure(**raw).code is Code.DECODING_FAILURE


@pytest.mark.parametrize("field", ["isGateway", "ipMasq"])
def test_s25_fields_of_plugins_we_replace_are_refused_with_key_and_value(field: Any) -> None:
    error = failure("", **{field: True})

    assert error.code is Code.UNSUPPORTED_FIELD
    assert f"{field}=True" in error.message
    assert wishes("", **{field: False}) == Wishes()


def test_s25_unknown_ipam_fields_are_refused_with_key_and_value() -> None:
    error = failure(ipam={"type": "weave-ipam", "ranges": [7]})

    assert error.code is Code.UNSUPPORTED_FIELD
    assert "ipam.ranges=[7]" in error.message


def test_s50_as_ipam_plugin_we_ignore_what_is_for_the_main_plugin() -> None:
    wished = wishes(is_ipam=True, isGateway=True, ipMasq=True, mtu=9, ipam={"type": "weave-ipam"})

    assert wished == Wishes()


def test_s51_fields_of_another_ipam_plugin_are_its_own_business() -> None:
    assert wishes(ipam={"type": "host-local", "ranges": 7, "routes": "x"}) == Wishes()


@pytest.mark.parametrize("value", [575, 65536, -1, "1400", 1400.5, True])
def test_an_mtu_no_device_can_have_is_refused(value: Any) -> None:
    error = failure(mtu=value)

    assert error.code is Code.INVALID_CONFIG
    assert repr(value) in error.message


@pytest.mark.parametrize("value", [576, 1400, 65535])
def test_an_mtu_a_device_can_have_is_taken(value: int) -> None:
    assert wishes(mtu=value).mtu == value


@pytest.mark.parametrize("value", [0, None])
def test_no_mtu_is_that_of_the_overlay(value: Any) -> None:
    assert wishes(mtu=value).mtu == 0


def test_subnets_and_gateways_may_be_one_per_family() -> None:
    ipam = {"subnet": "10.32.1.0/24, fd00:1::/64", "gateway": "10.32.1.1,fd00:1::1"}

    wished = wishes(ipam=ipam)

    assert wished.subnets == prefixes("10.32.1.0/24", "fd00:1::/64")
    assert wished.gateways == prefixes("10.32.1.1", "fd00:1::1")


def test_a_subnet_with_host_bits_is_refused() -> None:
    assert "10.32.1.1/24" in failure(ipam={"subnet": "10.32.1.1/24"}).message


def test_routes_may_be_given_left_to_us_or_left_out() -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.32.0.1"}]

    assert wishes(ipam={"routes": routes}).routes == (
        Route(Prefix.parse("0.0.0.0/0")),
        Route(Prefix.parse("192.0.2.0/24"), Prefix.parse("10.32.0.1")),
    )
    assert wishes(ipam={"routes": []}).routes == ()
    assert wishes(ipam={}).routes is None


@pytest.mark.parametrize("entry", [7, {}, {"dst": "x"}, {"dst": "0.0.0.0/0", "gw": "x"}])
def test_a_route_that_leads_nowhere_is_refused(entry: Any) -> None:
    assert failure(ipam={"routes": [entry]}).code is Code.INVALID_CONFIG


def test_dns_is_passed_on_as_it_is() -> None:
    dns = {"nameservers": ["10.96.0.10"], "future": 1}

    assert wishes(dns=dns).dns == dns
