"""Renders the chart with Helm and finds objects in the result."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.binaries import find

CHART = Path(__file__).parents[2] / "charts" / "weave-net"
Object = dict[str, Any]


class Refused(Exception):
    """Helm stopped; the text is what it said."""


def render(values: Object | None = None, *options: str, chart: Path = CHART) -> list[Object]:
    """All objects, hooks included. Raises Refused."""
    command = [str(find("helm")), "template", "weave-net", str(chart), "-n", "kube-system"]
    done = subprocess.run(
        [*command, "-f", "-", *options],
        input=yaml.safe_dump(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def notes(values: Object | None = None) -> str:
    """What an install says at its end. Helm shows that to whoever has a cluster: here a copy of the
    chart has one more object, which holds it."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, folder, dirs_exist_ok=True))
        (chart / "templates" / "notes.yaml").write_text(_NOTES)
        found = one(render(values, chart=chart), "ConfigMap", "notes")
    return str(found["data"]["notes"])


_NOTES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  notes: {{ include (print .Template.BasePath "/NOTES.txt") . | quote }}
"""


def one(items: list[Object], kind: str, name: str = "weave-net") -> Object:
    """The only object of that kind and name."""
    (found,) = (i for i in items if i["kind"] == kind and i["metadata"]["name"] == name)
    return found


def containers(values: Object | None = None) -> dict[str, Object]:
    """Containers and init containers of the agent by name."""
    spec = agent(values)
    return {item["name"]: item for item in (*spec["initContainers"], *spec["containers"])}


def agent(values: Object | None = None) -> Object:
    """The pod of the DaemonSet."""
    spec: Object = one(render(values), "DaemonSet")["spec"]["template"]["spec"]
    return spec


def environment(container: Object) -> dict[str, str]:
    """Those with a plain value."""
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}
