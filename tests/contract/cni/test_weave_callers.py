"""What callers do to weave-net: many at once, killed in the middle, two for one namespace."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator

import pytest

from tests.contract.cni import results
from tests.contract.cni.place import Program
from tests.contract.cni.runtime import INTERFACE, Runtime, Sandbox
from tests.contract.cni.subjects import lab_name, weave
from weave_lab import Lab, LabSpec

pytestmark = pytest.mark.lab

PARALLEL = 100
# docs: 100 parallel ADDs all succeed, the slowest within a second on a machine of one's own.
PARALLEL_S = 60.0
KILLED = 40
# From before the daemon has heard of an ADD until after the answer to it.
KILL_STEP_S = 0.005
SETTLE_S = 20.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(LabSpec(name=lab_name("t-cni-callers"), nodes=1)) as made:
        yield made


@pytest.fixture
def runtime(lab: Lab, numbers: Iterator[int]) -> Iterator[Runtime]:
    with weave(lab) as subject:
        made = Runtime(subject, f"callers{next(numbers)}")
        yield made
        made.clean_up()


def killed(program: Program, after_s: float) -> Program:
    """The program, killed after a while."""
    argv = ["timeout", "--signal=KILL", f"{after_s:.3f}", *program.argv]
    return Program(argv, program.environ, program.stdin)


def attached(runtime: Runtime, sandboxes: list[Sandbox]) -> set[str]:
    """Ids of the containers that have an interface."""
    return {s.container_id for s in sandboxes if INTERFACE in runtime.interfaces(s)}


def settled(runtime: Runtime, sandboxes: list[Sandbox], links: set[str]) -> set[str]:
    """Ids of the containers that are attached, once sandboxes, host and ipam agree on them."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        whole, held = attached(runtime, sandboxes), runtime.holders()
        more = runtime.host_links() - links
        if whole == held and len(more) == len(whole):
            return whole
        assert time.monotonic() < deadline, (whole, held, more)
        time.sleep(0.1)


def test_s23_a_hundred_adds_at_once_all_succeed(runtime: Runtime) -> None:
    sandboxes = [runtime.sandbox() for _ in range(PARALLEL)]

    outcomes = runtime.place.run(*[runtime.program("ADD", sandbox) for sandbox in sandboxes])

    assert [outcome.status for outcome in outcomes] == [0] * PARALLEL
    assert len({results.sandbox_addresses(outcome.body)[0] for outcome in outcomes}) == PARALLEL
    assert max(outcome.elapsed_s for outcome in outcomes) < PARALLEL_S
    deleted = runtime.place.run(*[runtime.program("DEL", sandbox) for sandbox in sandboxes])
    assert [outcome.status for outcome in deleted] == [0] * PARALLEL
    assert runtime.holders() == set()


def test_s28_a_del_beside_its_add_leaves_nothing(runtime: Runtime) -> None:
    sandboxes = [runtime.sandbox() for _ in range(10)]
    links = runtime.host_links()
    calls = [(command, sandbox) for sandbox in sandboxes for command in ("ADD", "DEL")]

    runtime.place.run(*[runtime.program(command, sandbox) for command, sandbox in calls])
    for sandbox in sandboxes:
        assert runtime.delete(sandbox).status == 0

    assert runtime.holders() == set()
    runtime.assert_no_links_beyond(links)


def test_an_add_whose_caller_is_killed_is_whole_or_nothing(runtime: Runtime) -> None:
    sandboxes = [runtime.sandbox() for _ in range(KILLED)]
    links = runtime.host_links()
    programs = [runtime.program("ADD", sandbox) for sandbox in sandboxes]

    outcomes = runtime.place.run(
        *[killed(program, number * KILL_STEP_S) for number, program in enumerate(programs, 1)]
    )

    assert -signal.SIGKILL in [outcome.status for outcome in outcomes]
    whole = settled(runtime, sandboxes, links)
    pairs = zip(sandboxes, outcomes, strict=True)
    heard = {sandbox.container_id for sandbox, outcome in pairs if outcome.status == 0}
    assert whole >= heard
    # Whoever was killed with the answer in hand counts as one who has heard it.
    assert len(whole - heard) <= KILLED // 4


def test_of_two_containers_in_one_namespace_one_is_attached(runtime: Runtime) -> None:
    first = runtime.sandbox()
    pair = [first, Sandbox(first.name, secrets.token_hex(16))]

    outcomes = runtime.place.run(*[runtime.program("ADD", sandbox) for sandbox in pair])

    (loser,) = [outcome for outcome in outcomes if outcome.status != 0]
    assert f"has an interface {INTERFACE} already" in loser.message
    winner, other = pair if outcomes[0].status == 0 else reversed(pair)
    assert runtime.holders() == {winner.container_id}
    assert runtime.delete(other).status == 0
    assert runtime.interfaces(winner) == {"lo", INTERFACE}
    assert runtime.delete(winner).status == 0
    assert runtime.interfaces(winner) == {"lo"}
