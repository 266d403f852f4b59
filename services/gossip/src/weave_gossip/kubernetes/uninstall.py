"""Tells every node that weave-net is uninstalled, and waits until each has cleaned up.

    python -m weave_gossip.kubernetes.uninstall NAMESPACE CONFIGMAP POD-SELECTOR

Runs as a hook before the release is deleted, while the agents still run. Afterwards the ConfigMap
is deleted, so that the next install begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from urllib.parse import quote

from weave_gossip.coordination.backend import UNINSTALL_KEY, Coordination
from weave_gossip.errors import RevisionConflictError
from weave_gossip.kubernetes.api import ApiClient, ApiRefused
from weave_gossip.kubernetes.configmap import ConfigMapCoordination
from weave_model.errors import DomainError
from weave_runtime import logs

log = logging.getLogger(__name__)

KEY = UNINSTALL_KEY
DONE_PREFIX = "uninstalled/"
# An agent cleans up within seconds; one on a node that is down never will.
PATIENCE_S = 90.0
_POLL_S = 0.5
_NOT_FOUND = 404


async def uninstall(api: ApiClient, namespace: str, name: str, selector: str) -> int:
    """Gives the exit status: 0 also when nodes that are down did not answer; they are named."""
    coordination = ConfigMapCoordination(api, namespace, name)
    await _demand(coordination)
    nodes = await _nodes_with_agents(api, namespace, selector)
    log.info("waiting for nodes to clean up", extra={"nodes": len(nodes)})
    left = nodes
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while left := await _not_done(coordination, left):  # noqa: ASYNC110 - asks a server
                await asyncio.sleep(_POLL_S)
    for node in sorted(left):
        log.warning(
            "node has not cleaned up: run `weave reset --force` there", extra={"node": node}
        )
    with suppress(ApiRefused):
        await api.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    return 0


async def _demand(coordination: Coordination) -> None:
    with suppress(RevisionConflictError):  # demanded before
        await coordination.compare_and_swap(KEY, 0, b"requested")


async def _nodes_with_agents(api: ApiClient, namespace: str, selector: str) -> frozenset[str]:
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(selector)}"
    pods, _ = await api.list(path)
    return frozenset(
        pod["spec"]["nodeName"]
        for pod in pods
        if (pod.get("status") or {}).get("phase") == "Running" and pod["spec"].get("nodeName")
    )


async def _not_done(coordination: Coordination, nodes: frozenset[str]) -> frozenset[str]:
    done = {node for node in nodes if await coordination.get(DONE_PREFIX + node) is not None}
    return nodes - done


def main() -> int:
    """Gives the exit status."""
    if len(sys.argv) != 4:
        print("usage: uninstall NAMESPACE CONFIGMAP POD-SELECTOR", file=sys.stderr)  # noqa: T201
        return 2
    logs.set_up("uninstall", logging.INFO)
    try:
        return asyncio.run(uninstall(ApiClient.in_cluster(os.environ), *sys.argv[1:]))
    except DomainError as error:
        log.critical("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
