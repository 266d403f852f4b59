"""Which links there are: the limit, the degree, and that everybody is let in."""

from __future__ import annotations

import pytest

from tests.sim.cluster import Cluster
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.overlay import FULL_MESH_PEERS, HIGH_DEGREE, LOW_DEGREE


def formed(peers: int, limit: int) -> Cluster:
    cluster = Cluster(peers, 1, options=MeshOptions(connection_limit=limit))
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=60)
    return cluster


@pytest.mark.parametrize("peers", [1, 2, 3, 9, FULL_MESH_PEERS, FULL_MESH_PEERS + 1, 45])
@pytest.mark.parametrize("limit", [2, 30])
def test_a_mesh_of_any_size_is_one(peers: int, limit: int) -> None:
    cluster = formed(peers, limit)

    for node in cluster.nodes:
        assert node.mesh.status().reachable_peers == peers
        assert node.mesh.status().links <= limit


def test_no_limit_is_a_full_mesh_of_few() -> None:
    cluster = formed(12, 0)
    cluster.run(10)

    assert [node.mesh.status().links for node in cluster.nodes] == [11] * 12


def test_many_keep_few_links_each_even_without_a_limit() -> None:
    cluster = formed(45, 0)
    cluster.run(30)

    links = [node.mesh.status().links for node in cluster.nodes]
    assert min(links) >= LOW_DEGREE
    assert max(links) <= HIGH_DEGREE


def test_without_discovery_only_targets_are_dialled() -> None:
    cluster = Cluster(5, 1, seeds=1, options=MeshOptions(discovery=False))
    cluster.start()
    cluster.run(30)

    assert [node.mesh.status().links for node in cluster.nodes] == [4, 1, 1, 1, 1]
    assert all(node.mesh.status().reachable_peers == 5 for node in cluster.nodes)


def test_who_joins_a_full_mesh_late_is_let_in_and_costs_nobody_the_mesh() -> None:
    cluster = formed(20, 3)
    joiners = [cluster.add() for _ in range(5)]

    for joiner in joiners:
        joiner.start()

    cluster.run_to(cluster.is_converged, within_s=60)
    assert all(joiner.mesh.status().links >= 1 for joiner in joiners)
