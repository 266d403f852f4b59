"""Proves that a pod reaches a server on every node by its pod address: what `helm test` runs.

python -m weave_gossip.kubernetes.connectivity NAMESPACE POD-SELECTOR PORT
"""

from __future__ import annotations

import asyncio
import os
import sys
from urllib.parse import quote

from weave_gossip.kubernetes.api import ApiClient, ApiRefused, Object
from weave_gossip.kubernetes.http import HttpError, read_head
from weave_gossip.target import format_endpoint
from weave_model.errors import DomainError

# Images may have to be pulled first.
PATIENCE_S = 180.0
_POLL_S = 1.0
_TIMEOUT_S = 5.0


async def prove(api: ApiClient, namespace: str, selector: str, port: int) -> int:
    """Gives the exit status, and prints a line per server."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(selector)}"
    async with asyncio.timeout(PATIENCE_S):
        while not (pods := await _running(api, path)):  # noqa: ASYNC110 - asks a server
            await asyncio.sleep(_POLL_S)
    failed = 0
    for pod in pods:
        for address in (entry["ip"] for entry in pod["status"]["podIPs"]):
            answer = await _fetch(address, port)
            failed += answer != "ok"
            print(f"{pod['spec']['nodeName']}  {format_endpoint(address, port)}  {answer}")  # noqa: T201
    return 1 if failed else 0


async def _running(api: ApiClient, path: str) -> list[Object]:
    """All servers, once every one of them runs."""
    pods, _ = await api.list(path)
    ready = [pod for pod in pods if (pod.get("status") or {}).get("podIPs")]
    return ready if len(ready) == len(pods) else []


async def _fetch(address: str, port: int) -> str:
    reason = ""
    for _ in range(3):  # the server may have got its address a moment before it listens
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(address, port)
                try:
                    writer.write(b"GET / HTTP/1.0\r\n\r\n")
                    head = await read_head(reader)
                finally:
                    writer.transport.abort()
            return "ok" if head.status == 200 else f"HTTP status {head.status}"
        except (OSError, TimeoutError, HttpError) as error:
            reason = str(error) or "no answer in time"
            await asyncio.sleep(_POLL_S)
    return reason


def main() -> int:
    """Gives the exit status."""
    namespace, selector, port = sys.argv[1:]
    try:
        return asyncio.run(prove(ApiClient.in_cluster(os.environ), namespace, selector, int(port)))
    except (DomainError, ApiRefused, TimeoutError) as error:
        print(str(error) or "the servers do not run in time", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
