"""Dials a target and goes through the handshake.

Of a name that stands for several addresses each is tried in turn.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from dataclasses import dataclass

from weave_gossip.core.messages import Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.link.framing import PlainStream, network_refusal
from weave_gossip.link.handshake import STEP_S, Agreed, Side, set_up
from weave_gossip.link.listener import tune
from weave_gossip.reasons import words_of
from weave_gossip.target import Target, format_endpoint

# The core waits 30 s for the answer to a Dial.
DIAL_S = 25.0
# Of a name with more addresses (a headless service) a random few are enough to get into the mesh.
MAX_ADDRESSES = 8
# With these another address of the same name may do better: it led to ourselves or to a peer we
# have.
_TRY_NEXT = frozenset({RefusalCode.UNSPECIFIED, RefusalCode.SELF, RefusalCode.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Dialled:
    """A link that came up, and where to."""

    agreed: Agreed
    plain: PlainStream
    endpoint: str


async def dial(target: Target, side: Side, epoch: int) -> Dialled:
    """Raises LinkError within DIAL_S; nothing is left open then."""
    try:
        async with asyncio.timeout(DIAL_S):
            return await _dial_any(
                await _resolve(target), side, epoch, is_name=not target.is_address
            )
    except TimeoutError as error:
        raise LinkError(Refusal(RefusalCode.TIMEOUT, f"no link within {DIAL_S:g} s")) from error


async def _dial_any(
    addresses: list[tuple[str, int]], side: Side, epoch: int, *, is_name: bool
) -> Dialled:
    failures: list[LinkError] = []
    for host, port in addresses:
        try:
            return await _dial_one(host, port, side, epoch)
        except LinkError as error:
            failures.append(error)
            if error.refusal.code not in _TRY_NEXT:
                break
    if is_name and len(failures) > 1:
        # A name that also stands for ourselves is no mistake of anybody.
        failures = [
            error for error in failures if error.refusal.code is not RefusalCode.SELF
        ] or failures
    raise failures[-1]


async def _dial_one(host: str, port: int, side: Side, epoch: int) -> Dialled:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        tune(connection)
        async with asyncio.timeout(STEP_S):
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
        reader, writer = await asyncio.open_connection(sock=connection)
    except TimeoutError as error:
        connection.close()
        reason = f"no connection within {STEP_S:g} s"
        raise LinkError(Refusal(RefusalCode.TIMEOUT, reason)) from error
    except OSError as error:
        connection.close()
        raise LinkError(network_refusal(error)) from error
    except BaseException:
        connection.close()
        raise
    plain = PlainStream(reader, writer)
    try:
        agreed = await set_up(plain, side, outbound=True, epoch=epoch)
    except BaseException:
        plain.abort()
        raise
    return Dialled(agreed, plain, format_endpoint(host, port))


async def _resolve(target: Target) -> list[tuple[str, int]]:
    """Raises LinkError naming a name that stands for nothing."""
    if target.is_address:
        return [(str(ipaddress.ip_address(target.host)), target.port)]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            target.host, target.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        reason = f"{target.host} cannot be resolved: {words_of(error)}"
        raise LinkError(Refusal(RefusalCode.UNSPECIFIED, reason)) from error
    addresses = list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
    # Spreads the first contacts of many peers over a headless service.
    random.SystemRandom().shuffle(addresses)
    return addresses[:MAX_ADDRESSES]
