"""S18 to S25: ADD."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.cni import results
from tests.contract.cni.runtime import INTERFACE, Runtime

PARALLEL = 20


def test_s18_the_interface_is_up_with_the_addresses_of_the_result(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox)

    (link,) = runtime.inside(sandbox, "link", "show", "dev", INTERFACE)
    assert "UP" in link["flags"]
    assert runtime.addresses(sandbox) == set(results.sandbox_addresses(result))


def test_s18_an_interface_that_exists_is_an_error_and_stays_as_it_is(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.change(sandbox, "link", "add", INTERFACE, "type", "veth", "peer", "name", "peer0")
    runtime.change(sandbox, "address", "add", "192.0.2.1/24", "dev", INTERFACE)
    before = runtime.inside(sandbox, "address")

    outcome = runtime.call("ADD", sandbox)

    assert outcome.status != 0
    assert runtime.inside(sandbox, "address") == before


def test_s18_a_second_add_is_an_error_and_leaves_the_first_as_it_is(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.add(sandbox)
    before = runtime.inside(sandbox, "address"), runtime.inside(sandbox, "route")
    links = runtime.host_links()

    outcome = runtime.call("ADD", sandbox)

    assert outcome.status != 0
    assert (runtime.inside(sandbox, "address"), runtime.inside(sandbox, "route")) == before
    runtime.assert_no_links_beyond(links)
    assert runtime.holders() == {sandbox.container_id}


def test_s19_the_result_is_as_the_specification_says(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox)

    assert results.problems(result, runtime.subject.version, sandbox.netns) == []


def test_s19_the_result_names_the_interfaces_that_are_there(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox)

    host = {link["ifname"] for link in runtime.place.json("ip", "-json", "link")}
    (inside,) = runtime.inside(sandbox, "link", "show", "dev", INTERFACE)
    for entry in result["interfaces"]:
        if entry.get("sandbox"):
            assert entry["mac"] == inside["address"]
        else:
            assert entry["name"] in host


def test_s19_dns_of_the_configuration_is_passed_on(runtime: Runtime) -> None:
    dns = {"nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"]}

    assert runtime.add(runtime.sandbox(), dns=dns)["dns"] == dns


def test_s20_addresses_point_at_the_interface_in_the_sandbox(runtime: Runtime) -> None:
    """containerd reports these as the pod's addresses, and no others."""
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox)

    for entry in result["ips"]:
        interface = result["interfaces"][entry["interface"]]
        assert (interface["name"], interface["sandbox"]) == (INTERFACE, sandbox.netns)


def test_s21_a_previous_result_is_passed_on(runtime: Runtime) -> None:
    previous: dict[str, Any] = {
        "cniVersion": runtime.subject.version,
        "interfaces": [{"name": "other0", "mac": "02:00:00:00:00:01"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        "routes": [{"dst": "198.51.100.0/24"}],
        "dns": {},
    }

    result = runtime.add(runtime.sandbox(), prevResult=previous)

    assert result["interfaces"][0] == previous["interfaces"][0]
    assert result["ips"][0] == previous["ips"][0]
    assert result["routes"][0] == previous["routes"][0]


def test_s22_a_failed_add_leaves_nothing(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    links = runtime.host_links()

    outcome = runtime.call("ADD", sandbox, CNI_NETNS="/run/netns/none")

    assert outcome.status != 0
    runtime.assert_no_links_beyond(links)
    assert runtime.holders() == set()


def test_s22_an_add_refused_for_its_interface_leaves_nothing(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.change(sandbox, "link", "add", INTERFACE, "type", "veth", "peer", "name", "peer0")
    links = runtime.host_links()

    assert runtime.call("ADD", sandbox).status != 0

    runtime.assert_no_links_beyond(links)
    assert runtime.holders() == set()


def test_s23_parallel_adds_all_succeed_with_addresses_of_their_own(runtime: Runtime) -> None:
    sandboxes = [runtime.sandbox() for _ in range(PARALLEL)]

    outcomes = runtime.place.run(*[runtime.program("ADD", sandbox) for sandbox in sandboxes])

    assert [outcome.status for outcome in outcomes] == [0] * PARALLEL
    given = [results.sandbox_addresses(outcome.body)[0] for outcome in outcomes]
    assert len(set(given)) == PARALLEL
    assert runtime.holders() == {sandbox.container_id for sandbox in sandboxes}


def test_s23_parallel_dels_all_succeed(runtime: Runtime) -> None:
    sandboxes = [runtime.sandbox() for _ in range(PARALLEL)]
    links = runtime.host_links()
    runtime.place.run(*[runtime.program("ADD", sandbox) for sandbox in sandboxes])

    outcomes = runtime.place.run(*[runtime.program("DEL", sandbox) for sandbox in sandboxes])

    assert [outcome.status for outcome in outcomes] == [0] * PARALLEL
    runtime.assert_no_links_beyond(links)
    assert runtime.holders() == set()


def test_s25_a_field_that_is_not_supported_is_named_with_its_value(runtime: Runtime) -> None:
    """The example of the specification is a field of the plugin's own; ipMasq is everybody's."""
    outcome = runtime.call("ADD", runtime.sandbox(), runtime.config(ipMasq="nonsense"))

    assert outcome.code in (2, 6)
    assert "ipMasq" in outcome.message


@pytest.mark.parametrize("mtu", [1280, 1400])
def test_an_mtu_of_the_configuration_is_that_of_the_interface(runtime: Runtime, mtu: int) -> None:
    sandbox = runtime.sandbox()

    runtime.add(sandbox, mtu=mtu)

    (link,) = runtime.inside(sandbox, "link", "show", "dev", INTERFACE)
    assert link["mtu"] == mtu


def test_two_sandboxes_reach_each_other(runtime: Runtime) -> None:
    one, other = runtime.sandbox(), runtime.sandbox()
    runtime.add(one)
    target = results.sandbox_addresses(runtime.add(other))[0]

    said = runtime.place.shell(
        "ip", "netns", "exec", one.name, "ping", "-c", "3", "-i", "0.05", "-W", "2", target
    )

    assert " 0% packet loss" in said
