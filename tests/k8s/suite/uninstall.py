"""What an uninstall leaves: nothing."""

from __future__ import annotations

from tests.k8s import figures
from tests.k8s.agents import wait_ready
from tests.k8s.cluster import ROOT, Cluster
from tests.k8s.residue import clean_helm_uninstall, clean_uninstall
from tests.k8s.workload import deploy, failures, remove, running

MANIFEST = ROOT / "charts" / "weave-net.yaml"
UNINSTALL = ROOT / "charts" / "weave-net-uninstall.yaml"


def test_uninstall_leaves_nothing(cluster: Cluster) -> None:
    remove(cluster, "web")

    seconds = clean_helm_uninstall(cluster)

    figures.note("helm uninstall", f"{seconds:.1f} s")


def test_the_plain_manifest_installs_and_uninstalls(cluster: Cluster) -> None:
    secret = ["secret", "-n", "kube-system", "weave-net-mesh"]
    cluster.kubectl("create", "secret", "generic", *secret[1:], "--from-literal=password=of-this")
    cluster.kubectl("apply", "-f", str(MANIFEST))
    wait_ready(cluster)
    deploy(cluster, "plain", 6)
    pods = running(cluster, "plain")
    assert failures(cluster, pods, pods, "ping", "fetch") == []
    remove(cluster, "plain")

    def uninstall() -> None:
        cluster.kubectl("apply", "-f", str(UNINSTALL))
        job = ["-n", "kube-system", "job/weave-net-uninstall", "--timeout=110s"]
        cluster.kubectl("wait", "--for=condition=complete", *job)
        cluster.kubectl("delete", "-f", str(UNINSTALL), "-f", str(MANIFEST))
        cluster.kubectl("delete", *secret)

    clean_uninstall(cluster, uninstall)
