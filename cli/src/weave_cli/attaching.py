"""weave attach and detach: an interface of the overlay in a namespace that runs already."""

from __future__ import annotations

from collections.abc import Sequence

from weave.cni.v1 import cni_pb2
from weave.router.v1 import router_pb2
from weave.types.v1 import types_pb2
from weave_cli import sandboxes, text
from weave_cli.node import ANSWER_TIMEOUT_S, Failure, Node, failures_of
from weave_model.prefix import Prefix

# As Weave Net names the interface.
INTERFACE = "ethwe"
# A network of its own: a runtime's GC frees what it does not know in its own network only.
NETWORK = "weave-attach"
# An address may have to be asked for from another peer.
ATTACH_TIMEOUT_S = 65.0


def attach(node: Node, words: Sequence[str], interface: str) -> str:
    """Attaches the namespace that the last word means; the others are wanted addresses.

    Prints its addresses. Repeated, it prints those that it has.
    """
    *wanted, target = words
    sandbox = sandboxes.find_running(target)
    request = cni_pb2.AttachRequest(
        key=_key(sandbox, interface),
        netns_path=sandbox.netns,
        workload=types_pb2.Workload(name=target),
        requested=map(_prefix, wanted),
    )
    try:
        with failures_of("cni-shim"):
            answer = node.cni.Attach(request, timeout=ATTACH_TIMEOUT_S)
    except Failure:
        _let_go_unless_used(node, sandbox)
        raise
    return " ".join(map(text.cidr, answer.addresses))


def detach(node: Node, target: str, interface: str) -> str:
    """Detaches it, also when it is gone. Prints the addresses it had."""
    sandbox = sandboxes.find(target)
    request = cni_pb2.DetachRequest(key=_key(sandbox, interface), netns_path=sandbox.netns)
    with failures_of("cni-shim"):
        answer = node.cni.Detach(request, timeout=ATTACH_TIMEOUT_S)
    _let_go_unless_used(node, sandbox)
    return " ".join(map(text.cidr, answer.addresses))


def _let_go_unless_used(node: Node, sandbox: sandboxes.Sandbox) -> None:
    """Another interface of the same namespace needs its name still; so does one nobody can see."""
    if not sandboxes.is_named_here(sandbox):
        return
    request = router_pb2.ListAttachmentsRequest(network=NETWORK)
    try:
        with failures_of("router"):
            items = node.router.ListAttachments(request, timeout=ANSWER_TIMEOUT_S).items
    except Failure:
        return
    if all(item.attachment.key.container_id != sandbox.container_id for item in items):
        sandboxes.let_go(sandbox)


def _key(sandbox: sandboxes.Sandbox, interface: str) -> types_pb2.AttachmentKey:
    return types_pb2.AttachmentKey(
        network=NETWORK, container_id=sandbox.container_id, interface=interface
    )


def _prefix(word: str) -> types_pb2.Prefix:
    """`10.32.1.5`, or with the length of its subnet as Weave Net takes it, which says nothing."""
    try:
        address = Prefix.parse(word.partition("/")[0])
    except ValueError as error:
        raise Failure(f"{word} is no address") from error
    return types_pb2.Prefix(address=address.to_bytes(), length=address.length)
