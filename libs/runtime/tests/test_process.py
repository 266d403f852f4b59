"""A process from its start to its exit status. Each test runs a real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from weave_model.errors import Conflict
from weave_runtime import removal
from weave_runtime.process import Supervisor

PRELUDE = """
import asyncio, os, sys, time
from dataclasses import dataclass
from pathlib import Path
from weave_model.errors import Conflict
from weave_runtime import process
from weave_runtime.config import load_or_exit, option
from weave_runtime.options import CommonOptions

@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    socket_path: Path = option(Path("/nowhere/api.sock"), help="socket")
    state_dir: Path = option(Path("/nowhere"), help="state")
    password: str = option("", secret=True, help="secret")

def tell(what):
    print(what, flush=True)
"""
END = """
options = load_or_exit(Options, sys.argv[1:], os.environ, prog="weave-toy")
sys.exit(process.run(main, options, service="toy", grace_s=GRACE_S))
"""
WAITING = """
    async def main(options, supervisor):
        tell("ready")
        await supervisor.stopped()
        tell("cleaned up")
"""


async def start(main: str, *argv: str, grace_s: float = 10, **environ: str) -> Process:
    program = PRELUDE + textwrap.dedent(main) + END.replace("GRACE_S", str(grace_s))
    command = [sys.executable, "-W", "error", "-c", program, *argv]
    return await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=PIPE, env=os.environ | environ
    )


async def told(process: Process) -> str:
    """Reads what the program tells next."""
    assert process.stdout
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().strip()


async def end_of(process: Process) -> tuple[int | None, str]:
    """Gives exit status and standard error."""
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_gracefully(number: signal.Signals) -> None:
    process = await start(WAITING)
    await told(process)

    process.send_signal(number)

    assert await told(process) == "cleaned up"
    status, err = await end_of(process)
    assert status == 0
    assert f"stopping signal={number.name}" in err


async def test_second_signal_ends_at_once() -> None:
    process = await start("""
        async def main(options, supervisor):
            tell("ready")
            await supervisor.stopped()
            tell("stopping")
            await asyncio.Event().wait()
    """)
    await told(process)
    process.terminate()
    await told(process)

    process.terminate()

    assert (await end_of(process))[0] == 128 + signal.SIGTERM


async def test_stop_that_takes_too_long_is_cut_off() -> None:
    main = """
        async def main(options, supervisor):
            tell("ready")
            try:
                await asyncio.Event().wait()
            finally:
                tell("cancelled")
    """
    process = await start(main, grace_s=0.05)
    await told(process)

    process.terminate()

    assert await told(process) == "cancelled"
    status, err = await end_of(process)
    assert status == 1
    assert "stopping failed: not done within 0.05 s" in err


async def test_hanging_event_loop_is_cut_off_and_shown() -> None:
    main = """
        process._LAST_RESORT_S = 0.05

        async def main(options, supervisor):
            tell("ready")
            await supervisor.stopped()
            time.sleep(60)
    """
    process = await start(main, grace_s=0.05)
    await told(process)

    process.terminate()

    status, err = await end_of(process)
    assert status == 1
    assert "Timeout (0:00:00.100000)!" in err
    assert " in main\n" in err


async def test_dying_background_task_stops_the_service() -> None:
    process = await start("""
        async def work():
            raise RuntimeError("broken")

        async def main(options, supervisor):
            supervisor.start("reconcile", work())
            await supervisor.stopped()
            tell("cleaned up")
    """)

    assert await told(process) == "cleaned up"
    status, err = await end_of(process)
    assert status == 1
    assert "background task reconcile failed: broken" in err
    assert "RuntimeError: broken" in err


async def test_finished_background_task_is_no_failure() -> None:
    process = await start("""
        async def main(options, supervisor):
            done = asyncio.Event()

            async def work():
                tell("worked")
                done.set()

            supervisor.start("once", work())
            await done.wait()
    """)

    assert await told(process) == "worked"
    assert (await end_of(process))[0] == 0


async def test_no_background_task_outlives_the_service() -> None:
    process = await start("""
        async def main(options, supervisor):
            begun = asyncio.Event()

            async def work():
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0)
                    tell("work ended")

            supervisor.start("work", work())
            await begun.wait()
    """)

    assert await told(process) == "work ended"
    assert (await end_of(process))[0] == 0


async def test_expected_failure_is_one_line() -> None:
    process = await start("""
        async def main(options, supervisor):
            raise Conflict("socket /x is in use by another process")
    """)

    status, err = await end_of(process)

    assert status == 1
    _, line = err.splitlines()
    assert line.startswith("FATA: ")
    assert line.endswith("cannot go on: socket /x is in use by another process")


async def test_mistaken_option_is_one_line_and_status_2() -> None:
    status, err = await end_of(await start(WAITING, "--log-level=loud"))

    assert status == 2
    assert err == (
        'weave-toy: option log-level: flag --log-level is "loud": '
        "expected one of debug, info, warning, error\n"
    )


async def test_options_are_logged_without_secrets() -> None:
    process = await start(WAITING, "--log-format=json", WEAVE_PASSWORD="s3cret")
    await told(process)
    process.terminate()

    _, err = await end_of(process)

    assert "Command line options: map[log-format:json password:<redacted>]" in err
    assert "s3cret" not in err


async def test_optional_libraries_are_not_imported() -> None:
    """What costs memory is imported when it is configured."""
    process = await start("""
        import weave_runtime.client, weave_runtime.http, weave_runtime.server, weave_runtime.store
        import weave_runtime.watch
        optional = {"opentelemetry", "prometheus_client", "redis", "sqlite3", "argparse"}

        async def main(options, supervisor):
            tell(sorted(optional & {name.partition(".")[0] for name in sys.modules}))
    """)

    assert await told(process) == "[]"
    assert (await end_of(process))[0] == 0


async def test_lost_error_of_a_callback_is_logged() -> None:
    process = await start("""
        async def main(options, supervisor):
            done = asyncio.Event()

            def callback():
                done.set()
                raise RuntimeError("lost")

            asyncio.get_running_loop().call_soon(callback)
            await done.wait()
    """)

    status, err = await end_of(process)

    assert status == 0
    assert "RuntimeError: lost" in err


async def test_absent_collector_does_not_delay_the_stop() -> None:
    main = """
        from weave_runtime import telemetry

        async def main(options, supervisor):
            with telemetry.tracer("toy").span("work"):
                tell(telemetry.traceparent()[:3])
    """
    process = await start(main, "--otlp-endpoint=http://127.0.0.1:1", grace_s=0)

    assert await told(process) == "00-"
    async with asyncio.timeout(10):
        assert (await end_of(process))[0] == 0


async def test_supervisor_ends_its_tasks_when_it_is_closed() -> None:
    supervisor, ended = Supervisor(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor.start("work", work())
    await asyncio.sleep(0)

    await supervisor.close()

    assert ended.is_set()
    assert not supervisor.has_failed


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    supervisor = Supervisor()

    async def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    supervisor.start("work", work())
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await supervisor.close()

    assert not supervisor.has_failed


async def test_supervisor_stops_when_a_task_dies(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()

    async def work() -> None:
        raise Conflict("no such thing")

    supervisor.start("work", work())
    async with asyncio.timeout(5):
        await supervisor.stopped()

    assert supervisor.has_failed
    assert caplog.messages == ["background task work failed: no such thing"]
    assert caplog.records[0].exc_info is None


async def test_work_whose_channel_is_closed_while_stopping_is_no_failure() -> None:
    main = """
        async def main(options, supervisor):
            closed = asyncio.Event()
            async def follow():
                await closed.wait()
                raise RuntimeError("Channel is closed.")
            supervisor.start("watch", follow())
            tell("ready")
            await supervisor.stopped()
            closed.set()
            await asyncio.sleep(0.1)
    """
    process = await start(main)
    await told(process)

    process.terminate()
    _, said = await process.communicate()

    assert process.returncode == 0
    assert b"ended while stopping task=watch" in said
    assert b"Traceback" not in said


async def test_the_last_life_of_an_uninstalled_service_ends_without_its_state(
    tmp_path: Path,
) -> None:
    state, run_dir = tmp_path / "state", tmp_path / "run"
    (state / "spool").mkdir(parents=True)
    (state / "spool" / "1").touch()
    (state / "state.db").touch()
    run_dir.mkdir()
    places = ["--state-dir", str(state), "--run-dir", str(run_dir)]

    upgraded = await start(WAITING, *places)
    await told(upgraded)
    upgraded.terminate()
    await upgraded.wait()
    kept = sorted(path.name for path in state.iterdir())
    last = await start(WAITING, *places)
    await told(last)
    removal.mark(run_dir)
    last.terminate()

    assert await last.wait() == 0
    assert kept == ["spool", "state.db"]
    assert list(state.iterdir()) == []


async def test_it_ends_so_however_it_ends(tmp_path: Path) -> None:
    state, run_dir = tmp_path / "state", tmp_path / "run"
    for folder in (state, run_dir):
        folder.mkdir()
    (state / "state.db").touch()
    removal.mark(run_dir)
    failing = """
        async def main(options, supervisor):
            raise Conflict("no")
    """

    process = await start(failing, "--state-dir", str(state), "--run-dir", str(run_dir))

    assert await process.wait() == 1
    assert list(state.iterdir()) == []
