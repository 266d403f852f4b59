"""The gossip service: `python -m weave_gossip [options] [PEER...]`."""

from __future__ import annotations

import os
import sys

from weave_gossip.config import Config
from weave_gossip.node import run
from weave_runtime import process
from weave_runtime.config import load_or_exit


def main() -> int:
    """Gives the exit status: 0 stopped on request, 1 cannot go on, 2 bad options."""
    config = load_or_exit(Config, sys.argv[1:], os.environ, prog="weave-gossip")
    return process.run(run, config, service="gossip")


if __name__ == "__main__":
    sys.exit(main())
