"""Options of the gossip service."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from weave_gossip.target import Target, parse_target
from weave_gossip.underlay import show_addresses
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, parse_address
from weave_runtime.config import option, parse_count, parse_int
from weave_runtime.options import CommonOptions, hide_password

DEFAULT_PORT = 6783
# Weave Net's default was 200. A small mesh is a full one up to this; a large one wants 14 links and
# takes up to 20, see core/overlay.py.
DEFAULT_CONN_LIMIT = 30
# Kubernetes names and DNS names are shorter.
MAX_TEXT_BYTES = 253
# A pod network on fewer addresses is a mistake (Weave Net's rule).
_MIN_UNIVERSE_SIZE = 4
# RFC 1123 labels, as Kubernetes wants them.
_CONFIGMAP = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def _parse_port(text: str) -> int:
    port = parse_int(text)
    if not 0 < port < 1 << 16:
        raise ValueError("expected a port between 1 and 65535")
    return port


def _parse_address_bytes(text: str) -> bytes:
    family, address = parse_address(text)
    return address.to_bytes(family.octets, "big")


def _parse_universe(text: str) -> Prefix:
    prefix = Prefix.parse(text)
    if prefix.size < _MIN_UNIVERSE_SIZE:
        raise ValueError(f"expected a range of at least {_MIN_UNIVERSE_SIZE} addresses")
    return prefix


def _parse_label(text: str) -> str:
    if len(text.encode()) > MAX_TEXT_BYTES or not text.isprintable():
        raise ValueError(f"expected at most {MAX_TEXT_BYTES} printable bytes")
    return text


def _parse_coordination(text: str) -> str:
    scheme, _, rest = text.partition(":")
    if scheme == "file" and rest.startswith("/"):
        return text
    if scheme == "redis" and urlsplit(text).hostname:
        return text
    if scheme == "configmap" and _CONFIGMAP.fullmatch(rest):
        return text
    raise ValueError(
        "expected file:/PATH, redis://HOST[:PORT][/DATABASE] or configmap:NAMESPACE/NAME"
    )


def _parse_peer(text: str) -> str:
    # The default port depends on another option: only the form is judged here.
    parse_target(text, DEFAULT_PORT)
    return text


def _parse_host(text: str) -> str:
    parse_address(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Config(CommonOptions):
    """Everything that may be set; see `option` for how flags and environment names follow."""

    socket_path: Path = option(
        Path("/run/weave/gossip/api.sock"), help="unix socket of the gRPC interface"
    )
    state_dir: Path = option(Path("/var/lib/weave/gossip"), help="directory of the durable state")
    http_addr: str = option(
        "127.0.0.1:6786", help="host:port of health, readiness and metrics; empty: off"
    )
    name: PeerName | None = option(
        None, parse=PeerName.parse, help="peer name; default: made once and kept"
    )
    nickname: str = option(
        "", parse=_parse_label, help="name for people; default: the Node's or the host's name"
    )
    host: str = option("", parse=_parse_host, help="address to listen on; empty: all")
    port: int = option(
        DEFAULT_PORT, env="WEAVE_MESH_PORT", parse=_parse_port, help="TCP port of the mesh"
    )
    cluster_id: str = option("", parse=_parse_label, help="meshes with different ids never mix")
    underlay_address: tuple[bytes, ...] = option(
        (),
        parse=_parse_address_bytes,
        show=lambda value: value if isinstance(value, str) else show_addresses(value),
        help="where peers send packets, repeatable; default: found by the route to a peer",
    )
    ipalloc_range: tuple[Prefix, ...] = option(
        (),
        env="IPALLOC_RANGE",
        parse=_parse_universe,
        help="address ranges shared out, one per family",
    )
    conn_limit: int = option(
        DEFAULT_CONN_LIMIT, env="CONN_LIMIT", parse=parse_count, help="most links; 0: no limit"
    )
    no_discovery: bool = option(False, help="dial the given peers only")
    peers: tuple[str, ...] = option(
        (),
        env="KUBE_PEERS",
        parse=_parse_peer,
        positional=True,
        help="peers to dial; also as arguments",
    )
    resume: bool = option(False, help="use the peers of the last run instead of given ones")
    password: str = option(
        "", secret=True, help="secret that all peers share; empty: no encryption"
    )
    password_previous: str = option("", secret=True, help="secret still accepted during a rotation")
    node_uid: str = option("", parse=_parse_label, help="UID of the Kubernetes Node; an attribute")
    coordination: str = option(
        "",
        parse=_parse_coordination,
        show=hide_password,
        help="file:/PATH, redis://HOST or configmap:NAMESPACE/NAME; default: a file in the state "
        "directory (one node only)",
    )
    kube_node: str = option(
        "", parse=_parse_label, help="Kubernetes Node this is; peers are then the other Nodes"
    )
    kube_startup_taint: str = option(
        "", parse=_parse_label, help="key of a taint to take off the Node once its network works"
    )

    def __post_init__(self) -> None:
        if self.resume and self.peers:
            raise ValueError(
                "option resume: --resume uses the peers of the last run; give no others"
            )
        if self.password_previous and not self.password:
            raise ValueError("option password-previous: set password too")
        if len(self.password_set) != len(set(self.password_set)):
            raise ValueError("option password-previous: it is the same as password")
        families = [prefix.family for prefix in self.ipalloc_range]
        if len(families) != len(set(families)):
            shown = ", ".join(map(str, self.ipalloc_range))
            raise ValueError(f"option ipalloc-range: one range per family, not {shown}")

    @property
    def password_set(self) -> tuple[str, ...]:
        """The secrets accepted, current first."""
        return tuple(secret for secret in (self.password, self.password_previous) if secret)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The given peers, without repetitions."""
        return tuple(dict.fromkeys(parse_target(text, self.port) for text in self.peers))

    @property
    def shown_nickname(self) -> str:
        """The nickname, by default the Node's name, else the host's."""
        return self.nickname or self.kube_node or re.sub(r"[^ -~]", "?", socket.gethostname())

    @property
    def universes(self) -> tuple[str, ...]:
        """The ranges as normalised text, IPv4 first."""
        return tuple(map(str, sorted(self.ipalloc_range)))
