"""Names and paths of a lab."""

from __future__ import annotations

import pytest

from weave_lab.errors import LabError
from weave_lab.lab import LabSpec
from weave_lab.layout import MAX_NODES, LabLayout, checked_pod_name, node_number

# sockaddr_un.sun_path, with its terminating zero.
SOCKET_PATH_LIMIT = 108


def test_the_longest_socket_path_fits_into_a_socket_address() -> None:
    node = LabLayout("l" * 24).node(MAX_NODES)

    assert len(str(node.run_dir / "gossip" / "api.sock")) < SOCKET_PATH_LIMIT


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a/b", ".lab", "l" * 25])
def test_a_name_that_cannot_be_a_lab_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot be the name of a lab"):
        LabLayout(name)


@pytest.mark.parametrize(("name", "number"), [("n1", 1), ("n253", 253)])
def test_a_node_name_gives_its_number(name: str, number: int) -> None:
    assert node_number(name) == number


@pytest.mark.parametrize("name", ["n0", "n254", "n01", "1", "node1", ""])
def test_a_name_that_is_no_node_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="is no node"):
        node_number(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 64])
def test_a_name_that_kubernetes_would_refuse_for_a_pod_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot be the name of a pod"):
        checked_pod_name(name)


def test_addresses_on_the_wire_follow_the_number() -> None:
    node = LabLayout("lab").node(7)

    assert (node.address, node.address6) == ("10.99.0.7", "fd99::7")


@pytest.mark.parametrize("nodes", [0, 254])
def test_a_lab_of_no_or_too_many_nodes_is_refused(nodes: int) -> None:
    with pytest.raises(LabError, match=f"1 to 253 nodes, not {nodes}"):
        LabSpec(nodes=nodes)


def test_arguments_for_an_unknown_service_are_refused() -> None:
    with pytest.raises(LabError, match="'router2' is no service"):
        LabSpec(arguments={"router2": ["--x"]})
