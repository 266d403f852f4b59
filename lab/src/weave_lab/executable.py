"""The host executable that cni-shim installs on nodes: found, or built from the checkout."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from weave_lab.command import check
from weave_lab.errors import LabError

INSTALLED = Path("/usr/libexec/weave/weave-net")
_SOURCE_FOLDER = Path("services/cni-shim/exec")


def host_executable() -> Path:
    """Where it is; see `ensure_executable`."""
    folder = _source_folder()
    return folder / "build" / "weave-net" if folder else INSTALLED


def ensure_executable() -> None:
    """Builds it in a checkout, unless it is newer than its source. Idempotent. Raises LabError."""
    folder = _source_folder()
    if folder:
        check(["make", "--silent", "-C", str(folder)])
    elif not INSTALLED.is_file():
        raise LabError(f"there is no {INSTALLED}, and no checkout to build it from")


def _source_folder() -> Path | None:
    """Where the source lies in the checkout that weave_cni_shim is run from, if it is one."""
    spec = importlib.util.find_spec("weave_cni_shim")
    if spec is None or spec.origin is None:
        return None
    tops = Path(spec.origin).resolve().parents
    return next((top / _SOURCE_FOLDER for top in tops if (top / _SOURCE_FOLDER).is_dir()), None)
