"""What several tests of ipam share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from weave_runtime.testing import RedisServer


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """An empty Redis that is durable as we ask it to be."""
    with tempfile.TemporaryDirectory(prefix="wredis-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.kill()
