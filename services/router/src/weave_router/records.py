"""What the router keeps in its store: attachments and facts of the node.

Written behind the answer, since the kernel holds the same and is read at every start; but for an
open port: a router that takes it for closed would close it, and no call would ever open it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from weave.router.v1 import state_pb2
from weave_model.attachment import AttachmentKey
from weave_model.errors import Invalid
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_router import codec
from weave_router.core.attachments import Record
from weave_runtime.store import Store, StoreError

_ATTACHMENT = "attachment/"
_NODE = "node"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What of the node is worth remembering: with it the data plane stands while others are
    away."""

    name: PeerName | None = None
    underlay: tuple[Prefix, ...] = ()
    overlay: tuple[Prefix, ...] = ()
    hidden: bool = False


class Records:
    """Reads the store at the start and writes it behind. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[str, bytes | None] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def load(self) -> tuple[list[Record], NodeFacts]:
        """All records; an unreadable one is passed over, since the kernel knows it too."""
        entries = await self._store.load()
        records = []
        for key, value in entries.items():
            if key.startswith(_ATTACHMENT):
                try:
                    message = state_pb2.AttachmentRecord.FromString(value)
                    records.append(codec.read_record(message))
                except (DecodeError, Invalid) as error:
                    log.warning("record left out", extra={"key": key, "reason": str(error)})
        return records, _read_facts(entries.get(_NODE, b""))

    def put(self, record: Record) -> None:
        """Keeps an attachment as it is now."""
        self._write(_key(record.key), codec.write_record(record).SerializeToString())

    async def keep(self, record: Record) -> None:
        """Keeps an attachment and returns when the store has taken it, or cannot: the kernel holds
        it, too."""
        done = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        self.put(record)
        await done

    def drop(self, key: AttachmentKey) -> None:
        """Forgets an attachment."""
        self._write(_key(key), None)

    def drop_all(self, keys: Iterable[AttachmentKey]) -> None:
        """Forgets attachments."""
        for key in keys:
            self.drop(key)

    def put_facts(self, facts: NodeFacts) -> None:
        """Keeps what is known of the node."""
        message = state_pb2.NodeRecord(
            name=facts.name or b"",
            underlay_addresses=[address.to_bytes() for address in facts.underlay],
            overlay_addresses=codec.write_prefixes(facts.overlay),
            hidden=facts.hidden,
        )
        self._write(_NODE, message.SerializeToString())

    async def run(self) -> None:
        """Writes what is to be written, for ever; one transaction takes all that has gathered."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, {}
            waiters, self._waiters = self._waiters, []
            try:
                await self._store.commit(batch)
            except StoreError as error:
                log.error("cannot keep state", extra={"reason": str(error)})  # noqa: TRY400
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            if not self._pending:
                self._idle.set()

    async def written(self) -> None:
        """Returns when all is written."""
        await self._idle.wait()

    def _write(self, key: str, value: bytes | None) -> None:
        self._pending[key] = value
        self._idle.clear()
        self._wake.set()


def _key(key: AttachmentKey) -> str:
    return f"{_ATTACHMENT}{key}"


def _read_facts(value: bytes) -> NodeFacts:
    try:
        message = state_pb2.NodeRecord.FromString(value)
        return NodeFacts(
            name=PeerName(message.name) if message.name else None,
            underlay=tuple(codec.read_host(raw) for raw in message.underlay_addresses),
            overlay=tuple(map(codec.read_host_prefix, message.overlay_addresses)),
            hidden=message.hidden,
        )
    except (DecodeError, Invalid, ValueError) as error:
        log.warning("record left out", extra={"key": _NODE, "reason": str(error)})
        return NodeFacts()
