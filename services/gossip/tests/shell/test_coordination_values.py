"""What a store of Coordination holds is entries, or somebody else's, which is named."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.gossip.tests.shell.test_coordination import running_redis
from weave_gossip.coordination import redis as redis_store
from weave_gossip.coordination.backend import Entry
from weave_gossip.coordination.file import FileCoordination
from weave_gossip.coordination.redis import RedisCoordination
from weave_gossip.errors import CoordinationAwayError, RevisionConflictError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schema", "oldest_reader", "entries", "a", "revision", "value"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=16,
)


@given(content=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_a_file_holds_entries_or_is_named(content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="weave-") as folder:
        path = Path(folder) / "coordination.json"
        path.write_bytes(content)

        entries = {}
        with contextlib.suppress(CoordinationAwayError):
            entries = FileCoordination(path)._read()

        assert all(isinstance(entry, Entry) for entry in entries.values())
        assert path.read_bytes() == content


@given(raw=st.dictionaries(st.binary(max_size=8), st.binary(max_size=12), max_size=4))
def test_a_hash_holds_entries_or_is_refused(raw: dict[bytes, bytes]) -> None:
    with contextlib.suppress(ValueError):
        entries = redis_store._decode(raw)

        assert len(entries) == len(raw)


@pytest.mark.parametrize(
    "command",
    [("HSET", "weave:c:coordination", "ring", "no revision"), ("SET", "weave:c:coordination", "x")],
    ids=["foreign field", "no hash"],
)
async def test_a_redis_of_somebody_else_is_named_and_left_alone(command: tuple[str, ...]) -> None:
    with running_redis("--requirepass", "s3cret") as server:
        theirs: Any = redis.asyncio.Redis.from_url(f"unix://:s3cret@{server.path}")
        await theirs.execute_command(*command)
        before = await theirs.dump("weave:c:coordination")
        coordination = RedisCoordination(f"unix://:s3cret@{server.path}", "c")

        with pytest.raises(CoordinationAwayError) as caught:
            await coordination.get("ring")
        with contextlib.suppress(CoordinationAwayError, RevisionConflictError):
            await coordination.compare_and_swap("other", 3, b"x")

        assert "redis at" in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert await theirs.dump("weave:c:coordination") == before
        await coordination.close()
        await theirs.aclose()
