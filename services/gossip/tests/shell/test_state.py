"""What this peer keeps over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.gossip.tests.shell.conftest import peer_name
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.errors import StartError
from weave_gossip.state import (
    SeenDocuments,
    begin_life,
    incarnation_entry,
    own_document_entry,
    seen_document_entry,
    targets_entry,
)
from weave_runtime.store import Store
from weave_runtime.store.memory import FakeStore

MINE = Document(DocumentId("ring", peer_name(1), "4"), 3, 1, b"mine")
THEIRS = Document(DocumentId("ring", peer_name(2), "4"), 9, 1, b"theirs")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with FakeStore() as store:
        yield store


async def test_the_first_life_has_a_random_name_and_incarnation_one(store: Store) -> None:
    first = await begin_life(store, None)

    assert first.incarnation == 1
    assert not first.is_restart
    assert first.name[0] & 0x03 == 0x02


async def test_each_life_is_durable_before_it_begins(store: Store) -> None:
    first = await begin_life(store, None)

    second, third = await begin_life(store, None), await begin_life(store, None)

    assert first.name == second.name == third.name
    assert (second.incarnation, third.incarnation) == (2, 3)
    assert third.is_restart


async def test_a_lost_name_is_the_one_that_the_kernel_bears(store: Store) -> None:
    first = await begin_life(store, None, peer_name(7))
    second = await begin_life(store, None, peer_name(8))

    assert (first.name, second.name) == (peer_name(7), peer_name(7))


async def test_a_life_begun_anew_counts(store: Store) -> None:
    """As after the loss of state, when the mesh remembers a later life than we do."""
    await begin_life(store, None)
    await store.commit(dict([incarnation_entry(41)]))

    assert (await begin_life(store, None)).incarnation == 42


async def test_documents_and_targets_come_back(store: Store) -> None:
    await begin_life(store, peer_name(1))
    entries = [own_document_entry(MINE), seen_document_entry(THEIRS), targets_entry(("a:1",))]
    await store.commit(dict(entries))

    loaded = await begin_life(store, None)

    assert set(loaded.documents) == {MINE, THEIRS}
    assert loaded.targets == ("a:1",)


async def test_another_name_leaves_the_former_ones_documents_behind(store: Store) -> None:
    await begin_life(store, peer_name(1))
    await store.commit(dict([own_document_entry(MINE), seen_document_entry(THEIRS)]))

    loaded = await begin_life(store, peer_name(7))
    again = await begin_life(store, None)

    assert loaded.former_name == peer_name(1)
    assert loaded.documents == again.documents == (THEIRS,)
    assert again.name == peer_name(7)
    assert again.former_name is None


@pytest.mark.parametrize(
    "entry",
    [
        {"name": b"short"},
        {"targets": b"{"},
        {"own/ring\x004": b"\xff"},
        {"seen/ring\x00020000000002\x004": b"\xff"},
    ],
    ids=["name", "targets", "own document", "document of another"],
)
async def test_entries_that_cannot_be_read_are_left_as_they_are(
    store: Store, entry: dict[str, bytes]
) -> None:
    await begin_life(store, peer_name(1))
    await store.commit(entry)
    before = await store.load()

    with pytest.raises(StartError, match="cannot be read"):
        await begin_life(store, None)

    assert await store.load() == before


async def test_what_others_say_is_kept_soon_and_then_now_and_then(store: Store) -> None:
    await begin_life(store, peer_name(1))
    seen = SeenDocuments(store, peer_name(1), delay_s=0.0, period_s=3600.0)
    writer = asyncio.create_task(seen.run())

    seen.changed(THEIRS)
    async with asyncio.timeout(5):
        while seen_document_entry(THEIRS)[0] not in await store.load():  # noqa: ASYNC110
            await asyncio.sleep(0)
    seen.removed(THEIRS.id)
    await asyncio.sleep(0.05)
    writer.cancel()

    assert seen_document_entry(THEIRS)[0] in await store.load()
