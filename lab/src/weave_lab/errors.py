"""What the lab reports instead of a traceback.

LabError            something the user can change; the text names it
└── CommandFailed   a program the lab ran ended with an error
"""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """One line that names the value and what to do."""


class CommandFailed(LabError):
    """A program ended with a non-zero status or too late."""

    def __init__(self, argv: Sequence[str], status: int | None, output: str) -> None:
        reason = "gave no answer in time" if status is None else f"ended with status {status}"
        detail = " / ".join(line.strip() for line in output.strip().splitlines()[-5:])
        super().__init__(f"`{' '.join(argv)}` {reason}" + (f": {detail}" if detail else ""))
        self.status = status
        self.output = output
