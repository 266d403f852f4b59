"""Runs the router: `python -m weave_router`."""

from __future__ import annotations

import os
import sys

from weave_router.config import Config
from weave_router.loop import main
from weave_runtime.config import load_or_exit
from weave_runtime.process import run


def cli() -> int:
    """The process: options, wiring, exit status."""
    config = load_or_exit(Config, sys.argv[1:], os.environ, prog="weave-router")
    return run(main, config, service="router")


if __name__ == "__main__":
    sys.exit(cli())
