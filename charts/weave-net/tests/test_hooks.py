"""templates/uninstall.yaml, tests/connectivity.yaml and podmonitor.yaml."""

from __future__ import annotations

from tests.k8s.rendering import one, render


def test_uninstall_runs_before_the_release_is_deleted() -> None:
    job = one(render(), "Job", "weave-net-uninstall")

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    pod = job["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["containers"][0]["args"] == ["kube-system", "weave-net", "name=weave-net"]


def test_the_pod_of_the_job_is_none_of_the_agents() -> None:
    labels = one(render(), "Job", "weave-net-uninstall")["spec"]["template"]["metadata"]["labels"]

    assert labels.get("name") != "weave-net"


def test_the_test_runs_in_the_pod_network() -> None:
    pod = one(render(), "Pod", "weave-net-test")

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert "hostNetwork" not in pod["spec"]


def test_a_pod_monitor_finds_the_metrics() -> None:
    values = {"metrics": {"enabled": True, "podMonitor": {"enabled": True}}}
    monitor = one(render(values), "PodMonitor")

    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    assert monitor["spec"]["selector"]["matchLabels"] == {"name": "weave-net"}
