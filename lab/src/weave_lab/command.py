"""Runs programs and waits for them, always with a deadline."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from weave_lab.errors import CommandFailed, LabError

# Everything the lab itself runs ends within milliseconds; a loaded machine is slower.
DEFAULT_TIMEOUT_S = 30.0


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs to the end and returns whatever came of it, also failure.

    Raises CommandFailed only when the deadline passes, LabError when there is no such program.
    """
    try:
        return subprocess.run(
            list(argv),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=None if environment is None else dict(environment),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(argv, None, _text(error.stderr)) from error
    except FileNotFoundError as error:
        raise LabError(f"the program `{argv[0]}` is missing; `make setup` installs it") from error


def check(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> str:
    """Runs to the end and returns the standard output. Raises CommandFailed on failure."""
    done = run(argv, stdin=stdin, timeout_s=timeout_s)
    if done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stderr or done.stdout)
    return done.stdout


def _text(output: bytes | str | None) -> str:
    if isinstance(output, bytes):
        return output.decode(errors="replace")
    return output or ""
