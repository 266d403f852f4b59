"""The C program: without a daemon, and with one that answers nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Self

import pytest

from weave_cni_shim.core.frame import (
    ENV_LIMIT,
    HEADER_BYTES,
    STDIN_LIMIT,
    Answer,
    Request,
    body_length,
    decode_request,
    encode_answer,
)
from weave_cni_shim.testing.host import Host, Outcome, build

VARIABLES = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = b'{"cniVersion":"1.0.0","name":"weave","type":"weave-net"}'


@pytest.fixture(params=["weave-net", "weave-net-sanitized"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host for the executable as it is shipped, and for one that finds its memory errors."""
    with Host(build(request.param)) as made:
        yield made


class Daemon:
    """Listens on the exec socket; `reply` has the connection to itself."""

    def __init__(self, path: Path, reply: Callable[[socket.socket], None]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._reply = reply
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        assert self.errors == []

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    self._reply(connection)
                except (OSError, ValueError) as error:
                    self.errors.append(error)


def received(connection: socket.socket) -> Request:
    with connection.makefile("rb") as stream:
        head = stream.read(HEADER_BYTES)
        return decode_request(head, stream.read(body_length(head)))


def says(data: bytes) -> Callable[[socket.socket], None]:
    """A daemon that reads a request and answers with `data`."""

    def reply(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(data)

    return reply


async def run(host: Host, command: str, stdin: bytes = CONFIG, **variables: str) -> Outcome:
    return await host.run(VARIABLES | {"CNI_COMMAND": command} | variables, stdin)


def error_of(outcome: Outcome) -> tuple[int, str]:
    """Code and cniVersion of an error object; the exit status says failure."""
    assert outcome.status == 1
    return outcome.body["code"], outcome.body["cniVersion"]


# Without a daemon


async def test_s08_without_a_command_it_says_what_it_is(host: Host) -> None:
    outcome = await host.run({})

    assert (outcome.status, outcome.stdout) == (0, b"")
    assert b"weave-net" in outcome.stderr
    assert b"0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in outcome.stderr


async def test_s08_an_unknown_command_is_refused(host: Host) -> None:
    assert error_of(await run(host, "FROBNICATE")) == (4, "1.0.0")


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b"", "1.1.0"),
        (CONFIG, "1.0.0"),
        (b'{ "cniVersion" :\n\t"0.3.1" }', "0.3.1"),
        (b'{"a":{"cniVersion":"0.3.0"},"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"name":"cniVersion","cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"x\\"cniVersion":"0.3.0","cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"x\\\\":"}","cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"cniVersion":"0.3.0","cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"cniVersion":7}', "1.1.0"),
        (b'{"cniVersion":"x\\"y"}', "1.1.0"),
        (b'{"cniVersion":"' + b"1" * 100 + b'"}', "1.1.0"),
        (b'{"cniVersion":"1.0.0', "1.1.0"),
        (b'["cniVersion":"0.3.0"', "0.3.0"),
        (b'{"cniVersion', "1.1.0"),
        (b'{"cniVersion"', "1.1.0"),
        (b'{"cniVersion":', "1.1.0"),
        (b'"\\', "1.1.0"),
        (b"}}}}]]{" * 1000, "1.1.0"),
        (b"\0" * 50, "1.1.0"),
    ],
)
async def test_s13_version_needs_no_daemon(host: Host, stdin: bytes, version: str) -> None:
    outcome = await run(host, "VERSION", stdin)

    assert outcome.status == 0
    assert outcome.body == {
        "cniVersion": version,
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


@pytest.mark.parametrize(
    ("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)]
)
async def test_s24_s40_without_a_daemon_the_answer_comes_at_once(
    host: Host, command: str, code: int
) -> None:
    begin = time.monotonic()

    outcome = await run(host, command)

    assert error_of(outcome) == (code, "1.0.0")
    assert time.monotonic() - begin < 1.0


async def test_s26_a_del_without_a_daemon_succeeds_and_is_kept(host: Host) -> None:
    outcome = await run(host, "DEL", TRACEPARENT="00-1-2-01", HOME="/root")

    assert outcome == Outcome(0, b"", b"")
    (entry,) = host.spool.iterdir()
    data = entry.read_bytes()
    assert decode_request(data[:HEADER_BYTES], data[HEADER_BYTES:]) == Request(
        VARIABLES | {"CNI_COMMAND": "DEL", "TRACEPARENT": "00-1-2-01"}, CONFIG
    )
    assert entry.suffix == ".del"
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.spool.stat().st_mode) == 0o700


async def test_dels_are_kept_in_their_order(host: Host) -> None:
    for name in ("c1", "c2", "c3"):
        await run(host, "DEL", CNI_CONTAINERID=name)

    kept = [path.read_bytes() for path in sorted(host.spool.iterdir())]
    assert [f"c{n}".encode() in data for n, data in enumerate(kept, 1)] == [True] * 3


async def test_a_del_that_cannot_be_kept_fails_with_the_reason(host: Host) -> None:
    (host.lib / "weave").write_text("in the way")

    outcome = await run(host, "DEL")

    assert error_of(outcome) == (11, "1.0.0")
    assert outcome.body["details"] == "Not a directory"


async def test_a_full_disk_leaves_no_half_a_del(host: Host) -> None:
    """RLIMIT_FSIZE stands in for the full disk: the write fails half-way."""
    outcome = await host.run(
        VARIABLES | {"CNI_COMMAND": "DEL"},
        CONFIG.ljust(8000),
        prefix=["prlimit", "--fsize=1000", "env", "--ignore-signal=XFSZ"],
    )

    assert outcome.body["details"] == "File too large"
    assert list(host.spool.iterdir()) == []


async def test_a_stale_socket_is_as_good_as_none(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.socket))

    assert error_of(await run(host, "ADD"))[0] == 11
    assert (await run(host, "DEL")).status == 0
    assert len(list(host.spool.iterdir())) == 1


# What it sends


async def test_it_sends_the_cni_variables_and_stdin_and_nothing_else(host: Host) -> None:
    requests: list[Request] = []

    def reply(connection: socket.socket) -> None:
        requests.append(received(connection))
        connection.sendall(encode_answer(Answer(0, b"{}")))

    with Daemon(host.socket, reply):
        await run(host, "ADD", CNI_ARGS="A=1", BAGGAGE="b=1", TRACESTATE="t", SECRET="x", LANG="C")

    (request,) = requests
    assert request.stdin == CONFIG
    assert request.environ == VARIABLES | {
        "CNI_COMMAND": "ADD",
        "CNI_ARGS": "A=1",
        "BAGGAGE": "b=1",
        "TRACESTATE": "t",
    }


@pytest.mark.parametrize("name", ["weave-ipam", "/opt/cni/bin/weave-ipam", "./weave-ipam"])
async def test_it_says_when_it_was_called_as_ipam_plugin(host: Host, name: str) -> None:
    requests: list[Request] = []

    def reply(connection: socket.socket) -> None:
        requests.append(received(connection))
        connection.sendall(encode_answer(Answer(0, b"{}")))

    with Daemon(host.socket, reply):
        await host.run(VARIABLES | {"CNI_COMMAND": "ADD"}, CONFIG, name=name)

    assert requests[0].environ["WEAVE_ARGV0"] == "weave-ipam"


async def test_it_sends_a_configuration_of_one_mebibyte(host: Host) -> None:
    stdin = CONFIG.ljust(STDIN_LIMIT)
    requests: list[Request] = []

    def reply(connection: socket.socket) -> None:
        requests.append(received(connection))
        connection.sendall(encode_answer(Answer(0, b"{}")))

    with Daemon(host.socket, reply):
        assert (await run(host, "ADD", stdin)).status == 0

    assert requests[0].stdin == stdin


async def test_a_larger_configuration_is_refused(host: Host) -> None:
    outcome = await run(host, "ADD", CONFIG.ljust(STDIN_LIMIT + 1))

    assert error_of(outcome)[0] == 5
    assert "1 MiB" in outcome.body["details"]


async def test_an_environment_over_the_limit_is_refused(host: Host) -> None:
    half = "x" * (ENV_LIMIT // 2)

    outcome = await run(host, "ADD", CNI_A=half, CNI_B=half)

    assert error_of(outcome)[0] == 4


async def test_stdin_that_cannot_be_read_is_an_io_failure(host: Host, tmp_path: Path) -> None:
    """S07: a folder in place of stdin."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", '"${@:2}" < "$1"', "bash", str(tmp_path), *host.command()),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "CNI_COMMAND": "ADD"},
    )

    stdout, _ = await process.communicate()

    assert json.loads(stdout)["code"] == 5


# What it makes of answers


async def test_s01_s02_it_passes_on_exit_code_stdout_and_stderr(host: Host) -> None:
    with Daemon(host.socket, says(encode_answer(Answer(7, b"out\0\xff", b"err")))):
        assert await run(host, "ADD") == Outcome(7, b"out\0\xff", b"err")


async def test_it_takes_an_answer_that_comes_in_pieces(host: Host) -> None:
    answer = encode_answer(Answer(0, b"o" * 100_000, b"e" * 100))

    def reply(connection: socket.socket) -> None:
        received(connection)
        for start in range(20):
            connection.sendall(answer[start : start + 1])
        for start in range(20, len(answer), 9999):
            connection.sendall(answer[start : start + 9999])

    with Daemon(host.socket, reply):
        outcome = await run(host, "ADD")

    assert outcome == Outcome(0, b"o" * 100_000, b"e" * 100)


async def test_it_hears_a_daemon_that_refuses_the_frame_unread(host: Host) -> None:
    """docs/adr/0003: a daemon of another release answers after the header."""
    refusal = encode_answer(Answer(1, b'{"code":1}'))

    def reply(connection: socket.socket) -> None:
        connection.recv(HEADER_BYTES, socket.MSG_WAITALL)
        connection.sendall(refusal)

    with Daemon(host.socket, reply):
        outcome = await run(host, "ADD", CONFIG.ljust(STDIN_LIMIT))

    assert (outcome.status, outcome.stdout) == (1, b'{"code":1}')


def malformed() -> Iterator[tuple[str, bytes]]:
    good = encode_answer(Answer(0, b"{}", b"x"))
    yield "nothing", b""
    yield "half a header", good[:7]
    yield "header only", good[:HEADER_BYTES]
    yield "cut short", good[:-1]
    yield "another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n"
    yield "another version", good[:5] + b"\2" + good[6:]
    yield "lengths that overflow", good[:8] + b"\xff" * 8 + good[16:]
    yield "lengths whose sum overflows", good[:8] + b"\x80\0\0\0" * 2 + good[16:]
    yield "one byte over the limit", good[:8] + struct.pack(">II", (1 << 20) + 1, 0)
    yield "zeroes", bytes(4096)
    random = Random(6783)
    for number in range(20):
        size = random.randrange(1, 64)
        yield (
            f"noise {number}",
            b"WVCN\0\1" * (number % 2) + bytes(random.getrandbits(8) for _ in range(size)),
        )


@pytest.mark.parametrize("answer", [pytest.param(data, id=name) for name, data in malformed()])
async def test_an_answer_that_is_none_counts_as_no_daemon(host: Host, answer: bytes) -> None:
    with Daemon(host.socket, says(answer)):
        added = await run(host, "ADD")
        deleted = await run(host, "DEL")

    assert error_of(added) == (11, "1.0.0")
    assert deleted == Outcome(0, b"", b"")
    assert len(list(host.spool.iterdir())) == 1


@pytest.mark.parametrize("code", [256, 512, 0xFF00])
async def test_an_exit_code_no_process_can_have_is_still_a_failure(host: Host, code: int) -> None:
    with Daemon(host.socket, says(encode_answer(Answer(code, b"x")))):
        assert (await run(host, "ADD")).status == 1


async def test_a_daemon_that_dies_at_once_counts_as_no_daemon(host: Host) -> None:
    """It closes unread, so writing to it fails: no SIGPIPE may end the program."""
    with Daemon(host.socket, lambda _connection: None):
        outcome = await run(host, "ADD", CONFIG.ljust(STDIN_LIMIT))

    assert error_of(outcome) == (11, "1.0.0")


async def test_a_runtime_that_closed_stdout_makes_it_fail(host: Host) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with Daemon(host.socket, says(encode_answer(Answer(0, b"{}")))), os.fdopen(write_end) as closed:
        process = await asyncio.create_subprocess_exec(
            *host.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=closed,
            env={"PATH": os.environ["PATH"], "CNI_COMMAND": "ADD"},
        )
        assert await process.wait() == 1


@contextlib.asynccontextmanager
async def silent_daemon(host: Host) -> AsyncIterator[None]:
    """Accepts, and never answers."""
    done = threading.Event()

    def hang(_connection: socket.socket) -> None:
        done.wait(20)

    with Daemon(host.socket, hang):
        yield
        done.set()


@pytest.mark.slow
async def test_s42_status_does_not_wait_for_a_daemon_that_hangs() -> None:
    begin = time.monotonic()
    with Host(build()) as host:
        async with silent_daemon(host):
            outcome = await run(host, "STATUS")

    assert error_of(outcome)[0] == 50
    assert 4.0 < time.monotonic() - begin < 10.0
