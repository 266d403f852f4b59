"""Where an ADD spends its time: its steps one by one, as cni-shim asks for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.figures import Row, ms, percentile
from bench.plugin import Plugin
from weave.ipam.v1 import ipam_pb2
from weave.router.v1 import router_pb2
from weave.types.v1 import types_pb2
from weave_cli.node import Node as Services

_CALL_S = 30.0


def rows(ours: Plugin, services: Services, samples: int) -> list[Row]:
    """Medians of each step, of the calls without any work, and of the whole ADD beside them."""
    times: dict[str, list[float]] = {}

    def timed(step: str, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        answer = call()
        times.setdefault(step, []).append(time.perf_counter() - begin)
        return answer

    for number in range(samples):
        name = f"step{number}"
        ours.make_sandbox(name)
        _, result = timed("whole ADD", partial(ours.call, "ADD", name))
        ours.call("DEL", name, result)
        timed("executable alone (VERSION)", partial(ours.call, "VERSION", name))
        _by_steps(services, name, timed)
        ours.remove_sandbox(name)
    return [
        Row(f"of an ADD: {step}", ms(percentile(values, 50)), "", percentile(values, 50) * 1000)
        for step, values in times.items()
    ]


def _by_steps(services: Services, name: str, timed: Callable[..., Any]) -> None:
    key = types_pb2.AttachmentKey(network="bench", container_id=name, interface="eth0")
    lookup = ipam_pb2.LookupRequest(key=key)
    timed("one gRPC call", lambda: services.ipam.Lookup(lookup, timeout=_CALL_S))
    allocate = ipam_pb2.AllocateRequest(key=key)
    given = timed("ipam.Allocate", lambda: services.ipam.Allocate(allocate, timeout=_CALL_S))
    attachment = router_pb2.Attachment(
        key=key,
        addresses=_hosts(given),
        netns_path=f"/run/netns/{name}",
        generation=given.generation,
    )
    prepare = router_pb2.PrepareRequest(attachment=attachment)
    timed("router.Prepare", lambda: services.router.Prepare(prepare, timeout=_CALL_S))
    activate = router_pb2.ActivateRequest(key=key, generation=given.generation)
    timed("router.Activate", lambda: services.router.Activate(activate, timeout=_CALL_S))
    detach = router_pb2.DetachRequest(key=key)
    services.router.Detach(detach, timeout=_CALL_S)
    # An address that was just given back would have to wait for the end of its connections.
    services.ipam.Release(ipam_pb2.ReleaseRequest(key=key), timeout=_CALL_S)
    again = services.ipam.Allocate(allocate, timeout=_CALL_S)
    del attachment.addresses[:]
    attachment.addresses.extend(_hosts(again))
    attachment.generation = again.generation
    both = router_pb2.PrepareRequest(attachment=attachment, activate=True)
    timed("both in one call", lambda: services.router.Prepare(both, timeout=_CALL_S))
    services.router.Detach(detach, timeout=_CALL_S)
    services.ipam.Release(ipam_pb2.ReleaseRequest(key=key), timeout=_CALL_S)


def _hosts(given: ipam_pb2.AllocateResponse) -> list[types_pb2.Prefix]:
    return [
        types_pb2.Prefix(address=each.address, length=len(each.address) * 8)
        for each in given.addresses
    ]
