"""Tells the cluster that a node's network works: its condition, and a start-up taint taken off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from weave_gossip.kubernetes.api import ApiAway, ApiClient, ApiRefused, Object
from weave_gossip.kubernetes.http import BodyReader, HttpError, read_head
from weave_gossip.kubernetes.nodes import WORKS
from weave_runtime.logs import once_per

log = logging.getLogger(__name__)
log.addFilter(once_per(60))

# Answers 200 when an ADD would succeed; loopback, so it is the cni-shim of this node.
READY_HOST, READY_PORT, READY_PATH = "127.0.0.1", 6788, "/readyz"
# People wait for a node to become ready.
ASK_S = 1.0
RETRY_S = 5.0
_TIMEOUT_S = 5.0
_MAX_REASON_BYTES = 4096

MESSAGE = "Weave pod has set this"


class NodeStatus:
    """Reports as soon as it is true, once per Node object; it is never taken back.

    A Node that was deleted and registered anew has neither the condition nor lost its taint.
    """

    def __init__(
        self,
        api: ApiClient,
        node: str,
        node_uid: Callable[[], str],
        startup_taint: str,
        ready_port: int,
    ) -> None:
        self._api = api
        self._node_uid = node_uid
        self._path = f"/api/v1/nodes/{node}"
        self._startup_taint = startup_taint
        self._ready_port = ready_port

    async def run(self) -> None:
        """Until cancelled."""
        reported: str | None = None
        while True:
            uid = self._node_uid()
            if uid == reported or await why_not_ready(self._ready_port):
                await asyncio.sleep(ASK_S)
                continue
            try:
                await self._report()
            except (ApiAway, ApiRefused) as error:
                log.warning("node status not reported, trying again: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                reported = uid
                log.info("node status reported", extra={"condition": "NetworkUnavailable=False"})

    async def _report(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - wall clock is meant
        await self._api.request(
            "PATCH",
            f"{self._path}/status",
            {"status": {"conditions": [_condition(now)]}},
            kind="application/strategic-merge-patch+json",
        )
        if not self._startup_taint:
            return
        node = await self._api.request("GET", self._path)
        present = (node.get("spec") or {}).get("taints") or []
        kept = [taint for taint in present if taint.get("key") != self._startup_taint]
        if len(kept) < len(present):
            # The version makes the server refuse when somebody else has changed the taints.
            version = node["metadata"]["resourceVersion"]
            await self._api.request(
                "PATCH",
                self._path,
                {"metadata": {"resourceVersion": version}, "spec": {"taints": kept}},
                kind="application/merge-patch+json",
            )


def _condition(now: str) -> Object:
    return {
        "type": "NetworkUnavailable",
        "status": "False",
        "reason": WORKS,
        "message": MESSAGE,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


async def why_not_ready(port: int) -> str:
    """Why an ADD would fail on this node; empty: it would succeed."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(READY_HOST, port)
            try:
                writer.write(f"GET {READY_PATH} HTTP/1.1\r\nHost: {READY_HOST}\r\n\r\n".encode())
                head = await read_head(reader)
                if head.status == 200:
                    return ""
                reason = await BodyReader(reader, head).read_all(_MAX_REASON_BYTES)
                return reason.decode(errors="replace").strip() or f"HTTP status {head.status}"
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, HttpError) as error:
        return f"cni-shim does not answer: {str(error) or 'no answer in time'}"
