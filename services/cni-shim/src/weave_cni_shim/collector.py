"""Attachments that no longer live: removed on GC, and by ourselves where no runtime calls GC.

containerd never calls it (its go-cni does not know the verb), and a DEL may be lost for good when a
runtime's state is. A network namespace that is gone proves that its attachment is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from pathlib import Path

from weave_cni_shim.addresses import AddressSource, OwnAddresses, PluginAddresses, ipam_plugin
from weave_cni_shim.attach import Attacher
from weave_cni_shim.backends import Ipam, Router
from weave_cni_shim.core.failure import CniError
from weave_cni_shim.delegations import Delegations
from weave_model.attachment import NODE_CONTAINER_ID, AttachmentKey
from weave_model.errors import DomainError

log = logging.getLogger(__name__)


class Collector:
    """Removes stale attachments. What is being attached or detached is left alone."""

    def __init__(
        self,
        attacher: Attacher,
        ipam: Ipam,
        router: Router,
        delegations: Delegations,
        *,
        plugin_dir: Path,
    ) -> None:
        self._attacher = attacher
        self._ipam = ipam
        self._router = router
        self._delegations = delegations
        self._plugin_dir = plugin_dir
        # Dead when last looked: a sandbox that is just being replaced is not dead twice.
        self._suspects: frozenset[AttachmentKey] = frozenset()

    async def collect(self, network: str, valid: Collection[tuple[str, str]]) -> list[str]:
        """Removes all of a network but `valid` (container id, interface); lists what could not be.

        Raises DomainError when it cannot be known what there is.
        """
        known = set(await self._ipam.keys(network))
        known |= {item.key for item in await self._router.attachments(network)}
        stale = {
            key
            for key in known
            if key.container_id != NODE_CONTAINER_ID
            and (key.container_id, key.interface) not in valid
        }
        return await self._remove(stale, self._detach)

    async def collect_dead(self) -> list[str]:
        """Removes what was dead at this and at the last look, in all networks; see `collect`."""
        live = await self._router.attachments("")
        dead = frozenset(item.key for item in live if not item.sandbox_exists)
        confirmed, self._suspects = dead & self._suspects, dead
        return await self._remove(confirmed, self._attacher.detach_dead)

    async def run(self, interval: timedelta) -> None:
        """Collects what is dead, for ever."""
        while True:
            await asyncio.sleep(interval.total_seconds())
            try:
                for failure in await self.collect_dead():
                    log.warning("stale attachment not removed: %s", failure)
            except DomainError as error:
                log.debug("nothing collected: %s", error)

    async def _remove(
        self,
        stale: Collection[AttachmentKey],
        detach: Callable[[AttachmentKey, AddressSource], Awaitable[bool]],
    ) -> list[str]:
        failures = []
        for key in sorted(stale):
            if self._attacher.is_busy(key):
                continue
            try:
                if not await detach(key, self._source(key)):
                    continue
                self._delegations.forget(key)
                log.info("stale attachment removed", extra={"attachment": str(key)})
            except (DomainError, CniError) as error:
                failures.append(f"{key}: {error}")
        return failures

    async def _detach(self, key: AttachmentKey, source: AddressSource) -> bool:
        await self._attacher.detach(key, "", source)
        return True

    def _source(self, key: AttachmentKey) -> AddressSource:
        call = self._delegations.of(key)
        plugin = ipam_plugin(call, self._plugin_dir) if call else None
        if call is None or plugin is None:
            return OwnAddresses(self._ipam)
        return PluginAddresses(self._ipam, plugin, call.config.ipam_type)
