"""The weave-lab command as people and scripts call it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from weave_lab import Lab
from weave_lab.command import run
from weave_lab.layout import LabLayout
from weave_lab.residue import Snapshot

pytestmark = pytest.mark.lab

WEAVE_LAB = [sys.executable, "-m", "weave_lab"]
NAME = "t-cli"
UP_TIMEOUT_S = 100.0


def weave_lab(*argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = run([*WEAVE_LAB, *argv], timeout_s=UP_TIMEOUT_S)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def up() -> Iterator[str]:
    weave_lab("up", "--nodes=2", "--name", NAME, "--range=10.80.0.0/16", "--env=CONN_LIMIT=8")
    yield NAME
    weave_lab("down", "--name", NAME)
    assert not [item for item in Snapshot.take(LabLayout(NAME)).items if NAME in item]


def test_a_pod_is_added_used_and_deleted(up: str) -> None:
    added = weave_lab("pod", "add", "n1", "web", "--name", up, "--json")
    facts = json.loads(added.stdout)
    client = weave_lab("pod", "add", "n2", "client", "--name", up).stdout.strip()

    pinged = weave_lab(
        *(
            "pod",
            "exec",
            "--name",
            up,
            "n2/client",
            "--",
            "ping",
            "-c1",
            "-W2",
            facts["addresses"][0],
        )
    )
    weave_lab("pod", "del", "n1", "web", "--name", up)
    weave_lab("pod", "del", "n1", "web", "--name", up)
    weave_lab("pod", "del", "n2", "client", "--name", up)

    assert facts["addresses"][0].startswith("10.80.")
    assert client.startswith("10.80.")
    assert "1 received" in pinged.stdout


def test_status_tells_programs_and_people(up: str) -> None:
    facts = json.loads(weave_lab("status", "--json", "--name", up).stdout)
    text = weave_lab("status", "--name", up).stdout

    assert [node["ready"] for node in facts["nodes"]] == [True, True]
    assert facts["nodes"][0]["services"].keys() == {"gossip", "ipam", "router", "cni-shim"}
    assert "n1  10.99.0.1  ready" in text


def test_the_environment_given_reaches_the_services(up: str) -> None:
    report = json.loads(
        weave_lab("node", "exec", "--name", up, "n1", "--", "weave", "report").stdout
    )

    assert report["Router"]["ConnectionLimit"] == 8
    assert report["IPAM"]["Range"] == "10.80.0.0/16"


def test_a_service_is_killed_and_started(up: str) -> None:
    weave_lab("kill", "n1", "gossip", "--name", up)
    down = json.loads(weave_lab("status", "--json", "--name", up).stdout)["nodes"][0]["services"]
    weave_lab("start", "n1", "gossip", "--name", up)
    back = json.loads(weave_lab("status", "--json", "--name", up).stdout)["nodes"][0]["services"]

    assert down["gossip"] is None
    assert back["gossip"]["pid"] > 0
    assert "Our name is" in weave_lab("logs", "n1", "gossip", "--name", up).stdout


def test_cuts_are_shown_and_healed(up: str) -> None:
    weave_lab("cut", "n1", "n2", "--name", up)
    cut = json.loads(weave_lab("status", "--json", "--name", up).stdout)["cuts"]
    weave_lab("heal", "n2", "n1", "--name", up)

    assert cut == [["n1", "n2"]]
    assert json.loads(weave_lab("status", "--json", "--name", up).stdout)["cuts"] == []


def test_the_status_of_a_program_is_passed_on(up: str) -> None:
    weave_lab("node", "exec", "--name", up, "n1", "--", "sh", "-c", "exit 7", status=7)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("pod", "add", "n9", "a"), "has the nodes n1 to n2, no n9"),
        (("pod", "add", "x1", "a"), "'x1' is no node"),
        (("pod", "add", "n1", "A!"), "'A!' cannot be the name of a pod"),
        (("pod", "del", "n1", "ghost"), "n1 never had a pod 'ghost'"),
        (("pod", "exec", "n1", "--", "true"), "'n1' is no NODE/NAME"),
        (("kill", "n1", "dns"), "'dns' is no service"),
        (("cut", "n1", "n1"), "n1 cannot be cut off from itself"),
        (("up",), f"a lab '{NAME}' is already there"),
    ],
)
def test_a_mistake_gives_one_line(up: str, argv: tuple[str, ...], line: str) -> None:
    options = argv.index("--") if "--" in argv else len(argv)

    done = weave_lab(*argv[:options], "--name", up, *argv[options:], status=1)

    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_lab_whose_services_cannot_start_leaves_nothing_and_says_why() -> None:
    before = Snapshot.take(LabLayout("t-refuse"))

    done = weave_lab("up", "--nodes=1", "--name=t-refuse", "--range=10.32.0.0/31", status=1)

    last = done.stderr.splitlines()[-1]
    assert last.startswith("weave-lab: ")
    assert "10.32.0.0/31" in last
    assert Snapshot.take(LabLayout("t-refuse")).since(before) == []


def test_an_interrupted_demo_cleans_up() -> None:
    before = Snapshot.take(LabLayout("t-demo"))
    command = [*WEAVE_LAB, "demo", "--name=t-demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "n2/a" in line:
                break
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()

    assert demo.returncode == 1
    assert "FAILED: interrupted" in rest
    assert "residue: none" in rest
    assert Snapshot.take(LabLayout("t-demo")).since(before) == []
    assert "t-demo" not in Lab.names()


def test_a_lab_that_was_killed_while_it_came_up_is_taken_down() -> None:
    before = Snapshot.take(LabLayout("t-killed"))
    command = [*WEAVE_LAB, "up", "--name=t-killed", "--nodes=2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert "making the wire" in up.stderr.readline()
        assert "starting" in up.stderr.readline()
        up.kill()

    weave_lab("down", "--name=t-killed")

    assert Snapshot.take(LabLayout("t-killed")).since(before) == []
