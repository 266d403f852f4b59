"""The `weave-lab` command."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from weave_lab import demo, report
from weave_lab.errors import LabError
from weave_lab.lab import DEFAULT_RANGE, Lab, LabSpec
from weave_lab.layout import DEFAULT_NAME
from weave_lab.pods import Pod
from weave_lab.services import ALL, SERVICES

_SERVICE_HELP = ", ".join(service.name for service in SERVICES)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = _parser().parse_args(argv)
    # A `timeout` or a service manager must leave no more behind than Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except LabError as error:
        print(f"weave-lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _up(arguments: argparse.Namespace) -> int:
    spec = LabSpec(
        name=arguments.name,
        nodes=arguments.nodes,
        address_range=arguments.range,
        environment=dict(_assignment(text) for text in arguments.env),
    )
    if arguments.keep:
        Lab.create(spec, _say).start(_say)
    else:
        Lab.up(spec, _say)
    print(f"lab {spec.name!r} is up; try `weave-lab pod add n1 a` and `weave-lab status`")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).down()
    return 0


def _list(_: argparse.Namespace) -> int:
    print("\n".join(Lab.names()))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    facts = report.facts(Lab.open(arguments.name))
    print(json.dumps(facts, indent=4) if arguments.json else report.text(facts))
    return 0


def _pod_add(arguments: argparse.Namespace) -> int:
    pod = Lab.open(arguments.name).node(arguments.node).add_pod(arguments.pod)
    print(json.dumps(_pod_facts(pod), indent=4) if arguments.json else " ".join(pod.addresses))
    return 0


def _pod_del(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).node(arguments.node).delete_pod(arguments.pod)
    return 0


def _pod_exec(arguments: argparse.Namespace) -> int:
    node_name, separator, pod_name = arguments.target.partition("/")
    if not separator:
        raise LabError(f"{arguments.target!r} is no NODE/NAME")
    node = Lab.open(arguments.name).node(node_name)
    return _foreground([*node.pod(pod_name).enter(), *arguments.command], node.environment())


def _node_exec(arguments: argparse.Namespace) -> int:
    node = Lab.open(arguments.name).node(arguments.node)
    return _foreground([*node.enter(), *arguments.command], node.environment())


def _kill(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).node(arguments.node).kill(arguments.service)
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).node(arguments.node).stop(arguments.service)
    return 0


def _start(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).node(arguments.node).start(arguments.service)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    print(Lab.open(arguments.name).node(arguments.node).log(arguments.service), end="")
    return 0


def _cut(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).cut(arguments.one, arguments.other)
    return 0


def _heal(arguments: argparse.Namespace) -> int:
    Lab.open(arguments.name).heal(arguments.one, arguments.other)
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    return demo.main(arguments.name or demo.DEFAULT_NAME)


def _foreground(argv: Sequence[str], environment: dict[str, str]) -> int:
    """Runs with our own terminal; the shell's status for a signal is 128 + its number."""
    for name in ("TERM", "COLUMNS", "LINES"):
        if name in os.environ:
            environment[name] = os.environ[name]
    status = subprocess.call(list(argv), env=environment)
    return 128 - status if status < 0 else status


def _pod_facts(pod: Pod) -> dict[str, Any]:
    record = pod.record
    return {
        "node": pod.node.name,
        "name": pod.name,
        "addresses": pod.addresses,
        "containerID": record.sandbox.container_id,
        "netns": record.sandbox.netns,
        "add_s": record.add_s,
        "result": record.result,
    }


def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise LabError(f"{text!r} is no NAME=value")
    return name, value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weave-lab",
        description="A weave cluster in network namespaces of this machine, without Kubernetes.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_life_commands(commands)
    _add_pod_commands(commands)
    _add_fault_commands(commands)
    return parser


def _add_life_commands(commands: Any) -> None:
    up = _command(commands, "up", _up, "make a lab and wait until pods can be added")
    up.add_argument("--nodes", type=int, default=3, metavar="N", help="number of nodes (3)")
    up.add_argument(
        "--range",
        default=DEFAULT_RANGE,
        metavar="CIDR",
        help=f"addresses of pods ({DEFAULT_RANGE})",
    )
    up.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=value",
        help="environment of all services",
    )
    up.add_argument(
        "--keep", action="store_true", help="leave the lab standing when a service does not start"
    )
    _command(commands, "down", _down, "take a lab down, whatever state it is in")
    _command(commands, "list", _list, "names of all labs that are up")
    _with_json(_command(commands, "status", _status, "nodes, services and pods"))
    node = commands.add_parser("node", help="run programs in nodes")
    node_commands = node.add_subparsers(required=True, metavar="COMMAND")
    node_exec = _command(node_commands, "exec", _node_exec, "run a program in a node")
    node_exec.add_argument("node")
    node_exec.add_argument("command", nargs="+")
    run_demo = _command(
        commands, "demo", _demo, "bring up a cluster, use and break it, take it down"
    )
    run_demo.set_defaults(name="")


def _add_pod_commands(commands: Any) -> None:
    pod = commands.add_parser("pod", help="add, delete and use pods")
    pod_commands = pod.add_subparsers(required=True, metavar="COMMAND")
    add = _with_json(_command(pod_commands, "add", _pod_add, "add a pod; prints its addresses"))
    delete = _command(pod_commands, "del", _pod_del, "delete a pod; again is fine")
    for parser in (add, delete):
        parser.add_argument("node")
        parser.add_argument("pod", metavar="name")
    pod_exec = _command(pod_commands, "exec", _pod_exec, "run a program in a pod")
    pod_exec.add_argument("target", metavar="NODE/NAME")
    pod_exec.add_argument("command", nargs="+")


def _add_fault_commands(commands: Any) -> None:
    for name, run, text in (
        ("kill", _kill, "end a service by SIGKILL"),
        ("stop", _stop, "end a service by SIGTERM"),
        ("start", _start, "start a service and wait until it answers"),
    ):
        parser = _command(commands, name, run, text)
        parser.add_argument("node")
        parser.add_argument("service", help=f"{_SERVICE_HELP} or {ALL}")
    logs = _command(commands, "logs", _logs, "print what a service has logged")
    logs.add_argument("node")
    logs.add_argument("service", help=_SERVICE_HELP)
    for name, run, text in (
        ("cut", _cut, "stop all packets between two nodes"),
        ("heal", _heal, "undo `cut`"),
    ):
        parser = _command(commands, name, run, text)
        parser.add_argument("one", metavar="NODE")
        parser.add_argument("other", metavar="NODE")


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument("--name", default=DEFAULT_NAME, help=f"name of the lab ({DEFAULT_NAME})")
    return parser


def _with_json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
