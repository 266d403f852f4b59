"""CNI versions: which we speak, and which verb needs which."""

from __future__ import annotations

from weave_cni_shim.core.failure import CniError, Code

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]
# What a configuration without "cniVersion" means (libcni).
IMPLIED = "0.1.0"
# Verbs that came later than the oldest version (S15).
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def at_least(version: str, other: str) -> bool:
    """Is `version`, one of SUPPORTED, not older than `other`?"""
    return SUPPORTED.index(version) >= SUPPORTED.index(other)


def require_verb(verb: str, version: str) -> None:
    """Raises CniError unless the version is supported (S14) and knows the verb (S15)."""
    if verb == "VERSION":
        return
    if version not in SUPPORTED:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {version!r}, plugin supports {list(SUPPORTED)}",
        )
    since = _SINCE.get(verb)
    if since and not at_least(version, since):
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"config version does not allow {verb}",
            f"config is {version!r}, {verb} needs {since!r}, plugin supports {list(SUPPORTED)}",
        )
