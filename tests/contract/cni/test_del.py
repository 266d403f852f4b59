"""S26 to S31: DEL."""

from __future__ import annotations

import pytest

from tests.contract.cni import results
from tests.contract.cni.runtime import INTERFACE, Runtime


def test_s26_del_removes_everything(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    links = runtime.host_links()
    result = runtime.add(sandbox)

    assert runtime.delete(sandbox, result).status == 0

    assert runtime.interfaces(sandbox) == {"lo"}
    runtime.assert_no_links_beyond(links)
    assert runtime.holders() == set()


@pytest.mark.parametrize("netns", ["", None, "/run/netns/none"])
def test_s26_del_without_a_namespace_succeeds(runtime: Runtime, netns: str | None) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)

    outcome = runtime.call("DEL", sandbox, runtime.config(prevResult=result), CNI_NETNS=netns)

    assert outcome.status == 0, outcome.stdout
    assert runtime.holders() == set()


def test_s26_del_without_an_interface_succeeds(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    runtime.change(sandbox, "link", "delete", INTERFACE)

    assert runtime.delete(sandbox, result).status == 0
    assert runtime.holders() == set()


def test_s26_del_without_an_address_record_succeeds(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    assert runtime.subject.forget
    runtime.subject.forget(runtime.network, sandbox.container_id)

    assert runtime.delete(sandbox, result).status == 0
    assert runtime.interfaces(sandbox) == {"lo"}


def test_s26_del_without_a_previous_result_succeeds(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.add(sandbox)

    assert runtime.delete(sandbox).status == 0
    assert runtime.interfaces(sandbox) == {"lo"}


def test_s26_del_of_what_never_was_succeeds(runtime: Runtime) -> None:
    assert runtime.delete(runtime.sandbox()).status == 0


def test_s27_del_again_succeeds(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)

    assert [runtime.delete(sandbox, result).status for _ in range(3)] == [0, 0, 0]


def test_s27_del_again_does_not_touch_another_container(runtime: Runtime) -> None:
    one, other = runtime.sandbox(), runtime.sandbox()
    first = runtime.add(one)
    runtime.delete(one, first)
    second = runtime.add(other)

    runtime.delete(one, first)

    assert runtime.holders() == {other.container_id}
    assert runtime.check(other, second).status == 0


def test_s28_del_after_a_failed_add_succeeds(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    assert runtime.call("ADD", sandbox, CNI_NETNS="/run/netns/none").status != 0

    assert runtime.call("DEL", sandbox, CNI_NETNS="/run/netns/none").status == 0


def test_s29_del_releases_the_address_of_a_namespace_that_is_gone(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    links = runtime.host_links()
    result = runtime.add(sandbox)
    runtime.remove(sandbox)

    assert runtime.delete(sandbox, result).status == 0

    assert runtime.holders() == set()
    runtime.assert_no_links_beyond(links)


@pytest.mark.parametrize("changes", [{"mtu": 1300}, {"hairpinMode": True}, {"future": {"a": 1}}])
def test_s30_del_works_though_the_configuration_was_edited(
    runtime: Runtime, changes: dict[str, object]
) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)

    assert runtime.delete(sandbox, result, **changes).status == 0
    assert runtime.interfaces(sandbox) == {"lo"}
    assert runtime.holders() == set()


def test_s31_a_real_failure_does_not_sound_like_a_success(runtime: Runtime) -> None:
    """containerd takes an error with these words for "gone already"."""
    outcome = runtime.call("DEL", runtime.sandbox(), CNI_CONTAINERID="c 1")

    assert outcome.status != 0
    assert "not found" not in outcome.message
    assert "no such file or directory" not in outcome.message


def test_a_sandbox_can_be_attached_again_after_its_del(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.delete(sandbox, runtime.add(sandbox))

    result = runtime.add(sandbox)

    assert runtime.addresses(sandbox) == set(results.sandbox_addresses(result))
