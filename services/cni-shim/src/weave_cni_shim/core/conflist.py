"""The network configuration list that tells a runtime to call us."""

from __future__ import annotations

import json
from collections.abc import Sequence

FILE_NAME = "10-weave.conflist"
NETWORK = "weave"
# Runtimes with a libcni before 1.3 refuse a cniVersion they do not know; newer ones choose the
# highest that they share with cniVersions (S17).
_PREFERRED = "1.0.0"
OFFERED = ("0.4.0", "1.0.0", "1.1.0")

# What the reference plugins need to be chained behind us.
_CHAINED = {
    "portmap": {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    "bandwidth": {"type": "bandwidth", "capabilities": {"bandwidth": True}},
}
CHAINABLE = tuple(_CHAINED)


def render(*, mtu: int, chain: Sequence[str], versions: Sequence[str] = OFFERED) -> str:
    """The conflist's text. `mtu` 0 leaves it to the router; `chain` names entries of CHAINABLE.

    `versions`: those of OFFERED that every plugin of the chain speaks; at least one, oldest first.
    """
    own: dict[str, object] = {"type": "weave-net", "capabilities": {"ips": True, "mac": True}}
    if mtu:
        own["mtu"] = mtu
    body = {
        "cniVersion": _PREFERRED if _PREFERRED in versions else versions[-1],
        "cniVersions": list(versions),
        "name": NETWORK,
        "plugins": [own, *(_CHAINED[name] for name in chain)],
    }
    return json.dumps(body, indent=2) + "\n"
