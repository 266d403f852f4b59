"""What only the Redis store has: durability that must be configured, reconnecting, passwords."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from weave_runtime.store import Store, StoreError, open_store

NOWHERE = Path("/nowhere")


async def open_at(url: str, owner: str = "toy") -> Store:
    return await open_store(url, NOWHERE, owner=owner)


@pytest.mark.parametrize(
    ("setting", "value", "needed"),
    [
        ("appendonly", "no", "appendonly yes"),
        ("appendfsync", "everysec", "appendfsync always"),
        ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite no"),
    ],
)
async def test_redis_that_could_lose_state_is_refused(
    redis_server: Any, setting: str, value: str, needed: str
) -> None:
    redis_server.configure(setting, value)

    with pytest.raises(StoreError, match=f"would lose state: set {needed} there"):
        await open_at(redis_server.url)


async def test_owners_do_not_see_each_other(redis_server: Any) -> None:
    first = await open_at(redis_server.url, "a")
    second = await open_at(redis_server.url, "b")
    async with first, second:
        await first.commit({"key": b"1"})

        assert await second.load() == {}
    assert redis_server.ask("keys", "*") == "weave:a:state"


async def test_store_goes_on_after_a_restart_of_redis(redis_server: Any) -> None:
    async with await open_at(redis_server.url) as store:
        await store.commit({"a": b"1"})
        redis_server.kill()
        redis_server.start()

        await store.commit({"b": b"2"})

        assert await store.load() == {"a": b"1", "b": b"2"}


async def test_absent_redis_is_an_error_for_callers_until_it_is_back(redis_server: Any) -> None:
    async with await open_at(redis_server.url) as store:
        redis_server.kill()
        with pytest.raises(StoreError, match="cannot be written"):
            await store.commit({"a": b"1"})
        with pytest.raises(StoreError, match="cannot be read"):
            await store.load()
        redis_server.start()

        await store.commit({"b": b"2"})

        assert await store.load() == {"b": b"2"}


async def test_absent_redis_is_named_at_the_start() -> None:
    with pytest.raises(StoreError, match=r"unix:///nowhere/redis.sock: "):
        await open_at("unix:///nowhere/redis.sock")


async def test_key_of_another_kind_is_refused(redis_server: Any) -> None:
    redis_server.ask("set", "weave:toy:state", "theirs")

    with pytest.raises(StoreError, match="WRONGTYPE"):
        await open_at(redis_server.url)

    assert redis_server.ask("get", "weave:toy:state") == "theirs"


async def test_url_of_another_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="http://host is no Redis URL"):
        await open_at("http://host")


async def test_password_is_used_and_shown_nowhere(
    redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    redis_server.configure("requirepass", "s3cret")

    async with await open_at(redis_server.url.replace("unix://", "unix://:s3cret@")) as store:
        await store.commit({"a": b"1"})
    with pytest.raises(StoreError) as caught:
        await open_at(redis_server.url.replace("unix://", "unix://:wr0ng@"))

    assert "wr0ng" not in str(caught.value)
    assert "<redacted>" in str(caught.value)
    assert "s3cret" not in caplog.text + str(caught.value)


async def test_entries_go_with_the_last_life_of_their_owner_and_no_others(
    redis_server: Any,
) -> None:
    is_over = False
    gone = await open_store(redis_server.url, NOWHERE, owner="a", is_last_life=lambda: is_over)
    stays = await open_at(redis_server.url, "b")
    async with stays:
        async with gone:
            await gone.commit({"key": b"1"})
            await stays.commit({"key": b"1"})
            before = redis_server.ask("keys", "*")

            is_over = True

        assert sorted(before.split()) == ["weave:a:state", "weave:b:state"]
        assert redis_server.ask("keys", "*") == "weave:b:state"
