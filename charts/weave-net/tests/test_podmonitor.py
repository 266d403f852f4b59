"""templates/podmonitor.yaml."""

from __future__ import annotations

from tests.k8s.rendering import Object, containers, one, render

ON: Object = {"metrics": {"enabled": True, "podMonitor": {"enabled": True}}}


def test_a_pod_monitor_finds_the_metrics_of_the_agents() -> None:
    items = render(ON)
    monitor = one(items, "PodMonitor")["spec"]
    labels = one(items, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    ports = [port for item in containers(ON).values() for port in item.get("ports", [])]

    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert [p["containerPort"] for p in ports if p["name"] == endpoint["port"]] == [6782]
    assert endpoint["path"] == "/metrics"


def test_prometheus_finds_the_pod_monitor_by_the_labels_it_asks_for() -> None:
    wanted = {"interval": "10s", "labels": {"release": "prometheus"}}
    monitor = one(
        render({"metrics": {"enabled": True, "podMonitor": {"enabled": True, **wanted}}}),
        "PodMonitor",
    )

    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["podMetricsEndpoints"][0]["interval"] == "10s"


def test_there_is_none_without_being_asked_for() -> None:
    assert [item for item in render() if item["kind"] == "PodMonitor"] == []
