"""A listener and a judge of what it hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weave_router.kernel.api import Concern
from weave_router.kernel.netlink.listener import Listener, Overrun
from weave_router.kernel.netlink.wire import Message


class Watch:
    """See `api.EventSource`."""

    def __init__(
        self,
        listener: Listener,
        judge: Callable[[Sequence[Message]], Concern],
        is_in_doubt: Callable[[], bool] = lambda: False,
    ) -> None:
        self._listener = listener
        self._judge = judge
        self._is_in_doubt = is_in_doubt
        self._has_lost = False

    def fileno(self) -> int:
        """See `api.EventSource`."""
        return self._listener.fileno()

    def read(self) -> Concern:
        """See `api.EventSource`. When events were lost, everything is to be looked at: at once, and
        again when the rest is read, since the kernel tells nothing more until then."""
        try:
            concern = self._judge(self._listener.read())
        except Overrun:
            self._has_lost = True
            return Concern.STATE | Concern.UPLINKS | Concern.MORE
        if not self._listener.is_drained:
            return concern | Concern.MORE
        if self._has_lost:
            self._has_lost = False
            concern |= Concern.STATE | Concern.UPLINKS
        return concern

    def is_in_doubt(self) -> bool:
        """See `api.EventSource`."""
        return self._is_in_doubt()

    def close(self) -> None:
        """See `api.EventSource`."""
        self._listener.close()
