"""Reference plugins behind ours: are they there, and which CNI versions do they share with us?

An ADD succeeds only if every plugin of the list succeeds, and a runtime calls all of them with one
version: an older portmap knows neither 1.1.0 nor STATUS. So the conflist offers what all speak.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from weave_cni_shim.core.conflist import OFFERED
from weave_model.errors import NotReady

# An executable that only prints takes milliseconds.
_VERSION_S = 5.0
_REQUEST = json.dumps({"cniVersion": OFFERED[-1]}).encode()
_Identity = tuple[int, int, int]


class Chain:
    """The executables by their names in `bin_dir`; `offer` hears the versions whenever they change.

    An executable is asked once, and again after it was replaced.
    """

    def __init__(
        self, names: Sequence[str], bin_dir: Path, offer: Callable[[Sequence[str]], None]
    ) -> None:
        self._names = names
        self._bin_dir = bin_dir
        self._offer = offer
        self._known: dict[str, tuple[_Identity, frozenset[str]]] = {}

    async def why_not_ready(self) -> str:
        """Why the chain would fail an ADD; empty: it would not. Raises NotReady likewise."""
        if not self._names:
            return ""
        before = dict(self._known)
        for name in self._names:
            await self._ask_if_new(name)
        shared = [
            version
            for version in OFFERED
            if all(version in versions for _, versions in self._known.values())
        ]
        if not shared:
            spoken = "; ".join(f"{name} {sorted(self._known[name][1])}" for name in self._names)
            return f"chained plugins share none of {', '.join(OFFERED)}: {spoken}"
        if self._known != before:
            self._offer(shared)
        return ""

    async def _ask_if_new(self, name: str) -> None:
        path = self._bin_dir / name
        try:
            facts = path.stat()
        except OSError as error:
            raise NotReady(f"chained plugin {path}: {error.strerror}") from error
        identity = facts.st_ino, facts.st_size, facts.st_mtime_ns
        known = self._known.get(name)
        if known is None or known[0] != identity:
            self._known[name] = identity, await _versions(path)


async def _versions(path: Path) -> frozenset[str]:
    """What an executable says that it speaks. Raises NotReady."""
    process = None
    try:
        async with asyncio.timeout(_VERSION_S):
            process = await asyncio.create_subprocess_exec(
                path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"CNI_COMMAND": "VERSION"},
            )
            stdout, _ = await process.communicate(_REQUEST)
        return frozenset(json.loads(stdout)["supportedVersions"])
    except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise NotReady(f"chained plugin {path} does not tell its versions: {error!r}") from error
    finally:
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
