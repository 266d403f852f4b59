"""Addresses for interfaces that other plugins make: weave-ipam below them.

As an attach, an ADD that fails or loses its caller leaves nothing behind. Nobody but ipam knows of
such an address, so ipam is asked first: one that was held before is another ADD's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from weave_cni_shim.attach import to_its_end
from weave_cni_shim.backends import Ipam
from weave_cni_shim.core.frame import Request
from weave_cni_shim.core.port import Allocated
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import DomainError
from weave_model.prefix import Prefix

# For an address alone; a whole attach has the time that --add-timeout gives it.
ALLOCATE_S = 30.0

log = logging.getLogger(__name__)


class Lender:
    """Gives addresses without an interface. `owe` keeps a DEL that cannot be carried out now."""

    def __init__(self, ipam: Ipam, *, owe: Callable[[Request], Awaitable[None]]) -> None:
        self._ipam = ipam
        self._owe = owe

    async def lend(
        self,
        key: AttachmentKey,
        workload: Workload,
        subnets: Sequence[Prefix],
        requested: Sequence[Prefix],
        removal: Request,
    ) -> Allocated:
        """Idempotent. Raises DomainError; that, or a cancellation, leaves nothing behind."""
        held = await self._ipam.lookup(key)
        try:
            return await self._ipam.allocate(key, workload, subnets, requested, ALLOCATE_S)
        except BaseException:
            # Whether it was given may not be known: the answer can be lost.
            if not held.addresses:
                await to_its_end(self._take_back(key, removal))
            raise

    async def _take_back(self, key: AttachmentKey, removal: Request) -> None:
        try:
            await self._ipam.release(key)
        except DomainError as error:
            log.warning("address not given back: %s", error, extra={"attachment": str(key)})
            try:
                await self._owe(removal)
            except OSError as disk:
                log.error(  # noqa: TRY400 - the disk is full, not the program wrong
                    "nor can it be kept: %s", disk, extra={"attachment": str(key)}
                )
