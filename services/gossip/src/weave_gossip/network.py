"""The links of this peer: what connects the driver to TCP."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping

from weave_gossip.core.directory import addresses_of
from weave_gossip.core.effects import LinkId
from weave_gossip.core.messages import Hello, Message, Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.failures import Failures
from weave_gossip.link.dialler import dial
from weave_gossip.link.framing import PlainStream
from weave_gossip.link.greeting import Greeting
from weave_gossip.link.handshake import Agreed, set_up
from weave_gossip.link.link import EstablishedLink
from weave_gossip.link.tls import TlsContexts
from weave_gossip.loop import Driver
from weave_gossip.target import parse_target
from weave_model.peer import PeerName
from weave_runtime.logs import once_per

log = logging.getLogger(__name__)
log.addFilter(once_per(60))


class TcpNetwork:
    """Implements Network for the driver and Side for handshakes."""

    def __init__(
        self,
        driver: Driver,
        greeting: Greeting,
        contexts: Mapping[bytes, TlsContexts],
        default_port: int,
    ) -> None:
        self._driver = driver
        self.greeting = greeting
        self.contexts = contexts
        self._default_port = default_port
        self._links: dict[LinkId, EstablishedLink] = {}
        self._ids = itertools.count(1)
        self._dials: set[asyncio.Task[None]] = set()
        self._peers: dict[LinkId, PeerName] = {}
        self.failures = Failures(driver.now)
        self.first_link = asyncio.Event()

    # Side

    def own_hello(self, epoch: int) -> Hello:
        """See Side."""
        return self._driver.own_hello(epoch)

    def judge_hello(self, hello: Hello, *, outbound: bool, epoch: int) -> Refusal | None:
        """See Side."""
        return self._driver.judge_hello(hello, outbound=outbound, epoch=epoch)

    # Network

    def send(self, link: LinkId, message: Message) -> bool:
        """See Network."""
        established = self._links.get(link)
        try:
            return established is None or established.send(message)
        except ValueError:
            # The core splits what is too large, so this is a mistake; it may not stop the others.
            log.exception("a frame could not be sent")
            return True

    def close(self, link: LinkId, refusal: Refusal | None) -> None:
        """See Network."""
        established = self._links.pop(link, None)
        if established is not None:
            established.close(refusal)
            self._forget(link, refusal)

    def dial(self, address: str, epoch: int) -> None:
        """See Network."""
        task = asyncio.get_running_loop().create_task(
            self._dial(address, epoch), name=f"dial {address}"
        )
        self._dials.add(task)
        task.add_done_callback(self._dial_done)

    # Inbound

    async def serve(self, plain: PlainStream, address: str) -> None:
        """Goes through the handshake of an accepted connection and hands the link over."""
        log.debug("->[%s] connection accepted", address)
        try:
            agreed = await set_up(plain, self, outbound=False)
        except LinkError as error:
            plain.abort()
            self._note_refused(address, error)
            return
        except BaseException:
            plain.abort()
            raise
        self._add(agreed, outbound=False, address=address)

    async def shut_down(self) -> None:
        """Tells all peers that we stop, and drops what is under way."""
        for task in self._dials:
            task.cancel()
        links, self._links = list(self._links.values()), {}
        for link in links:
            link.close(Refusal(RefusalCode.SHUTDOWN, "shutting down"))
        await asyncio.gather(*(link.closed() for link in links), return_exceptions=True)

    # LinkEvents

    def link_received(self, link: LinkId, message: Message) -> None:
        """See LinkEvents."""
        if isinstance(message, Refusal):
            # The other side's last words; the core closes the link without any.
            self._forget(link, message)
        self._driver.link_received(link, message)

    def link_drained(self, link: LinkId) -> None:
        """See LinkEvents."""
        self._driver.link_drained(link)

    def link_ended(self, link: LinkId, refusal: Refusal) -> None:
        """See LinkEvents."""
        self._links.pop(link, None)
        self._forget(link, refusal)
        self._driver.link_ended(link, refusal)

    async def _dial(self, address: str, epoch: int) -> None:
        try:
            dialled = await dial(parse_target(address, self._default_port), self, epoch)
        except LinkError as error:
            refusal = error.refusal
            self._driver.call(lambda mesh, now: mesh.dial_failed(address, refusal, now))
            return
        self._add(dialled.agreed, outbound=True, address=address)

    def _dial_done(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed unexpectedly", task.get_name(), exc_info=error)

    def _add(self, agreed: Agreed, *, outbound: bool, address: str) -> None:
        link = LinkId(next(self._ids))
        hello = agreed.hello
        log.info(
            "->[%s|%s(%s)]: connection ready; using protocol version %d",
            address,
            hello.name,
            hello.nickname,
            agreed.protocol,
        )
        self._links[link] = EstablishedLink(link, agreed.stream, self)
        self._peers[link] = hello.name
        self.failures.accepted([_host(address), *map(_host, addresses_of(hello))])
        self.first_link.set()
        self._driver.call(
            lambda mesh, now: mesh.link_established(
                link, hello, outbound=outbound, address=address, epoch=agreed.epoch, now=now
            )
        )

    def _forget(self, link: LinkId, refusal: Refusal | None) -> None:
        peer = self._peers.pop(link, None)
        if peer is not None and refusal is not None:
            self.failures.lost(peer, refusal)

    def _note_refused(self, address: str, error: LinkError) -> None:
        # The source port of each try is another: without it a storm is one line a minute.
        host = _host(address)
        is_remarkable = self.failures.refused(host, address, error.refusal, str(error))
        log.log(
            logging.INFO if is_remarkable else logging.DEBUG,
            "<-[%s] connection shutting down due to error: %s",
            host,
            error,
        )


def _host(endpoint: str) -> str:
    """ "10.0.0.2" of "10.0.0.2:6783"; an IPv6 address keeps its brackets."""
    return endpoint.rpartition(":")[0]
