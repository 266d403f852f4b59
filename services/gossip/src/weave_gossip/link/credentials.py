"""What a secret gives a peer for its links: a key id, an authority, a certificate."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from weave_gossip.errors import StartError

# The derivation takes a tenth of a second and the interpreter's start half a one; on a machine that
# starts everything at once, many times that.
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """One secret's. `chain` holds a private key and is never shown."""

    key_id: bytes
    authority: str
    chain: str = field(repr=False)


async def request_credentials(
    secrets: Sequence[str], cluster_id: str, name: str
) -> list[Credentials]:
    """Has them made by another process, one per secret in the same order. Raises StartError."""
    if not secrets:
        return []
    requests = [{"secret": secret, "cluster_id": cluster_id, "name": name} for secret in secrets]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "weave_gossip.link.certificate",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            answer, complaint = await process.communicate(json.dumps(requests).encode())
    except TimeoutError as error:
        raise StartError(f"no certificates for encrypted links within {DEADLINE_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise StartError(f"certificates for encrypted links could not be made: {last}")
    return [
        Credentials(bytes.fromhex(each["key_id"]), each["authority"], each["chain"])
        for each in json.loads(answer)
    ]
