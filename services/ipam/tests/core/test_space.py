"""Free, used, resting and conflicting addresses of one peer."""

from __future__ import annotations

from weave_ipam.core.space import Space
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.prefix import Family, Prefix, format_address

UNIVERSE = Prefix.parse("10.0.3.0/26")


def key(number: int) -> AttachmentKey:
    return AttachmentKey("weave", ContainerId(f"c{number}"), "eth0")


def space(*held: str) -> Space:
    made = Space(Family.IPV4)
    made.set_held(map(Prefix.parse, held))
    return made


def text(address: int | None) -> str:
    return "" if address is None else format_address(Family.IPV4, address)


def take_all(made: Space) -> list[str]:
    taken: list[str] = []
    while (address := made.find(UNIVERSE)) is not None:
        made.take(address, key(len(taken)))
        taken.append(text(address))
    return taken


def test_a_universe_of_64_gives_62_addresses_in_order() -> None:
    """Vector 3.13.1: network and broadcast address are never given."""
    taken = take_all(space("10.0.3.0/26"))

    assert taken == [f"10.0.3.{number}" for number in range(1, 63)]


def test_a_released_address_rests_before_it_is_given_again() -> None:
    made = space("10.0.3.0/26")
    take_all(made)
    two = Prefix.parse("10.0.3.2").address

    made.release(two, until=60.0)

    assert made.find(UNIVERSE) is None
    assert made.rested(59.9) == []
    assert made.rested(60.0) == [two]
    assert made.find(UNIVERSE) == two


def test_addresses_rotate_instead_of_coming_back_lowest_first() -> None:
    made = space("10.0.3.0/26")
    first = made.find(UNIVERSE)
    assert first is not None
    made.rotate(UNIVERSE, first)
    made.take(first, key(1))
    made.release(first, until=1.0)
    made.rested(2.0)

    assert text(made.find(UNIVERSE)) == "10.0.3.2"


def test_a_request_takes_the_upper_half_of_what_is_free() -> None:
    """Vector 3.13.3: 32, then 16, 8, 4, 2, 1, 1 addresses of 64."""
    made = space("10.0.3.64/26")
    held = [Prefix.parse("10.0.3.64/26")]
    sizes: list[int] = []
    while (gift := made.gift(Prefix.parse("10.0.3.0/24"))) is not None:
        sizes.append(gift.size)
        held = [
            part
            for prefix in held
            for part in (_without(prefix, gift) if prefix.contains(gift) else [prefix])
        ]
        made.set_held(held)

    assert sizes == [32, 16, 8, 4, 2, 1, 1]


def test_a_gift_holds_an_address_that_a_pod_can_have() -> None:
    """Else the first and the last address of the subnet would go round among peers in need."""
    made = space("10.0.3.0/32", "10.0.3.62/31")

    assert made.gift(UNIVERSE) == Prefix.parse("10.0.3.62/32")

    made.set_held([Prefix.parse("10.0.3.0/32"), Prefix.parse("10.0.3.63/32")])

    assert made.gift(UNIVERSE) is None
    assert made.gift(Prefix.parse("10.0.3.63/32")) == Prefix.parse("10.0.3.63/32")


def _without(prefix: Prefix, gift: Prefix) -> list[Prefix]:
    rest = []
    while prefix != gift:
        lower, upper = prefix.halves()
        inside, outside = (lower, upper) if lower.contains(gift) else (upper, lower)
        rest.append(outside)
        prefix = inside
    return rest


def test_a_used_address_that_is_no_longer_held_is_conflicting_until_it_is_gone() -> None:
    made = space("10.0.3.0/26")
    address = Prefix.parse("10.0.3.40").address
    made.take(address, key(1))

    made.set_held([Prefix.parse("10.0.3.0/27")])

    assert made.conflicting == {address}
    assert not made.is_free(address)
    made.release(address, until=1.0)
    assert made.conflicting == set()


def test_free_addresses_are_counted_without_used_and_resting_ones() -> None:
    made = space("10.0.3.0/28")
    for number in range(3):
        address = made.find(UNIVERSE)
        assert address is not None
        made.take(address, key(number))

    made.release(next(iter(made.used)), until=9.0)

    assert made.free_count() == 16 - 3
