"""templates/tests/connectivity.yaml."""

from __future__ import annotations

from tests.k8s.rendering import one, render

NAME = "weave-net-test"


def test_the_test_runs_in_the_pod_network() -> None:
    pod = one(render(), "Pod", NAME)

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert "hostNetwork" not in pod["spec"]


def test_a_server_runs_on_every_node_that_has_the_network() -> None:
    values = {"nodeSelector": {"pool": "workers"}, "tolerations": [{"key": "gpu"}]}
    server = one(render(values), "DaemonSet", NAME)["spec"]["template"]["spec"]

    assert "hostNetwork" not in server
    assert server["nodeSelector"]["pool"] == "workers"
    assert server["tolerations"] == [{"key": "gpu"}]


def test_its_pods_pass_the_restricted_standard() -> None:
    items = render()
    server = one(items, "DaemonSet", NAME)["spec"]["template"]["spec"]

    for pod in (server, one(items, "Pod", NAME)["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = pod["containers"][0]["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
