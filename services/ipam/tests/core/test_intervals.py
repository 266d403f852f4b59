"""The set of runs behaves as a set of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weave_ipam.core.intervals import IntervalSet

SIZE = 12
VALUES = st.integers(min_value=0, max_value=SIZE - 1)


@given(st.lists(st.tuples(st.booleans(), VALUES), max_size=40), VALUES, VALUES)
def test_it_is_a_set_of_integers(steps: list[tuple[bool, int]], start: int, end: int) -> None:
    """Also where a value is added that is there, or taken out that is not."""
    runs, plain = IntervalSet(), set[int]()
    for is_added, value in steps:
        (runs.add if is_added else runs.discard)(value)
        (plain.add if is_added else plain.discard)(value)

    inside = range(start, end)
    gaps = [value for low, high in runs.gaps(start, end) for value in range(low, high)]
    assert gaps == [value for value in inside if value not in plain]
    assert runs.count(start, max(start, end)) == sum(value in plain for value in inside)
    assert runs.end_of_run(start) == next(v for v in range(start, SIZE + 1) if v not in plain)
