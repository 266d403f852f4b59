"""templates/daemonset.yaml."""

from __future__ import annotations

from typing import Any

import pytest

from tests.k8s.rendering import agent, containers, environment, one, render
from weave_lab import services

SERVICES = {"gossip": 56786, "ipam": 56787, "router": 56784, "cni-shim": 0}


def test_each_service_is_a_container_with_its_own_uid() -> None:
    found = containers()

    uids = {name: found[name]["securityContext"]["runAsUser"] for name in SERVICES}
    assert uids == SERVICES
    lab = {service.name: service.gid for service in services.SERVICES}
    groups = {name: found[name]["securityContext"]["runAsGroup"] for name in SERVICES}
    assert groups == {name: lab[name] for name in SERVICES}


def test_nothing_is_privileged_and_capabilities_are_the_least() -> None:
    added = {}
    for name, container in containers().items():
        context = container["securityContext"]
        assert "privileged" not in context
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        added[name] = context["capabilities"].get("add", [])

    assert added == {
        "init": ["CHOWN", "FOWNER"],
        "gossip": [],
        "ipam": [],
        "router": ["NET_ADMIN", "SYS_ADMIN"],
        "cni-shim": [],
    }


def test_only_the_router_may_gain_privileges_which_kubernetes_asks_for() -> None:
    kept = {
        name
        for name, container in containers().items()
        if container["securityContext"].get("allowPrivilegeEscalation") is not False
    }

    assert kept == {"router"}


def test_only_gossip_holds_a_token_and_the_mesh_secret() -> None:
    holders = {
        name
        for name, container in containers().items()
        for mount in container["volumeMounts"]
        if mount["name"] in ("api-access", "mesh-secret")
    }

    assert holders == {"gossip"}
    assert agent()["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("name", "port"), [("gossip", 6786), ("ipam", 6787), ("router", 6784), ("cni-shim", 6788)]
)
def test_probes_ask_over_loopback(name: str, port: int) -> None:
    container = containers()[name]

    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        request = container[probe]["httpGet"]
        assert request == {"host": "127.0.0.1", "port": port, "path": path}


def test_every_node_gets_an_agent_before_all_else() -> None:
    pod = agent()

    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["hostNetwork"] is True


def test_namespaces_of_later_pods_reach_the_router() -> None:
    mounts = {mount["name"]: mount for mount in containers()["router"]["volumeMounts"]}

    assert mounts["netns"]["mountPropagation"] == "HostToContainer"
    assert mounts["proc-sys-net"]["mountPath"] == "/host/proc/sys/net"
    assert environment(containers()["router"])["WEAVE_PROC_SYS"] == "/host/proc/sys"


def test_ranges_of_both_families_reach_whoever_needs_them() -> None:
    found = containers({"ipam": {"ranges": ["10.32.0.0/12", "fd32::/48"]}})

    for name in ("gossip", "ipam", "router"):
        assert environment(found[name])["IPALLOC_RANGE"] == "10.32.0.0/12,fd32::/48"


@pytest.mark.parametrize(
    ("cni", "chain"),
    [
        ({}, "portmap"),
        ({"bandwidth": True}, "portmap,bandwidth"),
        ({"hostPort": False, "bandwidth": True}, "bandwidth"),
        ({"hostPort": False}, None),
    ],
)
def test_reference_plugins_are_chained(cni: dict[str, Any], chain: str | None) -> None:
    assert environment(containers({"cni": cni})["cni-shim"]).get("WEAVE_CHAIN") == chain


def test_a_redis_runs_beside_the_services_where_none_is_given() -> None:
    found = containers({"store": {"type": "redis"}})

    command = found["redis"]["command"]
    assert found["redis"]["restartPolicy"] == "Always"
    assert command[command.index("--appendfsync") + 1] == "always"
    assert found["init"]["args"] == ["--redis"]
    url = "unix:///run/weave/redis/redis.sock"
    assert environment(found["ipam"])["WEAVE_STORE_URL"] == url


def test_a_given_redis_is_used() -> None:
    url = "redis://redis.example:6379/0"
    found = containers({"store": {"type": "redis", "redis": {"url": url}}})

    assert "redis" not in found
    assert environment(found["gossip"])["WEAVE_STORE_URL"] == url


def test_an_address_with_a_password_comes_from_a_secret() -> None:
    found = containers({"store": {"type": "redis", "redis": {"existingSecret": "my-redis"}}})

    assert "redis" not in found
    assert "args" not in found["init"]
    for name in ("gossip", "ipam", "router"):
        (entry,) = (item for item in found[name]["env"] if item["name"] == "WEAVE_STORE_URL")
        assert entry["valueFrom"] == {"secretKeyRef": {"name": "my-redis", "key": "url"}}


def test_services_that_may_share_a_store_know_their_node() -> None:
    found = containers()

    for name in ("gossip", "router"):
        (entry,) = (item for item in found[name]["env"] if item["name"] == "WEAVE_NICKNAME")
        assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


def test_the_secret_comes_as_a_file_never_as_an_argument() -> None:
    assert containers()["gossip"]["args"] == ["--password-file=/etc/weave/mesh/password"]
    without = {"mesh": {"secret": {"enabled": False}}}
    assert "args" not in containers(without)["gossip"]


def test_a_roll_out_is_bounded() -> None:
    spec = one(render({"maxUnavailable": "10%"}), "DaemonSet")["spec"]

    assert spec["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%"}
    assert spec["minReadySeconds"] == 5


def test_extra_environment_reaches_all_services() -> None:
    found = containers({"extraEnv": [{"name": "TZ", "value": "UTC"}]})

    assert all(environment(found[name])["TZ"] == "UTC" for name in SERVICES)
