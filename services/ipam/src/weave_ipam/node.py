"""One ipam process put together: state, name, allocator, and the tasks that keep it fed.

Nothing is waited for before the socket is served: whoever calls too early is told what is missing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import Mapping

from weave_ipam import identity
from weave_ipam.audit import Finding, Remedy, audit
from weave_ipam.config import Config, GuessedConsensus
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import TOPIC_MESSAGES
from weave_ipam.core.options import Consensus, InitMode, Observer, Options
from weave_ipam.core.records import State
from weave_ipam.core.results import InUse, Status
from weave_ipam.departures import Departures
from weave_ipam.errands import Errands
from weave_ipam.errors import NameChanged, Starting
from weave_ipam.gossip_client import GossipClient, Identity
from weave_ipam.loop import Owner, margin
from weave_ipam.mesh import TOPICS, MeshInputs, seen_documents
from weave_ipam.metrics import Latency
from weave_ipam.records import STATE_FORMAT, for_ranges, state_of
from weave_ipam.router_client import RouterClient
from weave_model.attachment import Workload
from weave_model.errors import DomainError
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import RingView
from weave_runtime import removal
from weave_runtime.client import FIRST_RETRY_S, LONGEST_RETRY_S, connect
from weave_runtime.options import hide_password
from weave_runtime.process import Supervisor
from weave_runtime.store import Store, open_store
from weave_runtime.watch import Table

# Between searches for what is dead: an address leaked for some minutes more harms nobody. The first
# leaves the router time to find its own.
FIRST_AUDIT_S = 60.0
AUDIT_PERIOD_S = 300.0
COORDINATION_PREFIX = "ipam/"

log = logging.getLogger(__name__)


class Node:
    """Everything behind the service. `start` is its first task; `close` comes after all tasks."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self.ring: Table[Family, RingView] = Table()
        self.latency = Latency()
        self.name: PeerName | None = None
        self.store_name = hide_password(config.store_url) or str(config.state_dir)
        self._config = config
        self._supervisor = supervisor
        self._channels = [connect(config.gossip_path), connect(config.router_path)]
        self._gossip = GossipClient(self._channels[0])
        self._router = RouterClient(self._channels[1])
        self._store: Store | None = None
        self._errands: Errands | None = None
        self._owner: Owner | None = None
        self._has_owner = asyncio.Event()
        self._boot = identity.Boot("", 0)
        # Why there is no owner yet, then why the addresses in use are not known yet.
        self._missing = "starting"

    async def start(self) -> None:
        """Returns when the allocator runs. Raises DomainError where it never can."""
        config = self._config
        remembered, entries = None, dict[str, bytes]()
        if config.store_url:
            remembered = identity.remembered_name(config.state_dir)
        else:
            entries = await self._load("")
            remembered = state_of(entries, self.store_name).name
        who = await identity.find_identity(self._gossip, remembered, self._waits)
        name = who.name if who else remembered
        assert name
        if config.store_url:
            identity.remember_name(config.state_dir, name)
            entries = await self._load(f"ipam:{name}")
        await self._run(name, who, entries)

    async def close(self) -> None:
        """Gives up channels and store; no task may run any more."""
        if self._errands:
            await self._errands.close()
        for channel in self._channels:
            await channel.close()
        if self._store:
            await self._store.close()

    async def owner(self, timeout_s: float) -> Owner:
        """The owner of the allocator, as soon as there is one. Raises Starting."""
        if not self._has_owner.is_set():
            try:
                async with asyncio.timeout(timeout_s - margin(timeout_s)):
                    await self._has_owner.wait()
            except TimeoutError:
                raise Starting(self._missing) from None
        assert self._owner
        return self._owner

    def status(self) -> Status | None:
        """None while there is no allocator."""
        return self._owner.status() if self._owner else None

    def reason(self) -> str:
        """Why an Allocate would not succeed; empty when it would, if there is an address left."""
        if self._owner is None:
            return self._missing
        if self._owner.store_failure:
            return self._owner.store_failure
        if self._owner.allocator.needs_adoption:
            return self._missing
        status = self._owner.status()
        return "" if status.ready else status.reason

    async def check(self, *, repair: bool) -> list[tuple[Finding, bool]]:
        """Findings, and whether each was repaired. Raises DomainError."""
        owner = await self.owner(LONGEST_RETRY_S)
        findings = await self._audit(owner)
        return [(finding, repair and await self._repair(owner, finding)) for finding in findings]

    def observe_allocation(self, seconds: float) -> None:
        """Counts an allocation that took this long."""
        self.latency.observe(seconds)

    def _waits(self, why: str) -> None:
        if why != self._missing:
            log.info("not ready", extra={"reason": why})
        self._missing = why

    async def _load(self, owner: str) -> dict[str, bytes]:
        self._store = await open_store(
            self._config.store_url,
            self._config.state_dir,
            owner=owner,
            own_format=STATE_FORMAT,
            is_last_life=lambda: removal.is_marked(self._config.run_dir),
        )
        return await self._store.load()

    async def _run(
        self, name: PeerName, who: Identity | None, entries: Mapping[str, bytes]
    ) -> None:
        assert self._store
        state_of(entries, self.store_name)  # finds damage
        families = self._config.families
        universes = {family.family: family.universe for family in families}
        entries, aside = for_ranges(entries, universes)
        state = state_of(entries, self.store_name)
        options = Options(
            name=name,
            families=families,
            init=await self._init_mode(who, state),
            nickname=who.nickname if who else "",
            quarantine_s=self._config.quarantine.total_seconds(),
        )
        # Not for secrets: it spreads addresses and retries.
        allocator = Allocator(options, state, random.Random(), time.time())
        owner = Owner(allocator, self._store)
        self._boot = identity.boot_of(entries, state.generation, identity.current_boot_id())
        for key, value in (*aside.items(), (identity.BOOT, self._boot.to_entry())):
            owner.remember(key, value)
        inputs = MeshInputs(owner, name, self.ring.complete, self._name_changed)
        inputs.replay(seen_documents(entries))
        if state.documents:
            owner.post(lambda _: self.ring.complete())
        self._errands = Errands(owner, self._gossip, self.ring)
        self._waits("waiting for the router to say which addresses are in use")
        self.name = name
        self._owner = owner
        self._has_owner.set()
        self._supervisor.start("owner", owner.run(self._errands))
        jobs = self._gossip.jobs(inputs, TOPICS, TOPIC_MESSAGES, COORDINATION_PREFIX)
        for job, work in jobs.items():
            self._supervisor.start(job, work)
        self._supervisor.start("router", self._watch_router(owner))
        departures = Departures(owner, lambda: inputs.peers, random.Random())
        self._supervisor.start("departures", departures.run())

    async def _init_mode(self, who: Identity | None, state: State) -> InitMode:
        mode = self._config.ipalloc_init
        if not isinstance(mode, GuessedConsensus):
            return mode
        if all(family.family in state.documents for family in self._config.families):
            return Observer()  # there is a ring, nothing is left to agree on
        while who is None:
            who = await identity.find_identity(self._gossip, None, self._waits)
        peers = who.targets + 1
        log.info("Assuming quorum size of %d", peers // 2 + 1)
        return Consensus(peers)

    def _name_changed(self, why: str) -> None:
        self._supervisor.fail("cannot go on", NameChanged(why))

    async def _watch_router(self, owner: Owner) -> None:
        """Learns what is in use if the state does not know, then looks for what is dead."""
        delay_s = FIRST_RETRY_S
        while owner.allocator.needs_adoption:
            try:
                attachments = await self._router.attachments()
            except DomainError as error:
                self._waits(f"waiting for the router to say which addresses are in use ({error})")
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            else:
                in_use = [InUse(a.key, a.addresses, a.workload) for a in attachments]
                owner.post(functools.partial(owner.allocator.adopt, in_use))
                await owner.until_done()
        await asyncio.sleep(FIRST_AUDIT_S)
        while True:
            try:
                await self._free_the_dead(owner)
            except DomainError as error:
                log.debug("audit failed", extra={"reason": str(error)})
            await asyncio.sleep(AUDIT_PERIOD_S)

    async def _free_the_dead(self, owner: Owner) -> None:
        for finding in await self._audit(owner):
            if finding.remedy is Remedy.RELEASE and await self._repair(owner, finding):
                log.info(
                    "dead allocation released",
                    extra={"attachment": finding.key, "reason": finding.advice},
                )

    async def _audit(self, owner: Owner) -> list[Finding]:
        attachments = await self._router.attachments()
        allocations = await owner.read(owner.allocator.allocations)
        conflicts = [c for family in owner.status().families for c in family.conflicting]
        return audit(
            allocations,
            attachments,
            conflicts,
            booted_at=self._boot.generation,
            now=time.time(),
        )

    async def _repair(self, owner: Owner, finding: Finding) -> bool:
        core = owner.allocator
        match finding.remedy:
            case Remedy.RELEASE:
                await owner.call(
                    lambda id_, now: core.release(id_, finding.key, finding.generation, now),
                    timeout_s=LONGEST_RETRY_S,
                    key=finding.key,
                )
            case Remedy.CLAIM:
                await owner.call(
                    lambda id_, now: core.claim(
                        id_, finding.key, finding.workload or Workload(), finding.addresses, now
                    ),
                    timeout_s=LONGEST_RETRY_S,
                    key=finding.key,
                )
            case Remedy.NONE:
                return False
        return True
