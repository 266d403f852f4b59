"""S38: CHECK finds each single mutation of what an ADD made in the sandbox, and says which it was.

The router only observes here; otherwise it would repair before CHECK can look.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.cni.runtime import Runtime
from tests.contract.cni.subjects import OBSERVE, lab_name, weave
from weave_lab import Lab, LabSpec

pytestmark = pytest.mark.lab

# What is changed inside the sandbox, by `ip`, and the word of CHECK for it.
IN_SANDBOX = {
    "link down": (("link", "set", "eth0", "down"), "link"),
    "link removed": (("link", "delete", "eth0"), "link"),
    "wrong MTU": (("link", "set", "eth0", "mtu", "1300"), "mtu"),
    "wrong MAC": (("link", "set", "eth0", "address", "02:00:00:00:00:01"), "link"),
    "address removed": (("address", "flush", "dev", "eth0", "scope", "global"), "address"),
    "extra address": (("address", "add", "192.0.2.1/32", "dev", "eth0"), "address"),
    "default route removed": (("route", "delete", "default"), "route"),
    "wrong gateway": (
        ("route", "replace", "default", "via", "169.254.1.2", "dev", "eth0", "onlink"),
        "route",
    ),
    "gateway's neighbour wrong": (
        ("neigh", "replace", "169.254.1.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"),
        "neighbour",
    ),
    "gateway's neighbour removed": (
        ("neigh", "delete", "169.254.1.1", "dev", "eth0"),
        "neighbour",
    ),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(LabSpec(name=lab_name("t-cni-check"), nodes=1, arguments=OBSERVE)) as made:
        yield made


@pytest.fixture
def runtime(lab: Lab, numbers: Iterator[int]) -> Iterator[Runtime]:
    with weave(lab) as subject:
        made = Runtime(subject, f"check{next(numbers)}")
        yield made
        made.clean_up()


@pytest.mark.parametrize("mutation", IN_SANDBOX)
def test_s38_check_finds_a_change_in_the_sandbox(runtime: Runtime, mutation: str) -> None:
    change, word = IN_SANDBOX[mutation]
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, *change)

    outcome = runtime.check(sandbox, result)

    assert outcome.code == 102
    assert f"{word}: expected" in outcome.body["details"]


def test_s38_check_finds_a_lost_address_record(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    assert runtime.subject.forget
    runtime.subject.forget(runtime.network, sandbox.container_id)

    assert runtime.check(sandbox, result).code == 102
