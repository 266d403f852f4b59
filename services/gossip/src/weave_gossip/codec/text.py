"""Makes text of the network fit to be shown: logs and terminals must not obey it."""

from __future__ import annotations

# As long as a sentence with a few values; everything longer is noise or malice.
MAX_REASON = 512
# The longest name that DNS knows.
MAX_NICKNAME = 253


def printable(text: str, limit: int) -> str:
    """The text without control characters, cut to `limit` characters."""
    cut = text[:limit]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "?" for c in cut)
