"""Where an attachment's addresses come from: our own ipam, or another IPAM plugin.

Addresses of another plugin are claimed in ipam too: so their blocks become this node's, packets
from other nodes find them, and two nodes never use one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from weave_cni_shim.backends import Ipam
from weave_cni_shim.core.address import InterfaceAddress
from weave_cni_shim.core.call import Call, Command
from weave_cni_shim.core.config import OWN_IPAM
from weave_cni_shim.core.delegation import check_name, parse_delegated, parse_error
from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.frame import Request
from weave_cni_shim.core.port import Allocated
from weave_model.attachment import AttachmentKey, Workload
from weave_model.prefix import Prefix

log = logging.getLogger(__name__)

# host-local takes milliseconds, dhcp waits for a server: 10 s by default.
PLUGIN_S = 30.0


class AddressSource(Protocol):
    """Gives and takes back the addresses of one attachment. Raises DomainError or CniError."""

    async def obtain(self, key: AttachmentKey, workload: Workload, timeout_s: float) -> Allocated:
        """Idempotent; says whether the addresses were there before."""

    async def give_back(self, key: AttachmentKey, generation: int) -> None:
        """Idempotent; generation 0 means whatever there is."""


class OwnAddresses:
    """Addresses of our ipam."""

    def __init__(
        self, ipam: Ipam, subnets: Sequence[Prefix] = (), requested: Sequence[Prefix] = ()
    ) -> None:
        self._ipam = ipam
        self._subnets = subnets
        self._requested = requested

    async def obtain(self, key: AttachmentKey, workload: Workload, timeout_s: float) -> Allocated:
        """See AddressSource."""
        return await self._ipam.allocate(key, workload, self._subnets, self._requested, timeout_s)

    async def give_back(self, key: AttachmentKey, generation: int) -> None:
        """See AddressSource."""
        await self._ipam.release(key, generation)


class PluginMissing(CniError):
    """The executable is in none of the directories."""


class IpamPlugin:
    """One executable, for one request of the runtime."""

    def __init__(self, name: str, request: Request, directories: Iterable[Path]) -> None:
        self._name = name
        self._request = request
        self._directories = tuple(directories)
        # What it said on stderr, which is for whoever runs the runtime (S52).
        self.stderr = b""

    async def run(self, command: Command) -> bytes:
        """Gives its stdout. Raises CniError, its own or that it cannot be run."""
        environ = {
            name: value for name, value in self._request.environ.items() if name.startswith("CNI_")
        }
        process = await self._start(environ | {"CNI_COMMAND": command.value})
        try:
            async with asyncio.timeout(PLUGIN_S):
                stdout, stderr = await process.communicate(self._request.stdin)
        except TimeoutError as error:
            text = f"{self._name}: no answer within {PLUGIN_S:g} s"
            raise CniError(Code.TRY_AGAIN, text) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        self.stderr += stderr
        if process.returncode:
            raise parse_error(self._name, stdout, stderr)
        return stdout

    async def _start(self, environ: dict[str, str]) -> asyncio.subprocess.Process:
        executable = self._found()
        try:
            return await asyncio.create_subprocess_exec(
                executable,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": os.defpath, **environ},
            )
        except OSError as error:
            raise CniError(
                Code.INTERNAL, f"{executable} cannot be run: {error.strerror}"
            ) from error

    def _found(self) -> Path:
        for directory in self._directories:
            path = directory / check_name(self._name)
            if path.is_file():
                return path
        places = ", ".join(map(str, self._directories))
        text = f"IPAM plugin {self._name!r} is in none of {places}"
        raise PluginMissing(Code.INVALID_CONFIG, text)


def ipam_plugin(call: Call, plugin_dir: Path) -> IpamPlugin | None:
    """The IPAM plugin that a configuration names; none where it is us."""
    if call.is_ipam or call.config.ipam_type == OWN_IPAM or call.command is Command.VERSION:
        return None
    # The runtime's directories as this process sees them, and where its mount of them is.
    directories = [Path(item) for item in call.path.split(":") if item.startswith("/")]
    return IpamPlugin(call.config.ipam_type, call.request, [*directories, plugin_dir])


class PluginAddresses:
    """Addresses of another IPAM plugin, claimed in ipam."""

    def __init__(self, ipam: Ipam, plugin: IpamPlugin, name: str) -> None:
        self._ipam = ipam
        self._plugin = plugin
        self._name = name

    async def obtain(self, key: AttachmentKey, workload: Workload, timeout_s: float) -> Allocated:
        """See AddressSource."""
        held = await self._ipam.lookup(key)
        if held.addresses:
            # Asked again, the plugin would refuse: it has given these, and still holds them.
            return Allocated(held.addresses, held.generation, existed=True)
        given = parse_delegated(self._name, await self._plugin.run(Command.ADD))
        generation = await self._ipam.claim(key, workload, given.addresses, timeout_s)
        return Allocated(
            tuple(map(InterfaceAddress.alone, given.addresses)),
            generation,
            routes=given.routes or None,
            dns=given.dns,
        )

    async def give_back(self, key: AttachmentKey, generation: int) -> None:
        """See AddressSource."""
        try:
            await self._plugin.run(Command.DEL)
        except PluginMissing as error:
            # Uninstalled since: nobody can give back what it recorded, and the pod must go.
            log.warning("address not given back: %s", error.message)
        await self._ipam.release(key, generation)
