"""How services are started: the command line is the decision of docs/adr/0004."""

from __future__ import annotations

import sys

import pytest

from weave_lab import services
from weave_lab.errors import LabError


def test_gossip_runs_without_any_capability_or_foreign_group() -> None:
    assert services.GOSSIP.command() == [
        "setpriv",
        "--reuid=56786",
        "--regid=56786",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
        sys.executable,
        "-m",
        "weave_gossip",
    ]


def test_the_router_keeps_exactly_two_capabilities() -> None:
    command = services.ROUTER.command()

    assert "--bounding-set=-all,+net_admin,+sys_admin" in command
    assert "--ambient-caps=+net_admin,+sys_admin" in command


def test_cni_shim_is_root_without_capabilities_in_the_groups_of_its_callees() -> None:
    command = services.CNI_SHIM.command()

    assert command[1:4] == ["--reuid=0", "--regid=56788", "--groups=56786,56787,56784,56781"]
    assert "--bounding-set=-all" in command


def test_all_selects_every_service() -> None:
    assert services.selected("all") == services.SERVICES


def test_an_unknown_service_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(LabError, match="'npc' is no service; there are gossip, ipam, router"):
        services.selected("npc")


def test_nothing_of_the_callers_environment_reaches_a_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEAVE_PASSWORD", "secret")

    environment = services.base_environment("lab", {"CONN_LIMIT": "8"})

    assert environment.keys() == {"PATH", "LANG", "WEAVE_LAB", "CONN_LIMIT"}
