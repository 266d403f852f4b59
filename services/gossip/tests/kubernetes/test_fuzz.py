"""Whatever an API server says: a copy of its objects, or an error that is looked at again later."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gossip.tests.kubernetes.fake_api import node
from weave_gossip.kubernetes import nodes
from weave_gossip.kubernetes.api import ApiAway, ApiClient, ApiRefused
from weave_gossip.kubernetes.http import BodyReader, Head, read_head
from weave_gossip.kubernetes.mirror import Mirror
from weave_gossip.kubernetes.nodes import NodeSeen

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
many = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])

LIST = json.dumps(
    {"items": [node("a", "10.0.0.1"), node("b", "fd00::2")], "metadata": {"resourceVersion": "7"}}
).encode()
EVENTS = b"".join(
    json.dumps(
        {"type": kind, "object": {**item, "metadata": {**item["metadata"], **version}}}
    ).encode()
    + b"\n"
    for kind, item, version in (
        ("ADDED", node("c", "10.0.0.3"), {"resourceVersion": "8"}),
        ("DELETED", node("a"), {"resourceVersion": "9"}),
        ("BOOKMARK", {"metadata": {}}, {"resourceVersion": "10"}),
    )
)


def answer(body: bytes, *, chunked: bool) -> bytes:
    if chunked:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + b"%x\r\n%b\r\n" % (len(body), body) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A right answer with a few bytes changed, added or removed."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "add", "remove"])):
            case "change" if data:
                data[at] = draw(st.integers(0, 255))
            case "add":
                data[at:at] = draw(st.binary(min_size=1, max_size=6))
            case _:
                del data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["items", "metadata", "name", "uid", "status", "addresses", "type"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
lists = (
    mutated(answer(LIST, chunked=False))
    | mutated(answer(LIST, chunked=True))
    | JSON.map(lambda value: answer(json.dumps(value).encode(), chunked=False))
    | st.binary(max_size=100)
)
watches = (
    mutated(answer(EVENTS, chunked=True))
    | JSON.map(lambda value: answer(json.dumps(value).encode() + b"\n", chunked=True))
    | st.binary(max_size=100)
)


class Fed(ApiClient):
    """Answers the first request with one text and the following ones with another."""

    def __init__(self, first: bytes, later: bytes) -> None:
        super().__init__("127.0.0.1", 6443, Path())
        self._answers = [first, later]

    @asynccontextmanager
    async def _exchange(self, *_: Any) -> AsyncIterator[tuple[Head, BodyReader]]:
        if not self._answers:
            raise ConnectionRefusedError(111, "nobody is there any more")
        reader = asyncio.StreamReader()
        reader.feed_data(self._answers.pop(0))
        reader.feed_eof()
        head = await read_head(reader)
        yield head, BodyReader(reader, head)


@many
@given(first=lists, later=watches)
def test_a_mirror_ends_in_an_error_it_knows(first: bytes, later: bytes) -> None:
    told: list[dict[str, NodeSeen]] = []

    async def follow() -> None:
        rng = random.Random(1)
        mirror = Mirror(Fed(first, later), "/api/v1/nodes", nodes.see, told.append, rng)
        async with asyncio.timeout(10):
            await mirror._follow()

    with suppress(ApiAway, ApiRefused):
        asyncio.run(follow())
    for objects in told:
        assert all(node.facts.name == name for name, node in objects.items())
