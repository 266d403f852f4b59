"""Anti-entropy: neighbours compare digests and find what broadcast lost.

Pings carry the digest of everything held. Where a pong shows another one, the pinger starts a
comparison, unless the difference may be a document on its way: digests of buckets, then the
versions in the buckets that differ, then each asks for what it lacks. One comparison runs at a
time, as the first usually brings what all others would.
"""

from __future__ import annotations

from collections.abc import Callable

from weave_gossip.core.documents import MAX_BUCKETS, DocumentId, DocumentVersion
from weave_gossip.core.effects import LinkId
from weave_gossip.core.errors import InvalidMessage
from weave_gossip.core.fetching import Fetching
from weave_gossip.core.links import LinkState
from weave_gossip.core.messages import Digest, Message
from weave_gossip.core.replica import Replica
from weave_gossip.core.sizes import MAX_BATCH_BYTES, batches, id_bytes
from weave_gossip.core.spreading import Spreading

# A difference counts when nothing has changed here for this long: broadcasts are through by then.
QUIET_S = 1.0
# In a mesh that is never quiet a difference that lasts counts all the same.
LASTING_S = 10.0
# When a comparison without an answer makes room for the next.
COMPARISON_S = 2.0


class Repair:
    """Finds and asks for what neighbours hold and we do not, and tells them what we hold and they
    do not.
    """

    def __init__(
        self,
        replica: Replica,
        fetching: Fetching,
        spreading: Spreading,
        send: Callable[[LinkState, Message], None],
    ) -> None:
        self._replica = replica
        self._fetching = fetching
        self._spreading = spreading
        self._send = send
        self._last_change = float("-inf")
        self._running: LinkId | None = None
        self._running_until = float("-inf")

    def changed(self, now: float) -> None:
        """A document changed here."""
        self._last_change = now

    def compare(self, link: LinkState, state_digest: int, now: float) -> None:
        """Takes the digest of a pong."""
        if state_digest == self._replica.state_digest:
            link.has_agreed = True
            link.differs_since = None
            return
        if link.differs_since is None:
            link.differs_since = now
        is_settled = now - self._last_change >= QUIET_S or now - link.differs_since >= LASTING_S
        if (not link.has_agreed or is_settled) and now >= self._running_until:
            self._running = link.id
            self._running_until = now + COMPARISON_S
            buckets = self._replica.preferred_buckets()
            digests = self._replica.bucket_digests(buckets)
            self._send(link, Digest(buckets, bucket_digests=digests, reply_wanted=True))

    def receive(self, link: LinkState, digest: Digest, now: float) -> None:
        """Takes either step of the other side. Raises InvalidMessage."""
        _check(digest)
        if digest.bucket_digests:
            self._answer(link, digest)
        else:
            self._take_versions(link, digest, now)

    # Inside

    def _answer(self, link: LinkState, theirs: Digest) -> None:
        """Names what we hold where the digests differ, in parts that keep buckets whole."""
        ours = self._replica.bucket_digests(theirs.buckets)
        numbers: list[int] = []
        versions: list[DocumentVersion] = []
        part_bytes = 0
        for number, (mine, other) in enumerate(zip(ours, theirs.bucket_digests, strict=True)):
            if mine == other:
                continue
            held = [each.stamp for each in self._replica.bucket_documents(theirs.buckets, number)]
            bucket_bytes = sum(id_bytes(version.id) for version in held)
            if numbers and part_bytes + bucket_bytes > MAX_BATCH_BYTES:
                self._send_versions(link, theirs.buckets, numbers, versions)
                numbers, versions, part_bytes = [], [], 0
            if bucket_bytes > MAX_BATCH_BYTES:
                # Who compares so coarsely gets a bucket in pieces, and its number with the last.
                *pieces, last = batches(held, lambda version: id_bytes(version.id))
                for piece in pieces:
                    self._send_versions(link, theirs.buckets, [], list(piece))
                held = list(last)
            numbers.append(number)
            versions += held
            part_bytes += bucket_bytes
        if numbers:
            self._send_versions(link, theirs.buckets, numbers, versions)

    def _send_versions(
        self, link: LinkState, buckets: int, numbers: list[int], versions: list[DocumentVersion]
    ) -> None:
        self._send(
            link,
            Digest(
                buckets,
                bucket_numbers=tuple(numbers),
                versions=tuple(versions),
                reply_wanted=True,
            ),
        )

    def _take_versions(self, link: LinkState, theirs: Digest, now: float) -> None:
        if self._running == link.id:
            self._running_until = now
        newer = [version for version in theirs.versions if self._replica.is_newer(version)]
        self._fetching.learn(link, newer, at_once=True, now=now)
        if not theirs.reply_wanted:
            return
        known = {version.id: version for version in theirs.versions}
        lacking: list[DocumentId] = []
        for number in theirs.bucket_numbers:
            for document in self._replica.bucket_documents(theirs.buckets, number):
                version = known.get(document.id)
                if version is None or version < document.stamp:
                    lacking.append(document.id)
        self._spreading.announce(link, lacking, now)


def _check(digest: Digest) -> None:
    buckets = digest.buckets
    if not 1 <= buckets <= MAX_BUCKETS or buckets & (buckets - 1):
        raise InvalidMessage(f"{buckets} buckets: not a power of two up to {MAX_BUCKETS}")
    if digest.bucket_digests and len(digest.bucket_digests) != buckets:
        raise InvalidMessage(f"{len(digest.bucket_digests)} digests for {buckets} buckets")
    if any(number >= buckets or number < 0 for number in digest.bucket_numbers):
        raise InvalidMessage(f"a bucket number over {buckets - 1}")
