"""One call of the plugin: environment and configuration, read and judged.

The order of the checks is that of the Go reference skeleton, with which every runtime was tested:
environment, decoding, network name, container id, interface name, version. S-numbers name the
requirement that a check fulfils.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from weave_cni_shim.core.config import OWN_IPAM, NetworkConfig, parse_config
from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.frame import Request
from weave_cni_shim.core.versions import NEWEST, require_verb
from weave_cni_shim.core.wishes import Wishes, is_true, parse_wishes
from weave_model.attachment import AttachmentKey, ContainerId, is_interface_name

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


class Command(enum.StrEnum):
    """The verbs of CNI 1.1."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


_REQUIRED = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    Command.GC: ("CNI_PATH",),
    Command.STATUS: ("CNI_PATH",),
    Command.VERSION: (),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that may be carried out. GC and STATUS have no `container_id` and `interface`."""

    command: Command
    config: NetworkConfig
    container_id: str
    interface: str
    # Path; may be empty in a DEL, and may name what is gone.
    netns: str
    arguments: str
    may_use_own_netns: bool
    is_ipam: bool
    traceparent: str
    # Directories where the runtime has its plugins, as the runtime sees them.
    path: str
    # All of it, for an IPAM plugin, which is to see what we saw.
    request: Request

    @property
    def key(self) -> AttachmentKey:
        """The identity of the attachment the call is about."""
        return AttachmentKey(self.config.name, ContainerId(self.container_id), self.interface)

    def wishes(self) -> Wishes:
        """What an ADD asks for. Raises CniError."""
        return parse_wishes(self.config, self.arguments, is_ipam=self.is_ipam)


def parse_command(environ: Mapping[str, str]) -> Command:
    """Reads CNI_COMMAND. Raises CniError (S08)."""
    word = environ.get("CNI_COMMAND", "")
    try:
        return Command(word)
    except ValueError:
        raise CniError(Code.INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {word!r}") from None


def parse_call(request: Request) -> Call:
    """Reads and judges a whole call. Raises CniError."""
    environ = request.environ
    command = parse_command(environ)
    missing = [name for name in _REQUIRED[command] if not environ.get(name)]
    if missing:
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing"
        )
    config = parse_config(request.stdin, name_required=command is not Command.VERSION)
    container_id, interface = environ.get("CNI_CONTAINERID", ""), environ.get("CNI_IFNAME", "")
    netns = environ.get("CNI_NETNS", "")
    if "CNI_CONTAINERID" in _REQUIRED[command]:
        _check_identity(container_id, interface)
    if command is Command.DEL and not _is_text(netns):
        netns = ""
    for name in ("CNI_NETNS", "CNI_ARGS"):
        if command is not Command.DEL and not _is_text(environ.get(name, "")):
            raise CniError(Code.INVALID_ENVIRONMENT, f"{name} is no UTF-8 text")
    require_verb(command.value, config.cni_version)
    return Call(
        command=command,
        config=config,
        container_id=container_id,
        interface=interface,
        netns=netns,
        arguments=environ.get("CNI_ARGS", ""),
        may_use_own_netns=is_true(environ.get("CNI_NETNS_OVERRIDE", "")),
        is_ipam=environ.get("WEAVE_ARGV0") == OWN_IPAM,
        traceparent=environ.get("TRACEPARENT", ""),
        path=environ.get("CNI_PATH", ""),
        request=request,
    )


def removal(key: AttachmentKey, netns: str) -> Request:
    """The DEL that a runtime would send for an attachment."""
    environ = {
        "CNI_COMMAND": Command.DEL.value,
        "CNI_CONTAINERID": str(key.container_id),
        "CNI_IFNAME": key.interface,
        "CNI_NETNS": netns,
        # Must not be empty, and is not used.
        "CNI_PATH": "-",
    }
    return Request(environ, json.dumps({"cniVersion": NEWEST, "name": key.network}).encode())


def removal_of(request: Request) -> Request:
    """The DEL that takes back what a request made."""
    return Request({**request.environ, "CNI_COMMAND": Command.DEL.value}, request.stdin)


def _check_identity(container_id: str, interface: str) -> None:
    if not _CONTAINER_ID.fullmatch(container_id):
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"invalid characters in CNI_CONTAINERID {container_id!r}"
        )
    if not is_interface_name(interface) or not _is_text(interface):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_IFNAME {interface!r} is no interface name (1 to 15 characters, "
            "no slash, colon or white space)",
        )


def _is_text(value: str) -> bool:
    """Bytes that are no UTF-8 arrive as lone surrogates, which no later step can pass on."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
