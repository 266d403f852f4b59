"""The exec socket: the real executable, the real server, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from weave_cni_shim.core.frame import Answer, Request, decode_answer, encode_request
from weave_cni_shim.exec_server import ExecServer
from weave_cni_shim.testing.host import Host, Outcome, build
from weave_cni_shim.testing.node import Node
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.errors import Conflict

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = json.dumps({"cniVersion": "1.1.0", "name": "weave", "type": "weave-net"}).encode()
ADD = encode_request(Request(ENVIRON, CONFIG))


@pytest.fixture
def host() -> Iterator[Host]:
    with Host(build()) as made:
        yield made


@pytest.fixture
async def node(host: Host) -> AsyncIterator[Node]:
    made = Node(host.spool.parent)
    spooling = asyncio.create_task(made.spool.run(made.verbs.carry_out))
    yield made
    spooling.cancel()
    await asyncio.wait({spooling})


@pytest.fixture
async def server(host: Host, node: Node) -> AsyncIterator[ExecServer]:
    async with ExecServer(host.socket, node.verbs, drain_s=0.2) as serving:
        yield serving


async def run(host: Host, command: str, *, container: str = "c1", **config: Any) -> Outcome:
    environ = ENVIRON | {"CNI_COMMAND": command, "CNI_CONTAINERID": container}
    return await host.run(environ, json.dumps(json.loads(CONFIG) | config).encode())


async def call(host: Host, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(host.socket))
    writer.write(data)
    return reader, writer


async def until_idle(node: Node) -> None:
    """Waits until no attach or detach is under way."""
    async with asyncio.timeout(5):
        while node.attacher.is_busy(KEY):  # noqa: ASYNC110 - as seen from outside
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("server")
async def test_add_check_and_del_through_the_real_executable(host: Host, node: Node) -> None:
    added = await run(host, "ADD")
    assert (added.status, added.stderr) == (0, b"")
    assert added.body["ips"] == [
        {"address": "10.32.0.1/32", "gateway": "169.254.1.1", "interface": 1}
    ]

    checked = await run(host, "CHECK", prevResult=added.body)
    assert checked == Outcome(0, b"", b"")

    deleted = await run(host, "DEL", prevResult=added.body)
    assert deleted == Outcome(0, b"", b"")
    assert node.is_empty


@pytest.mark.usefixtures("server")
async def test_an_error_comes_on_stdout_with_exit_status_1(host: Host) -> None:
    """S02."""
    outcome = await run(host, "ADD", name="-")

    assert (outcome.status, outcome.stderr) == (1, b"")
    assert outcome.body["code"] == 7


@pytest.mark.usefixtures("server")
async def test_our_ipam_plugin_gives_an_address_with_its_subnet(host: Host, node: Node) -> None:
    """S51: the result that macvlan or bridge build their interface from."""
    config = json.dumps({"cniVersion": "1.0.0", "name": "lan", "ipam": {"type": "weave-ipam"}})

    outcome = await host.run(ENVIRON, config.encode(), name="/opt/cni/bin/weave-ipam")

    assert outcome.body["ips"] == [{"address": "10.32.0.1/12"}]
    assert node.router.ports == {}


async def test_the_socket_is_for_root_alone(host: Host, server: ExecServer) -> None:
    del server

    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600


async def test_a_stale_socket_is_taken_over(host: Host, node: Node) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(host.socket))

    async with ExecServer(host.socket, node.verbs):
        assert (await run(host, "ADD")).status == 0


@pytest.mark.usefixtures("server")
async def test_a_socket_in_use_is_not_taken_over(host: Host, node: Node) -> None:
    with pytest.raises(Conflict, match=str(host.socket)):
        await ExecServer(host.socket, node.verbs).__aenter__()

    assert (await run(host, "ADD")).status == 0


async def test_the_socket_is_gone_afterwards(host: Host, node: Node) -> None:
    async with ExecServer(host.socket, node.verbs):
        pass

    assert not host.socket.exists()


@pytest.mark.usefixtures("server")
async def test_a_del_kept_while_the_daemon_was_away_comes_before_the_next_add(
    host: Host, node: Node
) -> None:
    await run(host, "ADD")
    first = node.ipam.held[KEY]
    away = host.socket.rename(host.socket.with_name("away"))
    assert await run(host, "DEL") == Outcome(0, b"", b"")
    away.rename(host.socket)

    assert (await run(host, "ADD")).status == 0

    assert node.ipam.held[KEY].generation > first.generation
    assert len(node.spool) == 0


@pytest.mark.usefixtures("server")
async def test_an_add_whose_client_vanished_is_undone(host: Host, node: Node) -> None:
    arrived = node.stage.hold("router.prepare:after")
    _, writer = await call(host, ADD)
    await arrived.wait()

    writer.close()
    await writer.wait_closed()

    await until_idle(node)
    assert node.is_empty


@pytest.mark.usefixtures("server")
async def test_a_killed_executable_is_a_vanished_client(host: Host, node: Node) -> None:
    arrived = node.stage.hold("router.activate:before")
    adding = asyncio.create_task(run(host, "ADD"))
    await arrived.wait()

    adding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await adding

    await until_idle(node)
    assert node.is_empty


@pytest.mark.usefixtures("server")
async def test_a_del_goes_on_without_its_client(host: Host, node: Node) -> None:
    await run(host, "ADD")
    arrived = node.stage.hold("router.detach:before")
    _, writer = await call(host, encode_request(Request(ENVIRON | {"CNI_COMMAND": "DEL"}, CONFIG)))
    await arrived.wait()
    writer.close()
    await writer.wait_closed()

    node.stage.release("router.detach:before")

    await until_idle(node)
    assert node.is_empty


class Handler:
    """Answers as told, and counts what is taken back."""

    def __init__(self, answer: Answer) -> None:
        self.reply = answer
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.unheard: list[Request] = []
        self.was_undone = asyncio.Event()

    async def answer(self, request: Request) -> Answer:
        del request
        self.was_asked.set()
        await self.may_answer.wait()
        return self.reply

    async def undo_unheard(self, request: Request) -> None:
        self.unheard.append(request)
        self.was_undone.set()


async def test_an_add_nobody_heard_the_answer_of_is_taken_back(host: Host) -> None:
    """The client goes in the very moment in which the answer is ready."""
    handler = Handler(Answer(0, b"x" * 500_000))
    async with ExecServer(host.socket, handler):
        _, writer = await call(host, encode_request(Request({"CNI_COMMAND": "DEL"}, b"")))
        await handler.was_asked.wait()
        writer.transport.abort()
        handler.may_answer.set()
        async with asyncio.timeout(5):
            await handler.was_undone.wait()

    assert len(handler.unheard) == 1


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "begins with b'GET '"),
        (ADD[:5] + b"\2" + ADD[6:], "version 2 is not known"),
        (ADD[:8] + b"\xff" * 8 + ADD[16:], "over the limit"),
    ],
)
async def test_a_frame_that_is_none_is_answered(host: Host, data: bytes, reason: str) -> None:
    reader, writer = await call(host, data)

    answer = decode_answer(await reader.read())
    writer.close()

    assert answer.exit_code == 1
    assert reason in json.loads(answer.stdout)["msg"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("length", [0, 1, 15, 16, 40, len(ADD) - 1])
async def test_a_request_cut_short_does_no_harm(host: Host, node: Node, length: int) -> None:
    _, writer = await call(host, ADD[:length])
    writer.close()
    await writer.wait_closed()

    assert (await run(host, "ADD")).status == 0
    assert len(node.ipam.held) == 1


@pytest.mark.usefixtures("server")
async def test_a_request_in_single_bytes_is_served(host: Host) -> None:
    reader, writer = await call(host, b"")
    for position in range(len(ADD)):
        writer.write(ADD[position : position + 1])
        await writer.drain()

    answer = decode_answer(await reader.read())
    writer.close()

    assert answer.exit_code == 0


@pytest.mark.usefixtures("server")
async def test_a_client_that_says_nothing_holds_up_nobody(host: Host) -> None:
    silent = [await call(host, b"") for _ in range(50)]

    assert (await run(host, "ADD")).status == 0

    for _, writer in silent:
        writer.close()


@pytest.mark.usefixtures("server")
async def test_s23_a_hundred_adds_at_once_all_succeed(host: Host, node: Node) -> None:
    async def add(number: int) -> int:
        environ = ENVIRON | {"CNI_CONTAINERID": f"c{number}"}
        reader, writer = await call(host, encode_request(Request(environ, CONFIG)))
        answer = decode_answer(await reader.read())
        writer.close()
        return answer.exit_code

    assert await asyncio.gather(*map(add, range(100))) == [0] * 100
    assert len({held.addresses for held in node.ipam.held.values()}) == 100


async def test_at_the_end_a_request_under_way_finishes(host: Host, node: Node) -> None:
    async with ExecServer(host.socket, node.verbs, drain_s=5.0) as server:
        arrived = node.stage.hold("router.prepare:before")
        adding = asyncio.create_task(run(host, "ADD"))
        await arrived.wait()
        stopping = asyncio.create_task(server.__aexit__())
        await asyncio.sleep(0)
        node.stage.release("router.prepare:before")
        await stopping
        assert (await adding).status == 0

    assert node.router.ports[KEY].is_open


async def test_at_the_end_an_add_that_takes_too_long_is_undone(host: Host, node: Node) -> None:
    async with ExecServer(host.socket, node.verbs, drain_s=0.01):
        arrived = node.stage.hold("router.prepare:before")
        adding = asyncio.create_task(run(host, "ADD"))
        await arrived.wait()

    assert (await adding).body["code"] == 11
    assert node.is_empty


async def test_at_the_end_a_del_that_takes_too_long_is_kept_by_the_executable(
    host: Host, node: Node
) -> None:
    async with ExecServer(host.socket, node.verbs, drain_s=0.01):
        arrived = node.stage.hold("router.detach:before")
        deleting = asyncio.create_task(run(host, "DEL"))
        await arrived.wait()

    assert await deleting == Outcome(0, b"", b"")
    assert len(node.spool) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_nobody_but_root_is_served(host: Host, node: Node) -> None:
    """By its credentials, should the mode of the socket ever be changed."""
    async with ExecServer(host.socket, node.verbs):
        for path in (host.socket, *list(host.socket.parents)[:4]):
            path.chmod(0o777)
        script = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(host.socket)
        )
        assert await process.wait() == 0

    assert node.stage.calls == []
