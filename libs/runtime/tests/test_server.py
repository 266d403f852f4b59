"""Life cycle of the gRPC server on a unix socket."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from weave_model.errors import Absent, Conflict, Invalid
from weave_runtime.client import MAX_MESSAGE_BYTES, connect
from weave_runtime.server import Server, claim_socket
from weave_runtime.testing import serving

OTHERS_GROUP = os.getgid() + 1 if os.getuid() == 0 else os.getgid()
HEALTH = health_pb2.HealthCheckResponse


async def error_of(call: Any) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def until_error(call: Any) -> grpc.StatusCode:
    """Reads as fast as it can."""
    while True:
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()


def health(channel: grpc.aio.Channel, service: str) -> Any:
    method = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=HEALTH.FromString,
    )
    return method(health_pb2.HealthCheckRequest(service=service), timeout=5)


def health_watch(channel: grpc.aio.Channel, service: str) -> Any:
    method = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=HEALTH.FromString,
    )
    return method(health_pb2.HealthCheckRequest(service=service), timeout=5)


def assert_socket(path: Path, *, mode: int, gid: int) -> None:
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_gid) == (mode, gid)


def is_there(path: Path) -> bool:
    return path.exists()


def leave_stale_socket(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))


async def test_socket_may_be_used_by_its_group_only(socket_path: Path) -> None:
    async with Server(socket_path, group=str(OTHERS_GROUP), ready=str):
        assert_socket(socket_path, mode=0o660, gid=OTHERS_GROUP)


async def test_group_may_be_named(socket_path: Path) -> None:
    async with Server(socket_path, group=grp.getgrgid(os.getgid()).gr_name, ready=str):
        assert_socket(socket_path, mode=0o660, gid=os.getgid())


async def test_unknown_group_is_named(socket_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be given to group nosuchgroup"):
        await Server(socket_path, group="nosuchgroup", ready=str).__aenter__()


async def test_socket_is_gone_after_the_stop(socket_path: Path) -> None:
    async with Server(socket_path, ready=str):
        assert is_there(socket_path)

    assert not is_there(socket_path)


async def test_stale_socket_is_replaced(socket_path: Path) -> None:
    leave_stale_socket(socket_path)

    async with Server(socket_path, ready=str), connect(socket_path) as channel:
        async with asyncio.timeout(5):
            await channel.channel_ready()


async def test_socket_in_use_is_left_to_its_owner(socket_path: Path) -> None:
    async with Server(socket_path, ready=str), connect(socket_path) as channel:
        with pytest.raises(Conflict, match=f"socket {socket_path} is in use by another process"):
            await Server(socket_path, ready=str).__aenter__()

        async with asyncio.timeout(5):
            await channel.channel_ready()


def test_socket_with_a_full_backlog_is_in_use(socket_path: Path) -> None:
    socket_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as queued:
        busy.bind(str(socket_path))
        busy.listen(0)
        queued.connect(str(socket_path))

        with pytest.raises(Conflict, match="in use"):
            claim_socket(socket_path)


def test_file_in_the_place_of_a_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")

    with pytest.raises(Conflict, match="exists and is not a socket"):
        claim_socket(tmp_path / "file")

    assert (tmp_path / "file").read_text() == "precious"


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Conflict, match=r"api.sock cannot be made: .*(exists|directory)"):
        claim_socket(tmp_path / "file" / "api.sock")


def test_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="longer than 107 bytes"):
        claim_socket(tmp_path / ("x" * 100))


async def test_health_of_the_process_and_of_its_service(toy: Any) -> None:
    reasons = ["no ring yet"]

    async with serving(toy.register, toy, ready=lambda: reasons[-1]) as channel:
        process = await health(channel, "")
        before = await health(channel, toy.NAME)
        reasons.append("")
        after = await health(channel, toy.NAME)
        unknown = await error_of(health(channel, "x"))

    assert process.status == HEALTH.SERVING
    assert (before.status, after.status) == (HEALTH.NOT_SERVING, HEALTH.SERVING)
    assert unknown == (grpc.StatusCode.NOT_FOUND, "unknown service x")


async def test_health_can_be_watched(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weave_runtime.server._HEALTH_PERIOD_S", 0)
    reasons = ["no ring yet"]

    async with serving(toy.register, toy, ready=lambda: reasons[-1]) as channel:
        watch = health_watch(channel, toy.NAME)
        before = await watch.read()
        reasons.append("")
        after = await watch.read()

    assert (before.status, after.status) == (HEALTH.NOT_SERVING, HEALTH.SERVING)


async def test_watched_health_of_an_unknown_service_may_become_known(toy: Any) -> None:
    async with serving(toy.register, toy) as channel:
        assert (await health_watch(channel, "x").read()).status == HEALTH.SERVICE_UNKNOWN


async def test_reflection_lists_the_services(toy: Any) -> None:
    async with serving(toy.register, toy) as channel:
        method = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = method(timeout=5)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer: Any = await call.read()
        call.cancel()

    assert {service.name for service in answer.list_services_response.service} == {
        toy.NAME,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_domain_error_reaches_the_caller_as_its_code(
    toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        raise Absent("no sandbox 17")

    toy.answer = answer
    async with serving(toy.register, toy) as channel:
        status = await error_of(toy.call(channel))

    assert status == (grpc.StatusCode.NOT_FOUND, "no sandbox 17")
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_unexpected_error_is_internal_and_logged_once(
    toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        raise KeyError("oops")

    toy.answer = answer
    async with serving(toy.register, toy) as channel:
        status = await error_of(toy.call(channel))

    assert status == (grpc.StatusCode.INTERNAL, "KeyError: 'oops'")
    (record,) = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert record.message == "call failed unexpectedly"
    assert record.exc_info


async def test_abort_of_a_handler_passes(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
        raise AssertionError("not reached")

    toy.answer = answer
    async with serving(toy.register, toy) as channel:
        status = await error_of(toy.call(channel))

    assert status == (grpc.StatusCode.DATA_LOSS, "by hand")
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_error_in_a_stream_follows_what_was_sent(toy: Any) -> None:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        raise Conflict("fenced")

    toy.stream = stream
    async with serving(toy.register, toy) as channel:
        call = toy.watch(channel)
        first = await call.read()
        status = await error_of(call.read())

    assert first == b"first"
    assert status == (grpc.StatusCode.FAILED_PRECONDITION, "fenced")


async def test_cancelled_call_is_cancelled_in_its_handler(toy: Any) -> None:
    entered, was_cancelled = asyncio.Event(), asyncio.Event()

    async def answer(request: bytes, context: Any) -> bytes:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise
        return b""

    toy.answer = answer
    async with serving(toy.register, toy) as channel:
        call = toy.call(channel)
        async with asyncio.timeout(5):
            await entered.wait()
        call.cancel()

        async with asyncio.timeout(5):
            await was_cancelled.wait()


async def test_cancelled_stream_closes_its_handler(toy: Any) -> None:
    async with serving(toy.register, toy) as channel:
        call = toy.watch(channel)
        await call.read()
        call.cancel()

        async with asyncio.timeout(5):
            await toy.was_ended.wait()


async def test_stop_lets_a_call_finish(toy: Any, socket_path: Path) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def answer(request: bytes, context: Any) -> bytes:
        entered.set()
        await gate.wait()
        return b"done"

    toy.answer = answer
    server = Server(socket_path, ready=str, grace_s=5)
    server.add(toy.register, toy)

    async with connect(socket_path) as channel:
        async with server:
            call = toy.call(channel, wait_for_ready=True)
            async with asyncio.timeout(5):
                await entered.wait()
            asyncio.get_running_loop().call_soon(gate.set)

        assert await call == b"done"


async def test_stop_does_not_wait_for_streams(toy: Any, socket_path: Path) -> None:
    server = Server(socket_path, ready=str, grace_s=60)
    server.add(toy.register, toy)

    async with connect(socket_path) as channel:
        async with asyncio.timeout(10), server:
            call = toy.watch(channel, timeout=None, wait_for_ready=True)
            await call.read()
        code, _ = await error_of(call.read())

    assert code == grpc.StatusCode.UNAVAILABLE
    assert toy.was_ended.is_set()


async def test_stop_ends_a_stream_that_is_sending(toy: Any, socket_path: Path) -> None:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(100)

    toy.stream = stream
    server = Server(socket_path, ready=str, grace_s=60)
    server.add(toy.register, toy)

    async with asyncio.timeout(10), connect(socket_path) as channel:
        call = toy.watch(channel, timeout=None, wait_for_ready=True)
        async with server:
            await call.read()
            reading = asyncio.ensure_future(until_error(call))
        code = await reading

    assert code == grpc.StatusCode.UNAVAILABLE


async def test_message_beyond_the_limit_is_refused(toy: Any) -> None:
    async with serving(toy.register, toy) as channel:
        code, _ = await error_of(toy.call(channel, bytes(MAX_MESSAGE_BYTES + 1)))

    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
