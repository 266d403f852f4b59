"""nftables through libnftables, in process: one call is one transaction, all of it or nothing."""

from __future__ import annotations

import ctypes
import json
import threading
from typing import Any

# nftables/libnftables.h: nft_ctx_output_flags.
_OUTPUT_STATELESS = 1 << 2
_OUTPUT_JSON = 1 << 4
_OUTPUT_NUMERIC = (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10)
_OUTPUT_TERSE = 1 << 11
# By its name; ctypes.util.find_library would run compilers and ldconfig to find it.
_LIBRARY = "libnftables.so.1"


class NftablesError(Exception):
    """libnftables refused a transaction; the text is its own."""


class Nftables:
    """One libnftables context; calls from several threads take turns.

    Works in the network namespace of the thread that made it.
    """

    def __init__(self) -> None:
        """Raises OSError when the library is not installed."""
        library = ctypes.CDLL(_LIBRARY)
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._lock = threading.Lock()
        self._context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Frees the context. Idempotent."""
        with self._lock:
            if self._context:
                self._library.nft_ctx_free(self._context)
                self._context = None

    def run(self, commands: str) -> str:
        """Carries out commands as one transaction and returns what they list. Raises
        NftablesError."""
        return self._run(commands, _OUTPUT_STATELESS | _OUTPUT_NUMERIC)

    def run_json(self, commands: str, *, elements: bool = True) -> list[dict[str, Any]]:
        """The listing of commands as nft's JSON objects, with or without elements of sets."""
        flags = _OUTPUT_JSON | _OUTPUT_STATELESS | _OUTPUT_NUMERIC
        output = self._run(commands, flags if elements else flags | _OUTPUT_TERSE)
        objects: list[dict[str, Any]] = json.loads(output)["nftables"] if output.strip() else []
        return objects

    def _run(self, commands: str, flags: int) -> str:
        with self._lock:
            self._library.nft_ctx_output_set_flags(self._context, flags)
            status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
            error: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if status != 0:
            raise NftablesError(_first_line(error.decode(errors="replace")))
        return output.decode(errors="replace")


def _first_line(text: str) -> str:
    """nft repeats the command and underlines the place; the first line says what is wrong."""
    lines = [line for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2]).strip() if lines else "nftables refused without a reason"
