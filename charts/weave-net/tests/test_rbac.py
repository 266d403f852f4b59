"""templates/rbac.yaml."""

from __future__ import annotations

from tests.k8s.rendering import one, render


def test_the_cluster_wide_verbs_are_the_least() -> None:
    assert one(render(), "ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]


def test_nodes_may_be_changed_only_to_take_a_taint_off() -> None:
    items = render({"kubernetes": {"startupTaint": "example/wait"}})

    assert "patch" in one(items, "ClusterRole")["rules"][0]["verbs"]


def test_one_configmap_may_be_changed() -> None:
    first, second = one(render(), "Role")["rules"]

    assert first["resourceNames"] == ["weave-net"]
    assert "delete" not in first["verbs"]
    assert second["verbs"] == ["create"]


def test_events_are_made_where_those_of_nodes_are_and_nothing_else() -> None:
    role = one(render(), "Role", "weave-net-events")
    binding = one(render(), "RoleBinding", "weave-net-events")

    assert role["metadata"]["namespace"] == "default"
    assert role["rules"] == [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]
    assert binding["subjects"][0]["namespace"] == "kube-system"
