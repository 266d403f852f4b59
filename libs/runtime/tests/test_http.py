"""Probes and metrics over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from weave_model.errors import Conflict, Invalid
from weave_runtime.http import HttpServer


async def exchange(server: HttpServer, request: bytes) -> bytes:
    """Sends a request and gives the answer; empty when the server just closes."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
        return answer


async def get(server: HttpServer, path: str) -> tuple[int, str]:
    answer = await exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert f"Content-Length: {len(body.encode())}" in head
    return int(head.split()[1]), body


def serving(ready: Any = str, **options: Any) -> HttpServer:
    return HttpServer("127.0.0.1:0", ready=ready, **options)


async def test_process_is_alive_although_it_is_not_ready() -> None:
    async with serving(lambda: "no ring yet") as server:
        assert await get(server, "/healthz") == (200, "ok\n")


async def test_readiness_tells_the_reason() -> None:
    reasons = ["no ring yet"]

    async with serving(lambda: reasons[-1]) as server:
        before = await get(server, "/readyz")
        reasons.append("")
        after = await get(server, "/readyz?verbose")

    assert before == (503, "no ring yet\n")
    assert after == (200, "ok\n")


async def test_head_gives_no_body() -> None:
    async with serving() as server:
        answer = await exchange(server, b"HEAD /healthz HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"\xff\xfe\r\n\r\n", 405),
    ],
)
async def test_other_requests_are_refused(request_text: bytes, status: int) -> None:
    async with serving() as server:
        answer = await exchange(server, request_text)

    assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_endless_head_is_cut_off() -> None:
    async with serving() as server:
        assert await exchange(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4096) == b""


async def test_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weave_runtime.http._TIMEOUT_S", 0.01)

    async with serving() as server:
        assert await exchange(server, b"GET /healthz") == b""


async def test_connections_beyond_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weave_runtime.http._MAX_CONNECTIONS", 0)

    async with serving() as server:
        assert await exchange(server, b"GET /healthz HTTP/1.1\r\n\r\n") == b""


async def test_metrics_are_collected_at_each_scrape() -> None:
    from prometheus_client.core import GaugeMetricFamily

    class Numbers:
        value = 0

        def collect(self) -> Iterator[Any]:
            Numbers.value += 1
            yield GaugeMetricFamily("weave_toy_things", "Things there are", value=Numbers.value)

    async with serving(metrics=Numbers) as server:
        status, text = await get(server, "/metrics")
        _, again = await get(server, "/metrics")

    assert status == 200
    assert "# HELP weave_toy_things Things there are" in text
    assert "process_resident_memory_bytes" in text
    assert text.count("weave_toy_things ") == again.count("weave_toy_things ")


async def test_address_in_use_is_named_with_its_option() -> None:
    async with serving() as server:
        address = f"127.0.0.1:{server.port}"

        with pytest.raises(Conflict, match=f"cannot listen on --http-addr {address}: .*in use"):
            await HttpServer(address, ready=str).__aenter__()


@pytest.mark.parametrize("address", ["6784", "localhost:", "localhost:http", "localhost:65536"])
def test_malformed_address_is_named_with_its_option(address: str) -> None:
    with pytest.raises(Invalid, match=f"--metrics-addr {address}: expected host:port"):
        HttpServer(address, ready=str, option="--metrics-addr")
