"""Protobuf <-> model for what peers say through gossip. Records of the store: `records.py`.

A decoder raises ValueError for bytes that are no such message or that no value of the model can
hold; what a well-formed document claims is for the core to judge.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from weave.ipam.v1 import ring_pb2
from weave_ipam.codec import prefix_from_proto, prefix_to_proto
from weave_ipam.core import documents
from weave_ipam.core.advice import MAX_ADVICE
from weave_ipam.core.documents import (
    AcceptorState,
    Ballot,
    DocumentValue,
    Message,
    PublishedValue,
    SpaceAdvice,
    SpaceDenied,
    SpaceRequest,
    Unreadable,
)
from weave_ipam.core.fences import Fence, Former
from weave_model.peer import PeerName
from weave_model.ring import Block, Genesis, Grant, Receipt, RingDocument

# A reason is one sentence for a log line, whoever sent it.
MAX_REASON = 500


def encode_ring(document: RingDocument) -> bytes:
    """The payload of topic `ring`. Equal documents give equal bytes."""
    message = ring_pb2.RingDocument(
        universe=prefix_to_proto(document.universe),
        blocks=[
            ring_pb2.Block(prefix=prefix_to_proto(block.prefix), generation=block.generation)
            for block in document.blocks
        ],
        grants=[
            ring_pb2.Grant(
                prefix=prefix_to_proto(grant.prefix),
                generation=grant.generation,
                to=grant.to,
                obeyed=grant.obeyed,
            )
            for grant in document.grants
        ],
        genesis=ring_pb2.Genesis(seeds=document.genesis.seeds),
        receipts=[
            ring_pb2.Receipt(
                donor=receipt.donor,
                prefix=prefix_to_proto(receipt.prefix),
                generation=receipt.generation,
            )
            for receipt in document.receipts
        ],
        obeyed=document.obeyed,
        owed=[prefix_to_proto(prefix) for prefix in document.owed],
        owed_to=document.owed_to or b"",
        owed_life=document.owed_life,
    )
    return message.SerializeToString(deterministic=True)


def decode_ring(payload: bytes) -> RingDocument:
    """Raises ValueError."""
    message = ring_pb2.RingDocument()
    parse(message, payload)
    return RingDocument(
        universe=prefix_from_proto(message.universe),
        genesis=_genesis_from(message.genesis),
        blocks=tuple(
            Block(prefix_from_proto(block.prefix), block.generation) for block in message.blocks
        ),
        grants=tuple(
            Grant(
                prefix_from_proto(grant.prefix), grant.generation, PeerName(grant.to), grant.obeyed
            )
            for grant in message.grants
        ),
        receipts=tuple(
            Receipt(PeerName(receipt.donor), prefix_from_proto(receipt.prefix), receipt.generation)
            for receipt in message.receipts
        ),
        obeyed=message.obeyed,
        owed=tuple(prefix_from_proto(prefix) for prefix in message.owed),
        owed_to=PeerName(message.owed_to) if message.owed_to else None,
        owed_life=message.owed_life,
    )


def encode_genesis(genesis: Genesis) -> bytes:
    """The value of the Coordination keys `ipam/genesis/4` and `/6`."""
    return ring_pb2.Genesis(seeds=genesis.seeds).SerializeToString(deterministic=True)


def decode_genesis(payload: bytes) -> Genesis:
    """Raises ValueError."""
    message = ring_pb2.Genesis()
    parse(message, payload)
    return _genesis_from(message)


def parse(message: ProtoMessage, payload: bytes) -> None:
    """Fills `message`. Raises ValueError where protobuf raises an error of its own."""
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise ValueError(
            f"{len(payload)} bytes that are no {message.DESCRIPTOR.name}: {error}"
        ) from error


def _genesis_from(message: ring_pb2.Genesis) -> Genesis:
    return Genesis(tuple(PeerName(seed) for seed in message.seeds))


def encode_acceptor(state: AcceptorState) -> bytes:
    """The payload of topic `ipam-paxos`. Equal states give equal bytes."""
    message = ring_pb2.PaxosState()
    if state.promised:
        message.promised.CopyFrom(_ballot_to(state.promised))
    if state.accepted and state.accepted_value:
        message.accepted.CopyFrom(_ballot_to(state.accepted))
        message.accepted_value.seeds.extend(state.accepted_value.seeds)
    if state.universe:
        message.universe.CopyFrom(prefix_to_proto(state.universe))
    return message.SerializeToString(deterministic=True)


def decode_acceptor(payload: bytes) -> AcceptorState:
    """Raises ValueError."""
    message = ring_pb2.PaxosState()
    parse(message, payload)
    if message.HasField("accepted") != message.HasField("accepted_value"):
        raise ValueError("an accepted ballot and its value come together or not at all")
    return AcceptorState(
        promised=_ballot_from(message.promised) if message.HasField("promised") else None,
        accepted=_ballot_from(message.accepted) if message.HasField("accepted") else None,
        accepted_value=(
            _genesis_from(message.accepted_value) if message.HasField("accepted_value") else None
        ),
        universe=prefix_from_proto(message.universe) if message.HasField("universe") else None,
    )


def encode_document(value: PublishedValue) -> bytes:
    """The payload of any document that ipam publishes."""
    match value:
        case RingDocument():
            return encode_ring(value)
        case SpaceAdvice(free, leaving):
            message = ring_pb2.SpaceAdvice(free=min(free, MAX_ADVICE), leaving=leaving)
            return message.SerializeToString()
        case AcceptorState():
            return encode_acceptor(value)


def decode_document(topic: str, payload: bytes) -> DocumentValue:
    """What a payload says; `Unreadable`, with the reason, where it says nothing."""
    try:
        match topic:
            case documents.TOPIC_RING:
                return decode_ring(payload)
            case documents.TOPIC_PAXOS:
                return decode_acceptor(payload)
            case documents.TOPIC_SPACE:
                message = ring_pb2.SpaceAdvice()
                parse(message, payload)
                return SpaceAdvice(message.free, message.leaving)
            case _:
                return Unreadable(f"topic {topic!r} is not known")
    except ValueError as error:
        return Unreadable(str(error))


def encode_message(message: Message) -> bytes:
    """A message to one peer, topic `ipam`."""
    within = prefix_to_proto(message.within)
    family = int(message.within.family)
    match message:
        case SpaceRequest():
            request = ring_pb2.SpaceRequest(family=family, within=within, obeyed=message.obeyed)
            return ring_pb2.SpaceMessage(request=request).SerializeToString()
        case SpaceDenied():
            reason = message.reason[:MAX_REASON]
            denied = ring_pb2.SpaceDenied(family=family, within=within, reason=reason)
            return ring_pb2.SpaceMessage(denied=denied).SerializeToString()


def decode_message(payload: bytes) -> Message | None:
    """None for a kind of message that a newer peer sends. Raises ValueError."""
    message = ring_pb2.SpaceMessage()
    parse(message, payload)
    match message.WhichOneof("body"):
        case "request":
            request = message.request
            return SpaceRequest(prefix_from_proto(request.within), request.obeyed)
        case "denied":
            denied = message.denied
            return SpaceDenied(prefix_from_proto(denied.within), denied.reason[:MAX_REASON])
        case _:
            return None


def fence_to_proto(fence: Fence) -> ring_pb2.ReclaimFence:
    """One fence of those that share a key of Coordination."""
    return ring_pb2.ReclaimFence(
        victim=fence.victim,
        victim_incarnation=fence.victim_incarnation,
        victim_node_uid=fence.victim_node_uid,
        heir=fence.heir,
        heir_revision=fence.heir_revision,
        token=fence.token,
        former=[
            ring_pb2.ReclaimFence.Former(revision=former.revision, heir=former.heir)
            for former in fence.former
        ],
    )


def fence_from_proto(message: ring_pb2.ReclaimFence) -> Fence:
    """Raises ValueError."""
    return Fence(
        PeerName(message.victim),
        message.victim_incarnation,
        message.victim_node_uid,
        PeerName(message.heir),
        message.heir_revision,
        message.token,
        tuple(Former(former.revision, PeerName(former.heir)) for former in message.former),
    )


def _ballot_to(ballot: Ballot) -> ring_pb2.Ballot:
    return ring_pb2.Ballot(round=ballot.round, proposer=ballot.proposer)


def _ballot_from(message: ring_pb2.Ballot) -> Ballot:
    return Ballot(message.round, PeerName(message.proposer))
