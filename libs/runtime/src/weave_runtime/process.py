"""One process: logs, signals, supervised tasks, exit status."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from weave_model.errors import DomainError
from weave_runtime import logs, removal, telemetry
from weave_runtime.config import describe
from weave_runtime.options import CommonOptions

C = TypeVar("C", bound=CommonOptions)

GRACE_S = 10.0
# What tasks and exporters may take beyond the grace period before the process is cut off.
_LAST_RESORT_S = 5
_CANCEL_AGAIN_S = 3.0

log = logging.getLogger(__name__)


class Supervisor:
    """Owns the background tasks of a service: none outlives it, and none dies unnoticed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop = asyncio.Event()
        self.has_failed = False

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Runs `work` in the background. If it raises, the service stops with exit status 1.

        Once the service is to stop that is no failure: channels are closed around the work. When it
        is cancelled it has 3 s to end.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def stop(self) -> None:
        """Asks the service to stop. Idempotent."""
        self._stop.set()

    async def stopped(self) -> None:
        """Returns when the service is to stop."""
        await self._stop.wait()

    def fail(self, what: str, error: BaseException) -> None:
        """Stops the service with exit status 1 and says why; no traceback of an expected error."""
        self.has_failed = True
        trace = None if isinstance(error, DomainError) else error
        log.critical("%s: %s", what, str(error) or type(error).__name__, exc_info=trace)
        self.stop()

    async def close(self) -> None:
        """Cancels what still runs and waits for it.

        Again, where that was lost: what is done and cancelled at the same time goes on.
        """
        while tasks := {task for task in self._tasks if not task.done()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or not (error := task.exception()):
            return
        if self._stop.is_set():
            log.info("ended while stopping", extra={"task": task.get_name(), "reason": str(error)})
        else:
            self.fail(f"background task {task.get_name()} failed", error)


def run(
    main: Callable[[C, Supervisor], Coroutine[Any, Any, None]],
    config: C,
    *,
    service: str,
    grace_s: float = GRACE_S,
) -> int:
    """Runs a service to its end and gives the exit status.

    `main` wires the service, waits for `supervisor.stopped()` and cleans up. SIGTERM and SIGINT ask
    it to stop within `grace_s`; a second signal ends the process at once. The last life of a
    service that is uninstalled ends without its state.
    """
    logs.set_up(service, logging.getLevelName(config.log_level.name), config.log_format.value)
    log.info("Command line options: %s", describe(config))
    faulthandler.enable()
    end_telemetry = telemetry.start(config.otlp_endpoint, service)
    try:
        return asyncio.run(_supervise(main, config, grace_s), debug=False)
    finally:
        # Before what may take a while: others wait for it.
        if removal.is_marked(config.run_dir):
            _remove_state(config.state_dir)
        end_telemetry()
        faulthandler.cancel_dump_traceback_later()


def _remove_state(state_dir: Path) -> None:
    try:
        removal.empty(state_dir)
    except OSError as error:
        log.warning("state of an uninstalled service is left: %s", error)
    else:
        log.info("state removed: this service is uninstalled", extra={"folder": str(state_dir)})


async def _supervise(
    main: Callable[[C, Supervisor], Coroutine[Any, Any, None]], config: C, grace_s: float
) -> int:
    supervisor = Supervisor()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_lost_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, supervisor, number, grace_s)
    body = asyncio.create_task(main(config, supervisor))
    stop = asyncio.create_task(supervisor.stopped())
    try:
        await asyncio.wait({body, stop}, return_when=asyncio.FIRST_COMPLETED)
        _limit_stop(grace_s)
        await asyncio.wait({body}, timeout=grace_s)
        if not body.done():
            supervisor.fail("stopping failed", TimeoutError(f"not done within {grace_s:g} s"))
            body.cancel()
            await asyncio.wait({body})
        elif not body.cancelled() and (error := body.exception()):
            supervisor.fail("cannot go on", error)
    finally:
        stop.cancel()
        await supervisor.close()
    return int(supervisor.has_failed)


def _limit_stop(grace_s: float) -> None:
    # Ends a process whose event loop hangs, and shows where. SIGALRM would not: the kernel
    # withholds the default action of a signal from the first process of a container.
    faulthandler.dump_traceback_later(grace_s + _LAST_RESORT_S, exit=True)


def _on_signal(supervisor: Supervisor, number: signal.Signals, grace_s: float) -> None:
    _limit_stop(grace_s)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(each)
        signal.signal(each, lambda *_: os._exit(128 + number))
    log.info("stopping", extra={"signal": number.name})
    supervisor.stop()


def _log_lost_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("%s", context["message"], exc_info=context.get("exception"))
