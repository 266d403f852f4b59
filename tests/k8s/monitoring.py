"""What the Prometheus operator would make of a PodMonitor: the kind, and whom it asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.k8s.cluster import Cluster

Object = dict[str, Any]


def _object(**properties: Object) -> Object:
    return {"type": "object", "properties": properties}


_TEXT = {"type": "string"}
_ENDPOINT = _object(
    port=_TEXT, path=_TEXT, interval={"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
)
_SPEC = _object(
    selector=_object(matchLabels={"type": "object", "additionalProperties": _TEXT}),
    podMetricsEndpoints={"type": "array", "items": _ENDPOINT},
) | {"required": ["selector", "podMetricsEndpoints"]}

# As far as the chart uses it; fields of other names or forms are refused or dropped.
_KIND: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "names": {"kind": "PodMonitor", "plural": "podmonitors"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": _object(spec=_SPEC)},
            }
        ],
    },
}


@contextmanager
def pod_monitors(cluster: Cluster) -> Iterator[None]:
    """The cluster knows PodMonitors, as with the operator."""
    kind = f"crd/{_KIND['metadata']['name']}"
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(_KIND))
    cluster.kubectl("wait", "--for=condition=Established", kind, "--timeout=60s")
    try:
        yield
    finally:
        cluster.kubectl("delete", kind)


def scraped(cluster: Cluster) -> dict[str, str]:
    """The page of metrics per node, of all pods that the PodMonitor selects."""
    spec = cluster.get("podmonitor", "-n", "kube-system", "weave-net")["spec"]
    labels = ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items())
    (endpoint,) = spec["podMetricsEndpoints"]
    pages = {}
    for pod in cluster.get("pods", "-n", "kube-system", "-l", labels)["items"]:
        ports = [port for item in pod["spec"]["containers"] for port in item.get("ports", [])]
        (number,) = (item["containerPort"] for item in ports if item["name"] == endpoint["port"])
        url = f"http://{pod['status']['podIP']}:{number}{endpoint['path']}"
        # From another machine than that of the pod.
        elsewhere = next(n for n in cluster.nodes if n.name != pod["spec"]["nodeName"])
        pages[pod["spec"]["nodeName"]] = elsewhere.exec("/usr/bin/python3", "-c", FETCH, url)
    return pages


FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
