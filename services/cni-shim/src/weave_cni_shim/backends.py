"""What an attach needs of the other services. Every method raises DomainError only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from weave_cni_shim.core.port import Allocated, LiveAttachment, Port, PreparedPort
from weave_model.attachment import AttachmentKey, Workload
from weave_model.prefix import Prefix


class Ipam(Protocol):
    """The part of ipam that an attach uses; see weave.ipam.v1.Ipam for the contracts."""

    async def allocate(
        self,
        key: AttachmentKey,
        workload: Workload,
        subnets: Sequence[Prefix],
        requested: Sequence[Prefix],
        timeout_s: float,
    ) -> Allocated: ...

    async def claim(
        self,
        key: AttachmentKey,
        workload: Workload,
        addresses: Sequence[Prefix],
        timeout_s: float,
    ) -> int:
        """Gives the generation."""

    async def lookup(self, key: AttachmentKey) -> Allocated:
        """Without addresses if there are none."""

    async def release(self, key: AttachmentKey, generation: int = 0) -> tuple[Prefix, ...]: ...

    async def keys(self, network: str) -> list[AttachmentKey]: ...

    async def why_not_ready(self) -> str: ...


class Router(Protocol):
    """The part of router that an attach uses; see weave.router.v1.Router for the contracts."""

    async def prepare(self, port: Port, *, opens: bool = False) -> PreparedPort:
        """`opens`: and activate, in the same call."""

    async def activate(self, key: AttachmentKey, generation: int) -> None: ...

    async def detach(self, key: AttachmentKey, netns: str) -> None: ...

    async def check(self, key: AttachmentKey, netns: str) -> list[str]: ...

    async def attachments(self, network: str) -> list[LiveAttachment]: ...

    async def why_not_ready(self) -> str: ...

    @property
    def is_impaired(self) -> bool:
        """Whether pods that are there may be cut off, as of the last `why_not_ready`.

        An absent router cuts off nobody, since the kernel goes on; one that cannot make the kernel
        as it should be may.
        """


class Npc(Protocol):
    """The part of npc that an attach uses; see weave.npc.v1.Npc for the contracts."""

    @property
    def has_a_say(self) -> bool:
        """Must a port stay closed until it is admitted?"""

    async def admit(self, port: Port, host_interface: str) -> None: ...

    async def retire(self, key: AttachmentKey) -> None: ...

    async def why_not_ready(self) -> str: ...


class NoNpc:
    """Stands where no policy controller runs: everybody is admitted."""

    has_a_say = False

    async def admit(self, port: Port, host_interface: str) -> None:
        """Nothing to wait for."""

    async def retire(self, key: AttachmentKey) -> None:
        """Nothing to forget."""

    async def why_not_ready(self) -> str:
        """Never a reason."""
        return ""
