"""templates/NOTES.txt."""

from __future__ import annotations

from tests.k8s.rendering import notes


def test_the_next_commands_are_said() -> None:
    said = notes()

    assert "kubectl -n kube-system rollout status daemonset/weave-net" in said
    assert "helm test weave-net -n kube-system" in said
    assert "10.32.0.0/12" in said
    assert "WARNING" not in said


def test_an_open_mesh_is_warned_of() -> None:
    assert "WARNING: mesh.secret.enabled=false" in notes({"mesh": {"secret": {"enabled": False}}})
