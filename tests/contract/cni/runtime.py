"""A container runtime that does what a test says: sandboxes and single calls of one plugin."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.contract.cni.place import SYSTEM_PATH, Outcome, Place, Program

INTERFACE = "eth0"


@dataclass(frozen=True, slots=True)
class Subject:
    """A plugin under test: where it is, how it is configured, what else may be known of it."""

    name: str
    place: Place
    executable: str
    # Search path of plugins.
    path: str
    # Without cniVersion and name.
    config: Mapping[str, Any]
    # Of the IPv4 addresses it puts on interfaces.
    length: int = 24
    gateway: str = "10.40.79.1"
    # What the configuration needs besides, to work with another IPAM plugin than its own.
    delegating: Mapping[str, Any] = field(default_factory=dict)
    # What the kit uses where a test is not about versions.
    version: str = "1.0.0"
    versions: tuple[str, ...] = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
    # Container ids that its address management holds in a network; none: cannot be known.
    holders: Callable[[str], set[str]] | None = None
    # Makes its address management forget a container of a network.
    forget: Callable[[str, str], None] | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network namespace and the id of the container it belongs to."""

    name: str
    container_id: str

    @property
    def netns(self) -> str:
        """Its path."""
        return f"/run/netns/{self.name}"


@dataclass
class Runtime:
    """Calls one plugin for one network; what was made is taken away by `clean_up`."""

    subject: Subject
    network: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _sandboxes: list[Sandbox] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Where the plugin runs."""
        return self.subject.place

    def sandbox(self) -> Sandbox:
        """A new network namespace with loopback up."""
        name = f"{self.network}-{next(self._numbers)}"
        made = Sandbox(name, secrets.token_hex(16))
        self.place.shell("ip", "netns", "add", name)
        self.place.shell("ip", "-n", name, "link", "set", "lo", "up")
        self._sandboxes.append(made)
        return made

    def remove(self, sandbox: Sandbox) -> None:
        """Removes the namespace, as a crash of the sandbox does."""
        self.place.shell("ip", "netns", "delete", sandbox.name)

    def config(self, **changes: Any) -> dict[str, Any]:
        """The plugin's configuration; a change to None takes the field away."""
        config: dict[str, Any] = {
            "cniVersion": self.subject.version,
            "name": self.network,
            **self.subject.config,
            **changes,
        }
        return {key: value for key, value in config.items() if value is not None}

    def program(
        self,
        command: str,
        sandbox: Sandbox | None,
        config: Mapping[str, Any] | str | None = None,
        **environ: str | None,
    ) -> Program:
        """A call as a runtime makes it; an environment variable None is left out."""
        variables: dict[str, str | None] = {
            "PATH": SYSTEM_PATH,
            "CNI_COMMAND": command,
            "CNI_PATH": self.subject.path,
        }
        if sandbox:
            variables |= {
                "CNI_CONTAINERID": sandbox.container_id,
                "CNI_NETNS": sandbox.netns,
                "CNI_IFNAME": INTERFACE,
            }
        variables |= environ
        stdin = config if isinstance(config, str) else json.dumps(config or self.config())
        present = {name: value for name, value in variables.items() if value is not None}
        return Program([self.subject.executable], present, stdin)

    def call(
        self,
        command: str,
        sandbox: Sandbox | None,
        config: Mapping[str, Any] | str | None = None,
        **environ: str | None,
    ) -> Outcome:
        """One call; its failure is for the test to judge."""
        (outcome,) = self.place.run(self.program(command, sandbox, config, **environ))
        return outcome

    def add(self, sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
        """ADD that must succeed; gives the result."""
        outcome = self.call("ADD", sandbox, self.config(**changes))
        assert outcome.status == 0, outcome.stdout + outcome.stderr
        return dict(outcome.body)

    def check(self, sandbox: Sandbox, result: Mapping[str, Any], **changes: Any) -> Outcome:
        """CHECK with the result of ADD."""
        return self.call("CHECK", sandbox, self.config(prevResult=result, **changes))

    def delete(
        self, sandbox: Sandbox, result: Mapping[str, Any] | None = None, **changes: Any
    ) -> Outcome:
        """DEL."""
        return self.call("DEL", sandbox, self.config(prevResult=result, **changes))

    def holders(self) -> set[str]:
        """Container ids that hold an address in this network."""
        assert self.subject.holders, f"nobody can see the addresses of {self.subject.name}"
        return self.subject.holders(self.network)

    def host_links(self) -> set[str]:
        """Interfaces of the host, but for the ones that a plugin makes once and keeps."""
        return {
            link["ifname"]
            for link in self.place.json("ip", "-json", "-details", "link")
            if link.get("linkinfo", {}).get("info_kind") == "veth"
        }

    def assert_no_links_beyond(self, before: set[str], timeout_s: float = 5.0) -> None:
        """The host has no link that it had not `before`.

        Waits a little: the kernel takes namespaces, and the links into them, apart by and by.
        """
        deadline = time.monotonic() + timeout_s
        while more := self.host_links() - before:
            assert time.monotonic() < deadline, f"left: {more}"
            time.sleep(0.02)

    def inside(self, sandbox: Sandbox, *argv: str) -> Any:
        """What `ip -json` says in the sandbox."""
        return self.place.json("ip", "-json", "-n", sandbox.name, *argv)

    def change(self, sandbox: Sandbox, *argv: str) -> None:
        """Changes something in the sandbox by `ip`."""
        self.place.shell("ip", "-n", sandbox.name, *argv)

    def addresses(self, sandbox: Sandbox, interface: str = INTERFACE) -> set[str]:
        """Global addresses of an interface in the sandbox, without lengths."""
        links = self.inside(sandbox, "address", "show", "dev", interface)
        return {
            entry["local"]
            for link in links
            for entry in link.get("addr_info", ())
            if entry["scope"] == "global"
        }

    def interfaces(self, sandbox: Sandbox) -> set[str]:
        """Names of the interfaces in the sandbox."""
        return {link["ifname"] for link in self.inside(sandbox, "link")}

    def clean_up(self) -> None:
        """DEL for every sandbox, then its namespace goes."""
        for sandbox in self._sandboxes:
            self.delete(sandbox)
        present = self.place.shell("ip", "netns", "list").split()
        for sandbox in self._sandboxes:
            if sandbox.name in present:
                self.remove(sandbox)
