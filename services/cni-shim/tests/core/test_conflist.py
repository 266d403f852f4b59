"""The conflist as runtimes read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from weave_cni_shim.core.conflist import CHAINABLE, FILE_NAME, render


def rendered(*, mtu: int = 0, chain: Sequence[str] = ()) -> Any:
    return json.loads(render(mtu=mtu, chain=chain))


def test_s17_old_runtimes_find_a_version_they_know_and_new_ones_a_newer() -> None:
    conflist = rendered()

    assert conflist["cniVersion"] == "1.0.0"
    assert conflist["cniVersions"] == ["0.4.0", "1.0.0", "1.1.0"]
    assert FILE_NAME == "10-weave.conflist"


def test_our_plugin_comes_first() -> None:
    conflist = rendered(chain=CHAINABLE)

    assert [plugin["type"] for plugin in conflist["plugins"]] == [
        *("weave-net", "portmap", "bandwidth")
    ]
    assert conflist["name"] == "weave"


def test_s53_every_plugin_declares_the_capabilities_it_honours() -> None:
    declared = {
        plugin["type"]: plugin["capabilities"] for plugin in rendered(chain=CHAINABLE)["plugins"]
    }

    assert declared == {
        "weave-net": {"ips": True, "mac": True},
        "portmap": {"portMappings": True},
        "bandwidth": {"bandwidth": True},
    }


def test_the_mtu_is_left_out_unless_set() -> None:
    assert "mtu" not in rendered()["plugins"][0]
    assert rendered(mtu=1400)["plugins"][0]["mtu"] == 1400


def test_a_chain_is_offered_in_the_versions_that_all_of_it_speak() -> None:
    def versions(*offered: str) -> tuple[str, list[str]]:
        conflist = json.loads(render(mtu=0, chain=["portmap"], versions=offered))
        return conflist["cniVersion"], conflist["cniVersions"]

    assert versions("0.4.0", "1.0.0") == ("1.0.0", ["0.4.0", "1.0.0"])
    assert versions("0.4.0") == ("0.4.0", ["0.4.0"])
