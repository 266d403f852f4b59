"""S39 to S49: STATUS and GC, as far as any plugin can be asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.cni.runtime import Runtime, Sandbox

# What a STATUS may cost: a kubelet has it called every 5 s.
STATUS_S = 0.020
STATUS_BYTES = 10_000_000


def gc(runtime: Runtime, *valid: Sandbox, key: str = "cni.dev/valid-attachments") -> Any:
    entries = [{"containerID": s.container_id, "ifname": "eth0"} for s in valid]
    return runtime.call("GC", None, runtime.config(cniVersion="1.1.0", **{key: entries}))


def status(runtime: Runtime) -> Any:
    return runtime.call("STATUS", None, runtime.config(cniVersion="1.1.0"))


def test_s39_status_succeeds_without_a_word(runtime: Runtime) -> None:
    outcome = status(runtime)

    assert (outcome.status, outcome.stdout) == (0, "")


def test_s42_status_is_quick(runtime: Runtime) -> None:
    outcomes = [status(runtime) for _ in range(20)]

    assert [outcome.status for outcome in outcomes] == [0] * 20
    # The quickest, since the machine is shared.
    assert min(outcome.elapsed_s for outcome in outcomes) < STATUS_S


def test_s42_status_needs_little_memory(runtime: Runtime) -> None:
    program = runtime.program("STATUS", None, runtime.config(cniVersion="1.1.0"))
    limited = ["prlimit", f"--as={STATUS_BYTES}", *program.argv]

    (outcome,) = runtime.place.run(type(program)(limited, program.environ, program.stdin))

    assert outcome.status == 0, outcome.stderr


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_s43_s44_gc_removes_what_is_not_listed(runtime: Runtime, key: str) -> None:
    kept, stale = runtime.sandbox(), runtime.sandbox()
    result = runtime.add(kept)
    links = runtime.host_links()
    runtime.add(stale)

    outcome = gc(runtime, kept, key=key)

    assert (outcome.status, outcome.stdout) == (0, "")
    assert runtime.holders() == {kept.container_id}
    runtime.assert_no_links_beyond(links)
    assert runtime.check(kept, result, cniVersion="1.1.0").status == 0


def test_s43_the_specified_key_wins(runtime: Runtime) -> None:
    kept = runtime.sandbox()
    runtime.add(kept)
    entry = {"containerID": kept.container_id, "ifname": "eth0"}
    keys = {"cni.dev/valid-attachments": [entry], "cni.dev/attachments": []}

    assert runtime.call("GC", None, runtime.config(cniVersion="1.1.0", **keys)).status == 0

    assert runtime.holders() == {kept.container_id}


def test_s44_gc_leaves_other_networks_alone(runtime: Runtime) -> None:
    kept = runtime.sandbox()
    runtime.add(kept)
    other = Runtime(runtime.subject, f"{runtime.network}-other")
    stale = other.sandbox()
    other.add(stale)

    assert gc(other).status == 0

    assert runtime.holders() == {kept.container_id}
    assert other.holders() == set()
    other.clean_up()


def test_s45_an_empty_list_removes_all(runtime: Runtime) -> None:
    runtime.add(runtime.sandbox())

    assert gc(runtime).status == 0

    assert runtime.holders() == set()


def test_s45_an_absent_list_removes_nothing(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)

    runtime.call("GC", None, runtime.config(cniVersion="1.1.0"))

    assert runtime.holders() == {sandbox.container_id}
    assert runtime.check(sandbox, result).status == 0


def test_s46_gc_again_succeeds(runtime: Runtime) -> None:
    runtime.add(runtime.sandbox())

    assert [gc(runtime).status for _ in range(3)] == [0, 0, 0]


def test_s48_del_after_gc_succeeds(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    gc(runtime)

    assert runtime.delete(sandbox, result).status == 0


def test_s49_gc_after_the_dels_of_a_runtime_succeeds(runtime: Runtime) -> None:
    """libcni first deletes what its cache knows, then calls GC."""
    kept, stale = runtime.sandbox(), runtime.sandbox()
    runtime.add(kept)
    runtime.delete(stale, runtime.add(stale))

    assert gc(runtime, kept).status == 0
    assert runtime.holders() == {kept.container_id}
