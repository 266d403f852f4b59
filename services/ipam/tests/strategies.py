"""What property tests of the codecs draw from."""

from hypothesis import strategies as st

from weave_ipam.core.documents import AcceptorState, Ballot, SpaceDenied, SpaceRequest
from weave_ipam.core.fences import Fence, Former
from weave_ipam.core.records import Allocation
from weave_model.attachment import AttachmentKey, ContainerId, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Block, Genesis, Grant, Receipt, RingDocument

UINT64 = st.integers(0, 2**64 - 1)
NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,20}", fullmatch=True)

families = st.sampled_from(Family)
peer_names = st.binary(min_size=6, max_size=6).filter(any).map(PeerName)


@st.composite
def prefixes(draw: st.DrawFn, *, hosts: bool = False) -> Prefix:
    family = draw(families)
    length = family.bits if hosts else draw(st.integers(0, family.bits))
    address = draw(st.integers(0, (1 << length) - 1)) << (family.bits - length)
    return Prefix(family, address, length)


hosts = prefixes(hosts=True)
geneses = st.lists(peer_names, min_size=1, unique=True).map(lambda n: Genesis(tuple(sorted(n))))
blocks = st.builds(Block, prefixes(), UINT64)
grants = st.builds(Grant, prefixes(), UINT64, peer_names, UINT64)
receipts = st.builds(Receipt, peer_names, prefixes(), UINT64)
ring_documents = st.builds(
    RingDocument,
    universe=prefixes(),
    genesis=geneses,
    blocks=st.lists(blocks).map(tuple),
    grants=st.lists(grants).map(tuple),
    receipts=st.lists(receipts).map(tuple),
    obeyed=UINT64,
    owed=st.lists(hosts).map(tuple),
    owed_to=st.none() | peer_names,
    owed_life=UINT64,
)
ballots = st.builds(Ballot, UINT64, peer_names)
acceptor_states = st.one_of(
    st.builds(AcceptorState, st.none() | ballots),
    st.builds(AcceptorState, st.none() | ballots, ballots, geneses),
)
messages = st.one_of(
    st.builds(SpaceRequest, prefixes(), UINT64),
    st.builds(SpaceDenied, prefixes(), st.text(max_size=100)),
)
fences = st.builds(
    Fence,
    victim=peer_names,
    victim_incarnation=UINT64,
    victim_node_uid=st.text(),
    heir=peer_names,
    heir_revision=UINT64,
    token=UINT64,
    former=st.lists(st.builds(Former, UINT64, peer_names)).map(tuple),
)
attachment_keys = st.builds(
    AttachmentKey, NAMES, NAMES.map(ContainerId), st.just("eth0") | st.just("net1")
)
workloads = st.builds(Workload, NAMES, NAMES, NAMES)
allocations = st.builds(
    Allocation,
    key=attachment_keys,
    addresses=st.lists(hosts, max_size=3).map(tuple),
    workload=workloads,
    generation=UINT64,
    since=st.floats(0, 1e12),
    adopted=st.booleans(),
)
