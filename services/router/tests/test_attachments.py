"""The two-phase attach as a state machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_model.attachment import AttachmentKey, ContainerId, Route
from weave_model.errors import Aborted, Absent, Conflict, Invalid
from weave_model.prefix import Family, Prefix
from weave_router.core import naming
from weave_router.core.attachments import Attachment, Attachments, Phase, Record, check_addresses

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
WANTED = Attachment(KEY, (Prefix.parse("10.32.0.2"),), generation=7, netns_path="/run/netns/a")
OTHER = replace(WANTED, key=AttachmentKey("weave", ContainerId("c2"), "eth0"))


def prepared(wanted: Attachment = WANTED) -> Attachments:
    attachments = Attachments()
    attachments.begin_prepare(wanted, "vethwepl1", 1450)
    attachments.prepared(wanted.key, ())
    return attachments


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addresses": ()}, "no address"),
        ({"addresses": (Prefix.parse("10.32.0.0/24"),)}, "no single address"),
        ({"addresses": (Prefix.parse("10.32.0.2"), Prefix.parse("10.32.0.3"))}, "two addresses"),
        ({"mac": b"\x01\0\0\0\0\1"}, "no unicast hardware address"),
        ({"mac": b"\0\0\0\0\0\0"}, "no unicast hardware address"),
        ({"mac": b"\2"}, "no unicast hardware address"),
        ({"key": AttachmentKey("n" * 250, ContainerId("c"), "eth0")}, "keeps 255"),
    ],
)
def test_impossible_attachments_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(WANTED, **changes)  # type: ignore[arg-type]


def test_the_hardware_address_follows_from_the_first_address() -> None:
    assert WANTED.hardware_address == bytes.fromhex("0a200a200002")
    assert replace(WANTED, mac=b"\2\0\0\0\0\1").hardware_address == b"\2\0\0\0\0\1"


def test_activate_needs_a_prepared_attachment() -> None:
    attachments = Attachments()
    attachments.begin_prepare(WANTED, "vethwepl1", 1450)

    with pytest.raises(Absent, match="weave/c1/eth0 is not prepared"):
        attachments.to_activate(KEY, 7)
    with pytest.raises(Absent):
        attachments.to_activate(OTHER.key, 7)


@pytest.mark.parametrize("generation", [6, 8])
def test_activate_names_the_prepared_generation(generation: int) -> None:
    with pytest.raises(Aborted, match=f"with generation 7, not {generation}"):
        prepared().to_activate(KEY, generation)


def test_an_adopted_attachment_is_activated_by_any_generation() -> None:
    attachments = prepared(replace(WANTED, generation=0))

    record = attachments.activated(attachments.to_activate(KEY, 9))

    assert record.phase is Phase.ACTIVE
    assert attachments.get(KEY) == record


def test_an_equal_request_finds_the_record() -> None:
    attachments = prepared()

    assert attachments.existing(OTHER) is None
    assert attachments.existing(replace(WANTED, generation=8)) == attachments.get(KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": (Prefix.parse("10.32.0.9"),)},
        {"mac": b"\2\0\0\0\0\1"},
        {"mtu": 1300},
        {"routes": (Route(Prefix.parse("10.32.0.0/12")),)},
    ],
)
def test_an_unequal_request_is_a_conflict(changes: dict[str, object]) -> None:
    with pytest.raises(Conflict, match="detach it first"):
        prepared().existing(replace(WANTED, **changes))  # type: ignore[arg-type]


def test_a_request_older_than_the_record_is_aborted() -> None:
    with pytest.raises(Aborted, match="generation 7, newer than 6"):
        prepared().existing(replace(WANTED, generation=6))


def test_an_address_has_one_holder() -> None:
    attachments = prepared()

    with pytest.raises(Conflict, match=r"10\.32\.0\.2/32 is attached to weave/c1/eth0"):
        attachments.begin_prepare(OTHER, "vethwepl2", 1450)


def test_a_taken_name_is_passed_over() -> None:
    attachments = Attachments([Record(OTHER, naming.pod_link(KEY), Phase.ACTIVE, 1450)])

    assert attachments.free_link_name(KEY) == naming.pod_link(KEY, 1)


def test_a_renewed_record_keeps_its_phase() -> None:
    attachments = prepared()
    record = attachments.existing(replace(WANTED, generation=8))
    assert record is not None

    renewed = attachments.renew(record, replace(WANTED, generation=8))

    assert (renewed.phase, renewed.attachment.generation) == (Phase.PREPARED, 8)


NUMBERS = st.integers(0, 3)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.booleans()), max_size=30))
def test_what_is_looked_up_is_what_looking_at_all_would_find(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    """Also in disorder, when a store or the kernel gives two records one address or one link."""
    attachments = Attachments()
    for container, address, link, is_kept in steps:
        key = AttachmentKey("weave", ContainerId(f"c{container}"), f"eth{link % 2}")
        wanted = replace(WANTED, key=key, addresses=(Prefix.parse(f"10.32.0.{address}"),))
        if is_kept:
            attachments.adopt(Record(wanted, f"vethwepl{link}", Phase.ACTIVE, 1450))
        else:
            attachments.forget(key)

    records = list(attachments)
    for record in records:
        others = [each for each in records if each.key != record.key]
        held = record.attachment.addresses[0]
        assert (attachments.holder_of(held, record.key) is None) == all(
            each.attachment.addresses[0] != held for each in others
        )
        assert attachments.has_sibling(record.key) == any(
            each.key.container_id == record.key.container_id for each in others
        )
    for link in range(4):
        found = attachments.of_link(f"vethwepl{link}")
        assert (found is not None) == any(each.link == f"vethwepl{link}" for each in records)
        assert found is None or found.link == f"vethwepl{link}"


def test_forgetting_twice_is_no_harm() -> None:
    attachments = prepared()

    assert attachments.forget(KEY) is not None
    assert attachments.forget(KEY) is None
    assert len(attachments) == 0
    assert list(attachments) == []


def test_adopted_records_are_found() -> None:
    record = Record(WANTED, "vethwepl1", Phase.ACTIVE, 1450)
    attachments = Attachments()
    attachments.adopt(record)

    assert list(attachments) == [record]
    assert record.attachment.has_family(Family.IPV4)
    assert not record.attachment.has_family(Family.IPV6)


def test_addresses_outside_the_universe_are_invalid() -> None:
    check_addresses(WANTED, [Prefix.parse("10.32.0.0/12")])
    with pytest.raises(Invalid, match=r"10\.32\.0\.2/32 .* outside 10\.48\.0\.0/12"):
        check_addresses(WANTED, [Prefix.parse("10.48.0.0/12")])
    with pytest.raises(Invalid, match="outside every range"):
        check_addresses(WANTED, [])
