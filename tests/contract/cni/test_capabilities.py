"""S53 to S55: capabilities and keys of the specification's own."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tests.contract.cni.runtime import INTERFACE, Runtime


@pytest.mark.parametrize(
    "config",
    [
        {"runtimeConfig": {}},
        {"runtimeConfig": {"cgroupPath": "/x", "deviceID": "0000:00:1f.6", "aliases": ["a"]}},
        {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": "b"}}},
    ],
)
def test_s53_what_a_runtime_knows_and_we_did_not_ask_for_is_ignored(
    runtime: Runtime, config: dict[str, Any]
) -> None:
    sandbox = runtime.sandbox()

    assert runtime.call("ADD", sandbox, runtime.config(**config)).status == 0


def test_s54_a_configuration_with_its_capabilities_still_in_it_is_taken(runtime: Runtime) -> None:
    """libcni takes the key away; cnitool and others may not."""
    config = runtime.config(capabilities={"mac": True, "ips": True})

    assert runtime.call("ADD", runtime.sandbox(), config).status == 0


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_s55_unknown_keys_of_the_specification_are_ignored(runtime: Runtime, command: str) -> None:
    config = runtime.config(**{"cni.dev/future": {"a": [1]}, "cni.dev/valid-attachments": []})

    assert runtime.call(command, runtime.sandbox(), config).status == 0


def test_the_mac_capability_is_honoured(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox, runtimeConfig={"mac": "02:00:5e:00:53:01"})

    (link,) = runtime.inside(sandbox, "link", "show", "dev", INTERFACE)
    assert link["address"] == "02:00:5e:00:53:01"
    assert "02:00:5e:00:53:01" in {entry.get("mac") for entry in result["interfaces"]}


def test_the_ips_capability_is_honoured(runtime: Runtime) -> None:
    known = runtime.add(runtime.sandbox())["ips"][0]["address"].partition("/")[0]
    wanted = str(ipaddress.ip_address(known) + 200)
    sandbox = runtime.sandbox()

    runtime.add(sandbox, runtimeConfig={"ips": [wanted]})

    assert runtime.addresses(sandbox) == {wanted}


def test_an_address_that_is_held_is_refused(runtime: Runtime) -> None:
    one, other = runtime.sandbox(), runtime.sandbox()
    held = runtime.add(one)["ips"][0]["address"].partition("/")[0]

    outcome = runtime.call("ADD", other, runtime.config(runtimeConfig={"ips": [held]}))

    assert outcome.status != 0
    assert runtime.holders() == {one.container_id}
