"""Uninstall: told through Coordination, carried out here and in the router, acknowledged.

Nothing is guessed from a SIGTERM: an upgrade ends this process the same way. What a service keeps
on disk goes when it ends (weave_runtime.removal); the folders go with this process, since their
parent is root's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import grpc

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave.router.v1 import router_pb2, router_pb2_grpc
from weave_cni_shim.install import remove_executable
from weave_runtime import removal
from weave_runtime.client import event_decoder, follow

log = logging.getLogger(__name__)

# Keys of Coordination; whoever uninstalls writes the first and waits for one of the second a node.
DEMAND = "uninstall"
DONE_PREFIX = "uninstalled/"
_CALL_S = 30.0
_RETRY_S = 2.0
# The other services end at the same time as this one, within 10 s; a pod has 30 s.
_OTHERS_END_S = 15.0
_LOOK_S = 0.1


class Uninstall:
    """Waits for the demand. `withdraw` ends that the conflist is shown, for good."""

    def __init__(
        self,
        gossip: grpc.aio.Channel,
        router: grpc.aio.Channel,
        *,
        node: str,
        bin_dir: Path,
        run_dir: Path,
        withdraw: Callable[[], Awaitable[None]],
    ) -> None:
        self._coordination = gossip_pb2_grpc.CoordinationStub(gossip)
        self._router = router_pb2_grpc.RouterStub(router)
        self._node = node
        self._bin_dir = bin_dir
        self._run_dir = run_dir
        self._withdraw = withdraw

    async def run(self) -> None:
        """Returns after the node is clean and has said so."""
        await self._demanded()
        log.info("uninstall: taking conflist, executables, devices and tables away")
        await self._withdraw()
        await asyncio.to_thread(remove_executable, self._bin_dir)
        await self._until_done("router", self._reset)
        await asyncio.to_thread(removal.mark, self._run_dir)
        await self._until_done("Coordination", self._acknowledge)
        log.info("uninstall: this node is clean")

    async def _demanded(self) -> None:
        states = follow(
            "uninstall",
            lambda token: self._coordination.Watch(
                gossip_pb2.WatchRequest(prefix=DEMAND, resume_token=token)
            ),
            event_decoder(lambda entry: (entry.key, entry.value)),
        )
        async with aclosing(states):
            async for state in states:
                if DEMAND in state.items:
                    return

    async def _reset(self) -> None:
        answer = await self._router.Reset(router_pb2.ResetRequest(), timeout=_CALL_S)
        for switch in answer.left:
            log.info("left as it is", extra={"what": switch})

    async def _acknowledge(self) -> None:
        request = gossip_pb2.CompareAndSwapRequest(key=DONE_PREFIX + self._node, value=b"clean")
        try:
            await self._coordination.CompareAndSwap(request, timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:  # acknowledged before
                raise

    async def _until_done(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except grpc.aio.AioRpcError as error:
                log.warning("uninstall: %s: %s, trying again", what, error.details())
                await asyncio.sleep(_RETRY_S)
            else:
                return


def remove_folders(state_root: Path, patience_s: float = _OTHERS_END_S) -> list[Path]:
    """Removes the folders of the services as soon as each has emptied its own; gives those left.

    Blocks for `patience_s` at most.
    """
    deadline = time.monotonic() + patience_s
    while left := [path for path in state_root.iterdir() if not _is_removed(path)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(_LOOK_S)
    return []


def _is_removed(folder: Path) -> bool:
    # What somebody else's folder holds is not for us to see: whether it is empty, the kernel knows.
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
