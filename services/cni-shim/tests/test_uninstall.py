"""The uninstall that Coordination tells of."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave.router.v1 import router_pb2, router_pb2_grpc
from weave.types.v1 import types_pb2
from weave_cni_shim.install import Conflist, install_executable
from weave_cni_shim.readiness import Readiness
from weave_cni_shim.uninstall import Uninstall, remove_folders
from weave_runtime import removal
from weave_runtime.client import connect
from weave_runtime.server import Server


class FakeCoordination(gossip_pb2_grpc.CoordinationServicer):
    def __init__(self) -> None:
        self.demand = asyncio.Event()
        self.written: list[tuple[str, int]] = []

    async def Watch(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = gossip_pb2.WatchResponse
        yield response(snapshot_start=types_pb2.SnapshotStart())
        yield response(synced=types_pb2.Synced(resume_token=b"1"))
        await self.demand.wait()
        yield response(entry=response.Entry(key="uninstall", revision=1, value=b"requested"))
        yield response(synced=types_pb2.Synced(resume_token=b"2"))
        await asyncio.Event().wait()

    async def CompareAndSwap(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.written.append((request.key, request.expected_revision))
        return gossip_pb2.CompareAndSwapResponse(revision=1)


class FakeRouter(router_pb2_grpc.RouterServicer):
    def __init__(self) -> None:
        self.resets = 0

    async def Reset(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.resets += 1
        return router_pb2.ResetResponse(left=["net.ipv4.ip_forward"])


async def always_ready() -> str:
    return ""


async def test_a_told_uninstall_takes_all_away_and_says_so(tmp_path: Path) -> None:
    coordination, router = FakeCoordination(), FakeRouter()  # type: ignore[abstract]
    server = Server(tmp_path / "api.sock", ready=lambda: "")
    server.add(gossip_pb2_grpc.add_CoordinationServicer_to_server, coordination)
    server.add(router_pb2_grpc.add_RouterServicer_to_server, router)
    (tmp_path / "source").write_bytes(b"program")
    install_executable(tmp_path / "source", tmp_path / "bin")
    conflist = Conflist(tmp_path / "net.d/10-weave.conflist", "{}")
    conflist.publish()
    readiness = Readiness([always_ready], conflist)

    async with server, connect(tmp_path / "api.sock") as channel:
        uninstall = Uninstall(
            channel,
            channel,
            node="n1",
            bin_dir=tmp_path / "bin",
            run_dir=tmp_path,
            withdraw=lambda: readiness.end("uninstalled"),
        )
        told = asyncio.ensure_future(uninstall.run())
        await asyncio.sleep(0)
        untouched = conflist.is_present and not told.done() and not removal.is_marked(tmp_path)
        coordination.demand.set()
        async with asyncio.timeout(10):
            await told

    assert untouched
    assert not conflist.is_present
    assert list((tmp_path / "bin").iterdir()) == []
    assert router.resets == 1
    assert removal.is_marked(tmp_path)
    assert coordination.written == [("uninstalled/n1", 0)]
    assert await readiness.reasons() == ["uninstalled"]


def test_folders_go_when_each_service_has_emptied_its_own(tmp_path: Path) -> None:
    for name in ("gossip", "ipam"):
        (tmp_path / name).mkdir()
    (tmp_path / "ipam" / "state.db").touch()
    emptied = threading.Timer(0.3, (tmp_path / "ipam" / "state.db").unlink)
    emptied.start()

    left = remove_folders(tmp_path)

    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_emptied_is_named(tmp_path: Path) -> None:
    (tmp_path / "ipam").mkdir()
    (tmp_path / "ipam" / "state.db").touch()
    (tmp_path / "gossip").mkdir()

    assert remove_folders(tmp_path, patience_s=0.0) == [tmp_path / "ipam"]
    assert [path.name for path in tmp_path.iterdir()] == ["ipam"]
