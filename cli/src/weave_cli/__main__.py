"""The `weave` command."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from weave_cli import attaching, commands, leftovers, status
from weave_cli.node import Failure, Node
from weave_cli.report import report

DEFAULT_RUN_DIR = "/run/weave"

# What `weave status` and its sub-commands show, and whom they ask for it.
_STATUS = {
    "": (status.summary, ("gossip", "ipam", "router", "cni")),
    "connections": (status.connections, ("gossip", "router")),
    "peers": (status.peers, ("gossip",)),
    "targets": (status.targets, ("gossip",)),
    "ipam": (status.ipam, ("ipam",)),
    "paths": (status.paths, ("router", "gossip")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 1 when a service failed or did not answer."""
    arguments = _parser().parse_args(argv)
    run: Callable[[Node, argparse.Namespace], tuple[str, int]] = arguments.run
    try:
        with Node(arguments.run_dir) as node:
            text, exit_status = run(node, arguments)
    except Failure as failure:
        print(f"ERROR: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if text:
        print(text)
    return exit_status


def _status(node: Node, arguments: argparse.Namespace) -> tuple[str, int]:
    render, services = _STATUS[arguments.what or ""]
    answers = status.ask(node, *services)
    text = render(answers)
    # Indented as Weave Net prints it, to be told from the shell's own lines.
    return (f"\n{text}\n" if not arguments.what else text), int(bool(answers.problems))


def _report(node: Node, _: argparse.Namespace) -> tuple[str, int]:
    answers = status.ask(node, "gossip", "ipam", "router", "cni")
    return json.dumps(report(answers), indent=4), int(bool(answers.problems))


def _reset(node: Node, arguments: argparse.Namespace) -> tuple[str, int]:
    if arguments.files:
        return leftovers.remove(leftovers.Places(arguments.run_dir), force=arguments.force), 0
    return commands.reset(node, force=arguments.force), 0


def _version(node: Node, _: argparse.Namespace) -> tuple[str, int]:
    lines = [f"weave command {importlib.metadata.version('weave-cli')}"]
    answers = status.ask(node, "gossip")
    if answers.gossip:
        lines.append(f"weave {answers.gossip.version}")
    return "\n".join(lines), 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weave", description="Looks at and steers the pod network of this node."
    )
    default = os.environ.get("WEAVE_RUN_DIR") or DEFAULT_RUN_DIR
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=Path(default),
        metavar="DIR",
        help=f"directory of the services' sockets; environment WEAVE_RUN_DIR ({DEFAULT_RUN_DIR})",
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_questions(verbs)
    _add_actions(verbs)
    return parser


def _add_questions(verbs: Any) -> None:
    shown = _verb(verbs, "status", _status, "state of the services, the mesh and the addresses")
    shown.add_argument(
        "what", nargs="?", choices=list(filter(None, _STATUS)), help="one part in detail"
    )
    _verb(verbs, "report", _report, "everything as JSON")
    ps = _verb(
        verbs, "ps", lambda n, a: (commands.ps(n, a.ids), 0), "containers and their addresses"
    )
    ps.add_argument("ids", nargs="*", metavar="ID", help="container ids or beginnings of them")
    _verb(verbs, "version", _version, "version of the command and of the node")


def _add_actions(verbs: Any) -> None:
    connect = _verb(
        verbs,
        "connect",
        lambda n, a: (commands.connect(n, a.targets, replace=a.replace), 0),
        "add peers to dial",
    )
    connect.add_argument("--replace", action="store_true", help="forget all others")
    forget = _verb(
        verbs, "forget", lambda n, a: (commands.forget(n, a.targets), 0), "stop dialling peers"
    )
    for parser in (connect, forget):
        parser.add_argument("targets", nargs="+", metavar="HOST[:PORT]")
    _verb(verbs, "prime", lambda n, _: (commands.prime(n), 0), "wait until addresses can be given")
    rmpeer = _verb(
        verbs,
        "rmpeer",
        lambda n, a: (commands.rmpeer(n, a.peers, force=a.force), 0),
        "take over the addresses of dead peers",
    )
    rmpeer.add_argument(
        "--force",
        action="store_true",
        help="also while other owners of addresses are out of reach, who may know more",
    )
    rmpeer.add_argument("peers", nargs="+", metavar="NAME")
    ipam = _verb(
        verbs,
        "ipam",
        lambda n, a: commands.check_ipam(n, repair=a.repair),
        "find addresses that are leaked or in conflict",
    )
    ipam.add_argument("what", choices=["check"])
    ipam.add_argument("--repair", action="store_true", help="free what is provably dead")
    reset = _verb(
        verbs,
        "reset",
        _reset,
        "hand this node's addresses over and remove its data path",
    )
    reset.add_argument(
        "--files",
        action="store_true",
        help="afterwards, when the services have stopped: remove state, sockets and the plugin",
    )
    reset.add_argument("--force", action="store_true", help="also when the cluster is out of reach")
    attach = _verb(
        verbs,
        "attach",
        lambda n, a: (attaching.attach(n, a.words, a.interface), 0),
        "give a running container or network namespace an interface",
    )
    attach.add_argument(
        "words",
        nargs="+",
        metavar="[ADDRESS...] CONTAINER",
        help="wanted addresses; then a container id, a process, a path or name of a namespace",
    )
    detach = _verb(
        verbs,
        "detach",
        lambda n, a: (attaching.detach(n, a.target, a.interface), 0),
        "take such an interface away",
    )
    detach.add_argument("target", metavar="CONTAINER")
    for parser in (attach, detach):
        parser.add_argument(
            "--interface", default=attaching.INTERFACE, metavar="NAME", help="its name inside"
        )
    _verb(verbs, "expose", lambda n, _: (commands.expose(n), 0), "give the host access to pods")
    _verb(verbs, "hide", lambda n, _: (commands.hide(n), 0), "take the host's access to pods away")


def _verb(
    verbs: Any, name: str, run: Callable[[Node, argparse.Namespace], tuple[str, int]], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
