"""S32 to S38: CHECK. The whole table of S38 is in test_weave_check.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.cni.runtime import INTERFACE, Runtime, Sandbox


def kernel_state(runtime: Runtime, sandbox: Sandbox) -> list[Any]:
    """What CHECK must not change."""
    what = (("address",), ("-6", "address"), ("route",), ("link",), ("neighbour",))
    host = [runtime.place.json("ip", "-json", *words) for words in (("link",), ("route",))]
    return [_without_clocks(runtime.inside(sandbox, *words)) for words in what] + [
        _without_clocks(found) for found in host
    ]


def _without_clocks(found: Any) -> Any:
    """Neighbour entries age by themselves."""
    return [
        {key: value for key, value in entry.items() if key not in ("state", "used", "probes")}
        for entry in found
    ]


def test_s32_check_needs_the_previous_result(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.add(sandbox)

    assert runtime.call("CHECK", sandbox).code == 7


@pytest.mark.parametrize(
    "mutation",
    [
        ("link", "delete", INTERFACE),
        ("address", "flush", "dev", INTERFACE, "scope", "global"),
        ("route", "delete", "default"),
    ],
    ids=["interface", "address", "route"],
)
def test_s33_check_fails_when_something_is_missing(
    runtime: Runtime, mutation: tuple[str, ...]
) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, *mutation)

    assert runtime.check(sandbox, result).status != 0


def test_s33_check_fails_when_the_namespace_is_gone(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.remove(sandbox)

    assert runtime.check(sandbox, result).status != 0


def test_s34_check_tolerates_routes_of_later_plugins(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, "route", "add", "unreachable", "198.51.100.0/24")

    assert runtime.check(sandbox, result).status == 0


def test_s34_check_tolerates_interfaces_of_other_networks(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, "link", "add", "net1", "type", "veth", "peer", "name", "peer1")
    runtime.change(sandbox, "address", "add", "192.0.2.1/24", "dev", "net1")

    assert runtime.check(sandbox, result).status == 0


def test_s35_check_passes_right_after_add(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)

    outcome = runtime.check(sandbox, result)

    assert (outcome.status, outcome.stdout) == (0, "")


def test_s36_check_fails_when_the_address_record_is_gone(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    assert runtime.subject.forget
    runtime.subject.forget(runtime.network, sandbox.container_id)

    assert runtime.check(sandbox, result).status != 0


def test_s37_check_changes_nothing(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, "route", "delete", "default")
    before = kernel_state(runtime, sandbox)

    runtime.check(sandbox, result)

    assert kernel_state(runtime, sandbox) == before


def test_s38_check_finds_a_link_that_is_down(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, "link", "set", INTERFACE, "down")

    assert runtime.check(sandbox, result).status != 0


def test_s38_check_finds_another_address(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, "address", "add", "192.0.2.1/32", "dev", INTERFACE)

    assert runtime.check(sandbox, result).status != 0
