"""Leaks, conflicts and strangers are told apart, and only the provably dead is freed."""

from weave_ipam.audit import YOUNG_S, Finding, Kind, Remedy, audit
from weave_ipam.core.records import Allocation
from weave_ipam.core.results import AddressConflict
from weave_ipam.router_client import Attachment
from weave_ipam.testing.cluster import pod_key
from weave_model.attachment import NODE_CONTAINER_ID, AttachmentKey, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Prefix

NOW = 1_000_000.0
BOOTED_AT = 10
ADDRESS = Prefix.parse("10.32.0.5")
OTHER = Prefix.parse("10.32.0.6")


def allocation(
    name: str = "a", *, generation: int = BOOTED_AT, age_s: float = 3600.0
) -> Allocation:
    return Allocation(pod_key(name), (ADDRESS,), Workload(), generation, NOW - age_s)


def attachment(name: str = "a", *addresses: Prefix, sandbox_exists: bool = True) -> Attachment:
    return Attachment(pod_key(name), addresses or (ADDRESS,), Workload(), sandbox_exists)


def findings(
    allocations: list[Allocation],
    attachments: list[Attachment],
    conflicts: tuple[AddressConflict, ...] = (),
) -> list[Finding]:
    return audit(allocations, attachments, conflicts, booted_at=BOOTED_AT, now=NOW)


def test_what_is_allocated_and_attached_is_fine() -> None:
    assert findings([allocation()], [attachment()]) == []


def test_an_allocation_whose_sandbox_is_gone_is_a_leak_to_free() -> None:
    [found] = findings([allocation()], [attachment(sandbox_exists=False)])

    assert (found.kind, found.remedy) == (Kind.LEAK, Remedy.RELEASE)
    assert found.generation == BOOTED_AT


def test_an_allocation_from_before_the_boot_is_a_leak_to_free() -> None:
    [found] = findings([allocation(generation=BOOTED_AT - 1)], [])

    assert found.remedy is Remedy.RELEASE


def test_what_lives_is_no_leak_whenever_it_was_allocated() -> None:
    assert findings([allocation(generation=1)], [attachment()]) == []


def test_an_allocation_without_an_interface_is_told_but_not_freed() -> None:
    [found] = findings([allocation()], [])

    assert (found.kind, found.remedy) == (Kind.LEAK, Remedy.NONE)
    assert "a" in found.advice


def test_an_add_that_is_under_way_is_no_finding() -> None:
    assert findings([allocation(age_s=YOUNG_S / 2)], []) == []


def test_the_nodes_own_address_is_never_a_leak() -> None:
    own = AttachmentKey("weave", NODE_CONTAINER_ID, "weave")

    assert findings([Allocation(own, (ADDRESS,), Workload(), 1, 0.0)], []) == []


def test_what_lives_without_an_allocation_is_claimed() -> None:
    [found] = findings([], [attachment()])

    assert (found.kind, found.remedy) == (Kind.UNKNOWN, Remedy.CLAIM)


def test_only_the_unknown_addresses_of_an_attachment_are_claimed() -> None:
    [found] = findings([allocation()], [attachment("a", ADDRESS, OTHER)])

    assert found.addresses == (OTHER,)


def test_a_dead_attachment_without_an_allocation_is_the_routers_business() -> None:
    assert findings([], [attachment(sandbox_exists=False)]) == []


def test_a_conflict_names_the_owner_and_what_to_do() -> None:
    owner = PeerName(b"\x02\0\0\0\0\x09")
    conflict = AddressConflict(ADDRESS, pod_key("a"), owner, NOW)

    [found] = findings([allocation()], [attachment()], (conflict,))

    assert found.kind is Kind.CONFLICT
    assert str(owner) in found.advice
    assert "delete the container a" in found.advice


def test_findings_are_sorted_by_attachment() -> None:
    found = findings([], [attachment("b"), attachment("a", OTHER)])

    assert [finding.key.container_id for finding in found] == ["a", "b"]
