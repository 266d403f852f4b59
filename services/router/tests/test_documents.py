"""What other nodes' routers write is a value or a reason, whatever its bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_model.errors import Invalid
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_router import codec
from weave_router.core.path_choice import Reach

_REACH = codec.write_reach(Reach({PeerName(b"node-2"): 1400}, complete=False)).SerializeToString()
_ENDPOINT = codec.write_endpoint(
    [Prefix.parse("10.32.0.1/32")], b"\x02\x00\x00\x00\x00\x01", 1450, is_direct=True
).SerializeToString()


@st.composite
def spoiled(draw: st.DrawFn, written: bytes) -> bytes:
    """A document with some of its bytes replaced."""
    start = draw(st.integers(0, len(written)))
    end = draw(st.integers(start, len(written)))
    return written[:start] + draw(st.binary(max_size=8)) + written[end:]


@pytest.mark.parametrize(
    ("read", "written"),
    [(codec.read_endpoint, _ENDPOINT), (codec.read_reach, _REACH)],
    ids=["endpoint", "reach"],
)
@given(data=st.data())
def test_a_document_is_read_or_refused(
    read: Callable[[bytes], object], written: bytes, data: st.DataObject
) -> None:
    payload = data.draw(st.binary(max_size=200) | spoiled(written))

    read(written)
    with contextlib.suppress(Invalid):
        read(payload)
