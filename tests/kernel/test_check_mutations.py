"""S38 of CNI 1.1: CHECK finds every single mutation, on the host's side and in the sandbox.

The router only observes here; otherwise it would repair before CHECK can look. The first round
after a start puts the host's side right again, whatever is to be done with drift.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.namespaces import Netns
from tests.kernel.stand_ins import Facts
from tests.kernel.test_router_process import (
    NODE_MUTATIONS,
    OTHER,
    POD_MUTATIONS,
    attach,
    attachment,
    facts,
    key,
    node,
    pod,
    root,
    running,
    settled,
)
from weave.router.v1 import router_pb2 as pb
from weave_router.core import naming

# Fixtures.
__all__ = ["facts", "node", "pod", "root"]

pytestmark = pytest.mark.kernel

_MORE = {"host end gone": "ip link del {link}"}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_check_finds_every_single_mutation(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    mutations = [(node, name, words) for name, words in (NODE_MUTATIONS | _MORE).items()]
    mutations += [(pod, name, words) for name, words in POD_MUTATIONS.items()]
    mac = naming.tunnel_mac(OTHER).hex(":")
    table: list[tuple[str, str]] = []
    async with running(node, root, facts, "--drift=observe") as (router, stub):
        for space, name, words in mutations:
            link = (await attach(stub, attachment(pod))).host_interface
            await settled(stub)
            before = await stub.Check(pb.CheckRequest(key=key()))
            assert list(before.differences) == [], f"before {name}: {before}"

            space.run(*words.format(link=link, mac=mac).split())
            found = (await stub.Check(pb.CheckRequest(key=key()))).differences
            table.append((name, ", ".join(f"{d.kind}: {d.found}" for d in found) or "NOT FOUND"))

            # Whole again.
            await stub.Detach(pb.DetachRequest(key=key()))
            router.kill()
            router.start()
            await router.ready(stub)

    for name, words in table:
        print(f"{name:<28} {words[:140]}")
    print(f"{len(table)} mutations, {sum(w != 'NOT FOUND' for _, w in table)} found")
    assert [name for name, words in table if words == "NOT FOUND"] == []
