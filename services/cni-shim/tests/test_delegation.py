"""Addresses from another IPAM plugin: what it is given, what its answers become."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from weave_cni_shim import addresses
from weave_cni_shim.core.delegation import check_name, parse_delegated, parse_error
from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.frame import Answer, Request
from weave_cni_shim.testing.node import Node
from weave_model.attachment import AttachmentKey, ContainerId, Route
from weave_model.errors import NotReady
from weave_model.prefix import Prefix

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
RESULT = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.32.7.9/24", "gateway": "10.32.7.1"}],
    "routes": [{"dst": "192.0.2.0/24", "gw": "10.32.7.1"}],
    "dns": {"nameservers": ["10.96.0.10"]},
}
# Keeps environment and configuration of each call, and does what the file <COMMAND> says.
SCRIPT = """#!/bin/sh
cd "$(dirname "$0")"
echo $CNI_COMMAND >> calls
env > environ.$CNI_COMMAND
cat > stdin.$CNI_COMMAND
echo "told by $CNI_COMMAND" >&2
[ ! -f $CNI_COMMAND ] || . ./$CNI_COMMAND
[ $CNI_COMMAND != ADD ] || cat result
"""


class Plugin:
    """An IPAM plugin called `other` in the node's plugin folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.path = folder / "other"
        self.path.write_text(SCRIPT)
        self.path.chmod(0o755)
        self.answers(RESULT)

    def answers(self, result: Any) -> None:
        (self.folder / "result").write_text(json.dumps(result))

    def does(self, command: str, script: str) -> None:
        (self.folder / command).write_text(script)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().split()

    def environ(self, command: str) -> dict[str, str]:
        lines = (self.folder / f"environ.{command}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def stdin(self, command: str) -> Any:
        return json.loads((self.folder / f"stdin.{command}").read_bytes())


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    spooling = asyncio.create_task(made.spool.run(made.verbs.carry_out))
    yield made
    spooling.cancel()
    await asyncio.wait({spooling})


@pytest.fixture
def plugin(node: Node) -> Plugin:
    return Plugin(node.folder / "bin")


async def run(node: Node, command: str, **config: Any) -> Answer:
    environ = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/none",
        "TRACEPARENT": "00-1-2-01",
    }
    body = {"cniVersion": "1.1.0", "name": "weave", "ipam": {"type": "other", "x": 1}, **config}
    return await node.verbs.answer(Request(environ, json.dumps(body).encode()))


def body(answer: Answer) -> Mapping[str, Any]:
    return dict(json.loads(answer.stdout))


async def test_s50_it_gets_the_same_environment_and_configuration(
    node: Node, plugin: Plugin
) -> None:
    await run(node, "ADD", mtu=1400)

    assert plugin.stdin("ADD")["ipam"] == {"type": "other", "x": 1}
    assert plugin.stdin("ADD")["mtu"] == 1400
    environ = plugin.environ("ADD")
    assert environ["CNI_CONTAINERID"] == "c1"
    assert environ["CNI_PATH"] == "/none"
    assert "TRACEPARENT" not in environ


async def test_its_addresses_are_claimed_and_attached_by_our_gateway(
    node: Node, plugin: Plugin
) -> None:
    del plugin
    answer = await run(node, "ADD")

    assert answer.exit_code == 0
    assert body(answer)["ips"] == [
        {"address": "10.32.7.9/32", "gateway": "169.254.1.1", "interface": 1}
    ]
    assert body(answer)["dns"] == {"nameservers": ["10.96.0.10"]}
    assert str(node.ipam.held[KEY].addresses[0]) == "10.32.7.9/32"
    port = node.router.ports[KEY].port
    assert port.routes == (Route(Prefix.parse("192.0.2.0/24")),)
    assert port.generation == node.ipam.held[KEY].generation


async def test_without_routes_of_its_own_ours_are_taken(node: Node, plugin: Plugin) -> None:
    plugin.answers({"ips": RESULT["ips"]})

    await run(node, "ADD")

    assert node.router.ports[KEY].port.routes is None


async def test_del_gives_back_after_the_interface_is_gone(node: Node, plugin: Plugin) -> None:
    await run(node, "ADD")
    node.stage.calls.clear()

    assert (await run(node, "DEL")).exit_code == 0

    assert plugin.calls == ["ADD", "DEL"]
    assert node.stage.calls == ["router.detach", "npc.retire", "ipam.release"]
    assert node.is_empty


async def test_s52_its_stderr_is_passed_on(node: Node, plugin: Plugin) -> None:
    del plugin
    assert (await run(node, "ADD")).stderr == b"told by ADD\n"


@pytest.mark.parametrize("command", ["CHECK", "DEL", "GC", "STATUS"])
async def test_s52_its_failures_surface(node: Node, plugin: Plugin, command: str) -> None:
    added = await run(node, "ADD")
    plugin.does(command, """echo '{"code":11,"msg":"busy","details":"later"}'; exit 1""")

    config = {"prevResult": body(added), "cni.dev/valid-attachments": []}
    answer = await run(node, command, **config)

    assert answer.exit_code == 1
    assert "other: busy" in answer.stdout.decode()
    assert answer.stderr == f"told by {command}\n".encode()


@pytest.mark.parametrize("command", ["CHECK", "GC", "STATUS"])
async def test_s36_s47_its_verbs_are_called(node: Node, plugin: Plugin, command: str) -> None:
    added = await run(node, "ADD")

    config = {"prevResult": body(added), "cni.dev/valid-attachments": []}
    assert (await run(node, command, **config)).exit_code == 0

    assert plugin.calls[0] == "ADD"
    assert plugin.calls[-1] == command


async def test_s22_when_it_fails_on_add_its_del_is_run(node: Node, plugin: Plugin) -> None:
    plugin.does("ADD", "exit 3")

    answer = await run(node, "ADD")

    assert body(answer)["code"] == 999
    assert body(answer)["msg"] == "other failed: told by ADD"
    assert plugin.calls == ["ADD", "DEL"]
    assert node.is_empty


async def test_s22_when_a_later_step_fails_its_del_is_run(node: Node, plugin: Plugin) -> None:
    node.stage.errors["router.prepare:before"] = NotReady("away")

    assert body(await run(node, "ADD"))["code"] == 11

    assert plugin.calls == ["ADD", "DEL"]
    assert node.is_empty


async def test_an_address_outside_the_universe_is_given_back(node: Node, plugin: Plugin) -> None:
    plugin.answers({"ips": [{"address": "192.0.2.9/24"}]})

    answer = await run(node, "ADD")

    assert body(answer)["code"] == 7
    assert "192.0.2.9/32 is outside 10.32.0.0/12" in body(answer)["msg"]
    assert plugin.calls == ["ADD", "DEL"]


async def test_s18_a_second_add_does_not_reach_it(node: Node, plugin: Plugin) -> None:
    """Its refusal of the second would be followed by a DEL of the first."""
    await run(node, "ADD")

    assert body(await run(node, "ADD"))["code"] == 100

    assert plugin.calls == ["ADD"]
    assert node.router.ports[KEY].is_open


async def test_what_an_add_that_died_had_got_is_used(node: Node, plugin: Plugin) -> None:
    await run(node, "ADD")
    node.router.ports.clear()

    assert (await run(node, "ADD")).exit_code == 0

    assert plugin.calls == ["ADD"]
    assert node.router.ports[KEY].port.addresses == (Prefix.parse("10.32.7.9"),)


async def test_a_plugin_that_hangs_is_ended(
    node: Node, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "PLUGIN_S", 0.05)
    plugin.does("ADD", "exec sleep 60")

    answer = await run(node, "ADD")

    assert body(answer)["code"] == 11
    assert body(answer)["msg"] == "other: no answer within 0.05 s"


async def test_a_plugin_that_is_not_there_is_named(node: Node) -> None:
    answer = await run(node, "ADD")

    assert body(answer)["code"] == 7
    assert f"IPAM plugin 'other' is in none of /none, {node.folder}/bin" in body(answer)["msg"]
    assert len(node.spool) == 0


async def test_a_plugin_that_is_gone_does_not_keep_the_pod(node: Node, plugin: Plugin) -> None:
    await run(node, "ADD")
    plugin.path.unlink()

    assert (await run(node, "DEL")).exit_code == 0

    assert node.is_empty


async def test_a_plugin_that_cannot_be_run_is_named(node: Node, plugin: Plugin) -> None:
    plugin.path.chmod(0o644)

    assert "other cannot be run: Permission denied" in body(await run(node, "ADD"))["msg"]


@pytest.mark.parametrize("name", ["../sh", "/bin/sh", "weave-net", "weave-ipam", "", "-x", "a b"])
def test_names_that_are_no_plugin_are_refused(name: str) -> None:
    with pytest.raises(CniError, match="names no IPAM plugin") as caught:
        check_name(name)

    assert caught.value.code is Code.INVALID_CONFIG


@pytest.mark.parametrize(
    "stdout",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ips":7}',
        b'{"ips":[]}',
        b'{"ips":[{}]}',
        b'{"ips":[{"address":7}]}',
        b'{"ips":[{"address":"x"}]}',
        b'{"ips":[{"address":"10.32.0.1/24"}],"routes":[{"dst":"x"}]}',
        b'{"ips":[{"address":"10.32.0.1/24"}],"dns":[1]}',
        b"[" * 100_000,
    ],
)
def test_a_result_that_is_none_is_undecodable(stdout: bytes) -> None:
    with pytest.raises(CniError, match="other: result") as caught:
        parse_delegated("other", stdout)

    assert caught.value.code is Code.DECODING_FAILURE


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "message"),
    [
        (b'{"code":11,"msg":"busy"}', b"", 11, "other: busy"),
        (b'{"code":4711,"msg":"odd"}', b"", 999, "other: odd"),
        (b"", b"panic: no", 999, "other failed: panic: no"),
        (b"oops\n", b"", 999, "other failed: oops"),
        (b"", b"", 999, "other failed: no reason given"),
        (b"[]", b"", 999, "other failed: []"),
        (b"\xff", b"", 999, "other failed: \ufffd"),
    ],
)
def test_its_error_keeps_code_and_message(
    stdout: bytes, stderr: bytes, code: int, message: str
) -> None:
    error = parse_error("other", stdout, stderr)

    assert (error.code, error.message) == (code, message)


async def test_the_plugin_gets_back_what_a_dead_sandbox_held(node: Node, plugin: Plugin) -> None:
    """containerd never calls GC, and may have lost its state: nobody else shows the plugin its
    configuration."""
    await run(node, "ADD", mtu=1400)
    node.router.ports[KEY].sandbox_exists = False

    await node.collector.collect_dead()
    await node.collector.collect_dead()

    assert node.is_empty
    assert plugin.calls == ["ADD", "DEL"]
    assert plugin.stdin("DEL")["mtu"] == 1400
    assert list((node.folder / "delegated").iterdir()) == []


@pytest.mark.parametrize("ends", ["DEL", "a failed ADD"])
async def test_nothing_is_kept_of_what_is_gone(node: Node, plugin: Plugin, ends: str) -> None:
    if ends == "DEL":
        await run(node, "ADD")
        await run(node, "DEL")
    else:
        plugin.does("ADD", "exit 1")
        await run(node, "ADD")

    assert list((node.folder / "delegated").iterdir()) == []


async def test_a_dead_sandbox_stays_until_its_plugin_can_be_asked(
    node: Node, plugin: Plugin
) -> None:
    await run(node, "ADD")
    node.router.ports[KEY].sandbox_exists = False
    plugin.does("DEL", "exit 1")
    await node.collector.collect_dead()

    failures = await node.collector.collect_dead()
    (plugin.folder / "DEL").unlink()
    await node.collector.collect("weave", [])

    assert len(failures) == 1
    assert node.is_empty
    assert plugin.calls == ["ADD", "DEL", "DEL"]


async def test_what_was_kept_and_cannot_be_read_hinders_nothing(node: Node, plugin: Plugin) -> None:
    await run(node, "ADD")
    (kept,) = (node.folder / "delegated").iterdir()
    kept.write_bytes(b"torn")

    await node.collector.collect("weave", [])

    assert node.is_empty
    assert plugin.calls == ["ADD"]
