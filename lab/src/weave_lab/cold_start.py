"""How long a service takes from nothing until it serves its socket."""

from __future__ import annotations

import socket
import time

from weave_lab.node import Node
from weave_lab.services import Service

_POLL_S = 0.01


def cold_start_s(node: Node, service: Service) -> float:
    """Kills a service and starts it again; gives the seconds from its start. Raises LabError."""
    node.kill(service.name)
    _wait_silent(node, service)
    begin = time.perf_counter()
    node.launch(service.name)
    node.wait_serving(service)
    return time.perf_counter() - begin


def _wait_silent(node: Node, service: Service) -> None:
    """Until the kernel has closed the killed process' socket: its threads end one by one."""
    path = str(node.layout.run_dir / service.folder / "api.sock")
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path):
                return
        time.sleep(_POLL_S)
