"""A pod inherits no connection of whoever had its address before."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.kernel.kernel_contract import Rig, inputs
from tests.kernel.namespaces import Netns, join, netns
from tests.kernel.packets import received, udp_socket
from tests.kernel.tracking import Tracking
from weave_model.prefix import Prefix
from weave_router.core import ports
from weave_router.core.attachments import Record
from weave_router.kernel.linux import LinuxKernel

pytestmark = pytest.mark.kernel

ADDRESS, OTHERS = "10.32.0.2", "10.32.0.3"
OUTSIDE = "10.99.0.2"
# Of a client in the pod, the same in the next one: a resolver's, say, or a game's.
PORT = 5000


@pytest.fixture
def outside() -> Iterator[Netns]:
    with netns("outside") as made:
        yield made


@pytest.fixture
def rig(outside: Netns) -> Iterator[Rig]:
    with netns("node") as node, netns("pod") as pod:
        join(node, outside, "eth0", "eth0")
        node.run("ip", "addr", "add", "10.99.0.1/24", "dev", "eth0")
        outside.run("ip", "addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        kernel = node.call(LinuxKernel)
        seen = Tracking(node)
        rig = Rig(kernel, node.call, pod.path, node.path, seen.track, seen.tracked)
        rig.reconcile(inputs())
        yield rig
        kernel.close()


@contextlib.contextmanager
def pod_of(rig: Rig, address: str) -> Iterator[tuple[Netns, Record]]:
    """A pod with an address, and its record; the sandbox goes, the record does not."""
    with netns("pod") as pod:
        record = rig.record(pod.name, "eth0", address)
        record = replace(record, attachment=replace(record.attachment, netns_path=pod.path))
        record = rig.attach(record)
        yield pod, record
        rig.do(lambda: rig.kernel.apply_to_pod(ports.closing(ports.port(record))))
        rig.do(lambda: rig.kernel.detach(record.link))


def ask(pod: Netns, server: socket.socket) -> tuple[str, int]:
    """A pod sends a question to a server outside, which sees it come from here."""
    with udp_socket(pod, PORT) as client:
        client.sendto(b"question", (OUTSIDE, server.getsockname()[1]))
        packet = received(server)
    assert packet is not None
    return packet[1]


def swept(rig: Rig) -> None:
    rig.do(lambda: rig.kernel.remove_connections({Prefix.parse(ADDRESS)}))


def forgotten(rig: Rig) -> None:
    """What a router without a sweep does."""


@pytest.mark.parametrize(("after", "is_inherited"), [(forgotten, True), (swept, False)])
def test_answers_to_a_former_pod_do_not_reach_the_next(
    rig: Rig, outside: Netns, after: Callable[[Rig], None], *, is_inherited: bool
) -> None:
    with udp_socket(outside) as server, pod_of(rig, OTHERS) as (bystander, _):
        others_mapping = ask(bystander, server)
        with pod_of(rig, ADDRESS) as (former, _):
            mapping = ask(former, server)
        after(rig)
        with pod_of(rig, ADDRESS) as (later, _), udp_socket(later, PORT) as listener:
            server.sendto(b"answer to another", mapping)
            assert (received(listener) is not None) is is_inherited

        with udp_socket(bystander, PORT) as listener:
            server.sendto(b"answer", others_mapping)
            assert received(listener) is not None
