"""What is written to the store is what is read back; damage is told and nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ipam.tests import strategies as own
from weave_ipam.core import records
from weave_ipam.core.documents import AcceptorState
from weave_ipam.core.records import Allocation, Record, State
from weave_ipam.errors import StateDamaged
from weave_ipam.records import entries_of, for_ranges, state_of
from weave_ipam.testing.cluster import pod_key
from weave_model.attachment import Workload
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis, RingDocument

RECORDS = st.one_of(
    st.builds(records.NameRecord, own.peer_names),
    st.builds(records.DocumentRecord, own.ring_documents),
    st.builds(records.DocumentGone, own.families),
    st.builds(records.DepartedRecord, own.peer_names, own.ring_documents),
    st.builds(records.DepartedGone, own.peer_names, own.families),
    st.builds(records.AllocationRecord, own.allocations),
    st.builds(records.AllocationGone, own.attachment_keys),
    st.builds(records.QuarantineRecord, own.hosts, st.floats(0, 1e12)),
    st.builds(records.QuarantineGone, own.hosts),
    st.builds(records.AcceptorRecord, own.families, own.acceptor_states),
    st.builds(records.CounterRecord, own.UINT64),
    st.builds(records.FenceRecord, own.UINT64),
    st.builds(
        records.OwedRecord,
        st.none() | st.builds(records.Owed, own.peer_names, st.frozensets(own.hosts)),
    ),
)


def read_back(entries: dict[str, bytes | None]) -> State:
    return state_of({key: value for key, value in entries.items() if value is not None}, "db")


@given(st.lists(RECORDS))
def test_the_store_reads_back_what_the_core_means(batch: list[Record]) -> None:
    assert read_back(entries_of(batch)) == State().with_records(tuple(batch))


@given(own.allocations, own.allocations)
def test_two_allocations_have_two_keys(one: Allocation, other: Allocation) -> None:
    both: list[Record] = [records.AllocationRecord(one), records.AllocationRecord(other)]
    entries = entries_of(both)

    assert len(entries) == len({one.key, other.key})


def test_an_empty_store_is_an_empty_state() -> None:
    assert read_back({}) == State()


def test_an_entry_of_another_version_is_left_alone() -> None:
    assert read_back({"something/new": b"\xff"}) == State()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", b"short"),
        ("generation", b"many"),
        ("ring/5", b""),
        ("ring/4", b"\xff\xff"),
        ("paxos/x", b""),
        ("allocation/weave/c1/eth0", b"\xff\xff"),
        ("allocation/weave/c1/eth0", b""),
        ("quarantine/0a200001", b""),
    ],
)
def test_a_damaged_entry_is_named(key: str, value: bytes) -> None:
    with pytest.raises(StateDamaged) as caught:
        read_back({key: value})

    assert key in str(caught.value)
    assert "db" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_allocation_under_another_key_is_damage() -> None:
    entries = entries_of(
        [records.AllocationRecord(Allocation(pod_key("a"), (), Workload(), 1, 0.0))]
    )

    with pytest.raises(StateDamaged):
        read_back({"allocation/weave/b/eth0": next(iter(entries.values()))})


def test_gone_records_remove_entries() -> None:
    gone: list[Record] = [
        records.AllocationGone(pod_key("a")),
        records.QuarantineGone(Prefix.parse("10.0.0.1")),
        records.DocumentGone(Family.IPV4),
    ]

    assert list(entries_of(gone).values()) == [None, None, None]


def test_the_newest_record_of_a_batch_wins() -> None:
    name = PeerName(b"\x02" * 6)
    batch: list[Record] = [
        records.NameRecord(PeerName(b"\x01" * 6)),
        records.NameRecord(name),
        records.AcceptorRecord(Family.IPV6, AcceptorState()),
    ]

    assert read_back(entries_of(batch)).name == name


def entries_for(universe: Prefix) -> dict[str, bytes]:
    genesis = Genesis((PeerName(b"\x02" * 6),))
    batch: list[Record] = [records.DocumentRecord(RingDocument(universe, genesis))]
    return {key: value for key, value in entries_of(batch).items() if value is not None}


RIGHT, WRONG = Prefix.parse("10.32.0.0/12"), Prefix.parse("10.48.0.0/12")


def test_the_document_of_the_range_in_use_stays_where_it_is() -> None:
    entries = entries_for(RIGHT)

    assert for_ranges(entries, {Family.IPV4: RIGHT}) == (entries, {})


def test_the_document_of_another_range_is_kept_and_comes_back() -> None:
    entries = entries_for(RIGHT)

    _, aside = for_ranges(entries, {Family.IPV4: WRONG})
    later = entries_for(WRONG) | aside
    chosen, aside_again = for_ranges(later, {Family.IPV4: RIGHT})

    assert state_of(chosen, "db").documents[Family.IPV4].universe == RIGHT
    assert list(aside_again.values()) == list(entries_for(WRONG).values())


def test_the_document_of_a_family_no_longer_wanted_is_kept() -> None:
    _, aside = for_ranges(entries_for(RIGHT), {Family.IPV6: Prefix.parse("fd00::/64")})

    assert list(aside.values()) == list(entries_for(RIGHT).values())
