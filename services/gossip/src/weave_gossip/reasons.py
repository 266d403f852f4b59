"""What a network error says, in words for people: "connection refused", "no route to host"."""

from __future__ import annotations

import os
import re
import socket
import ssl

# asyncio gathers the errors of several addresses into one text.
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def words_of(error: BaseException) -> str:
    """One short sentence in small letters, without addresses, which stand before it already."""
    match error:
        case socket.gaierror():
            return (error.strerror or "the name cannot be resolved").lower()
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message.lower()}"
        case ssl.SSLError():
            return f"broken TLS: {(error.reason or 'unknown error').lower().replace('_', ' ')}"
        # Not error.strerror: asyncio writes the address into it.
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case TimeoutError():
            return "no answer in time"
        case _:
            return _words_within(error)


def _words_within(error: BaseException) -> str:
    if numbers := _ERRNO.findall(str(error)):
        return " and ".join(dict.fromkeys(os.strerror(int(each)).lower() for each in numbers))
    # Clients (redis) wrap what the socket said, mostly without saying so.
    inner = error.__cause__ or error.__context__
    return words_of(inner) if isinstance(inner, OSError) else str(error) or type(error).__name__
