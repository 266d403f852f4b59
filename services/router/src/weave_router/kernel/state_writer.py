"""Operations carried out: netlink requests in batches, nft transactions and /proc/sys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weave_router.core.diff import Add, Change, LoadRuleset, Operation, Remove, UpdateSets
from weave_router.core.state import Accept, KernelObject, KernelState, Link, Sysctl
from weave_router.kernel import encode, foreign, sysctl
from weave_router.kernel.api import Failed
from weave_router.kernel.netlink import links
from weave_router.kernel.netlink.socket import NetlinkSocket
from weave_router.kernel.netlink.wire import Request
from weave_router.kernel.nftables import Nftables, NftablesError
from weave_router.kernel.table import WeaveTable


class StateWriter:
    """Writes by one socket; not safe for two threads at once."""

    def __init__(
        self, netlink: NetlinkSocket, nft: Nftables, table: WeaveTable, proc_sys: Path
    ) -> None:
        self._socket = netlink
        self._nft = nft
        self._table = table
        self._proc_sys = proc_sys
        # Index of devices by name; looked up anew where one is missing.
        self._indexes: dict[str, int] = {}

    def apply(self, operations: Sequence[Operation], indexes: dict[str, int]) -> list[Failed]:
        """See `api.Kernel`. `indexes`: of devices by name, as far as known; kept in step."""
        self._indexes = indexes
        batch = _Batch(self._socket)
        for operation in operations:
            self._apply_one(operation, batch)
        batch.flush()
        return batch.failed

    def remove(self, state: KernelState, indexes: dict[str, int]) -> list[str]:
        """Removes all of a state and the table; what could not be removed comes back as text."""
        removals: list[KernelObject] = [*state.accepts, *state.rules, *state.routes, *state.links]
        failed = self.apply([Remove(item) for item in removals], indexes)
        left = [f"{each.operation}: {each.reason}" for each in failed]
        try:
            self._table.remove()
        except NftablesError as error:
            left.append(f"table inet weave: {error}")
        return left

    def _apply_one(self, operation: Operation, batch: _Batch) -> None:
        try:
            match operation:
                case LoadRuleset(body):
                    batch.flush()
                    self._table.load(body)
                case UpdateSets(removed, added):
                    batch.flush()
                    self._table.update(removed, added)
                case Add(Accept() as rule) | Remove(Accept() as rule):
                    batch.flush()
                    change = foreign.add if isinstance(operation, Add) else foreign.remove
                    change(self._nft, rule)
                case Add(Sysctl() as switch) | Change(_, Sysctl() as switch):
                    batch.flush()
                    sysctl.write(switch.path, switch.value, self._proc_sys)
                case Add(Link() as link):
                    batch.flush()
                    self._make_link(link)
                case _:
                    if isinstance(operation, Remove) and isinstance(operation.what, Link):
                        self._indexes.pop(operation.what.name, None)
                    batch.add(operation, encode.requests(operation, self._index))
        except (OSError, NftablesError) as error:
            batch.failed.append(Failed(operation, str(error)))

    def _make_link(self, link: Link) -> None:
        self._socket.execute_all([links.create(link)])
        self._socket.execute_all(links.change(link))
        self._indexes.pop(link.name, None)

    def _index(self, name: str) -> int:
        index = self._indexes.get(name)
        if index is None:
            index = links.decode(self._socket.get(links.get(name))).index
            self._indexes[name] = index
        return index


@dataclass(slots=True)
class _Batch:
    """Collects requests of several operations and remembers whose each is."""

    socket: NetlinkSocket
    failed: list[Failed] = field(default_factory=list)
    _requests: list[Request] = field(default_factory=list)
    _owners: dict[int, Operation] = field(default_factory=dict)

    def add(self, operation: Operation, requests: Iterable[Request]) -> None:
        for request in requests:
            self._requests.append(request)
            self._owners[id(request)] = operation

    def flush(self) -> None:
        failures = self.socket.execute(self._requests)
        self.failed += [Failed(self._owners[id(f.request)], str(f.error)) for f in failures]
        self._requests = []
        self._owners = {}
