"""DELs of the attachments whose addresses another IPAM plugin gave.

Kept from ADD to DEL, since that plugin takes its addresses back only from somebody who shows it the
configuration. A runtime that dies never will; then the collector does.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from weave_cni_shim.core.call import Call, parse_call
from weave_cni_shim.core.failure import CniError
from weave_cni_shim.core.frame import (
    HEADER_BYTES,
    FrameError,
    Request,
    decode_request,
    encode_request,
)
from weave_cni_shim.install import replace_file
from weave_model.attachment import AttachmentKey

log = logging.getLogger(__name__)


class Delegations:
    """The DELs of one node, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def note(self, key: AttachmentKey, removal: Request) -> None:
        """Keeps the DEL of an attachment. A disk that does not take it costs only what is told."""
        try:
            await asyncio.to_thread(replace_file, self._path(key), encode_request(removal), 0o600)
        except OSError as error:
            log.warning(
                "should its DEL never come, the address leaks: %s",
                error.strerror,
                extra={"attachment": str(key)},
            )

    def of(self, key: AttachmentKey) -> Call | None:
        """The DEL of an attachment, if another IPAM plugin gave its addresses."""
        try:
            data = self._path(key).read_bytes()
            call = parse_call(decode_request(data[:HEADER_BYTES], data[HEADER_BYTES:]))
        except FileNotFoundError:
            return None
        except (FrameError, CniError, OSError) as error:
            log.warning("DEL cannot be read: %s", error, extra={"attachment": str(key)})
            return None
        return call if call.key == key else None

    def forget(self, key: AttachmentKey) -> None:
        """The attachment is gone. Idempotent."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: AttachmentKey) -> Path:
        # Network names are longer than file names may be.
        return self._folder / f"{hashlib.sha256(str(key).encode()).hexdigest()}.del"
