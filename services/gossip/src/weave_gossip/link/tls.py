"""TLS 1.3 over an existing stream, both sides with a certificate.

Why not asyncio's own start_tls: it forgets what the stream reader has already buffered, so that a
dialler's first TLS record that arrives together with its greeting is lost; it also holds 256 KiB
per connection. Here the records pass through memory buffers, and an error keeps its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from dataclasses import dataclass

from weave_gossip.core.messages import Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.link.credentials import Credentials
from weave_gossip.link.framing import PlainStream


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """The two contexts of one secret: for links we dial and for links we accept."""

    dialling: ssl.SSLContext
    listening: ssl.SSLContext


class TlsStream:
    """A byte stream that encrypts; made by `start_tls`."""

    def __init__(self, plain: PlainStream, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._plain = plain
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        # In TLS 1.3 a dialler's handshake ends before its certificate is judged: the first bytes
        # that can be read are the proof.
        self._is_proven = False

    async def handshake(self) -> None:
        """Raises LinkError, with SECRET_WRONG where a certificate was not accepted."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                await self._receive()
            except ssl.SSLError as error:
                # The alert tells the other side why.
                self._flush()
                raise LinkError(_refusal_for(error)) from error
            else:
                self._flush()
                return

    def peer_common_name(self) -> str:
        """The name in the other side's verified certificate."""
        certificate = self._tls.getpeercert() or {}
        for attributes in certificate.get("subject", ()):
            for attribute in attributes:
                if isinstance(attribute, tuple) and attribute[0] == "commonName":
                    return str(attribute[1])
        return ""

    async def read_exactly(self, count: int) -> bytes:
        """See ByteStream. Raises LinkError when the other side broke the session off."""
        chunks: list[bytes] = []
        missing = count
        while missing:
            try:
                chunk = self._tls.read(missing)
            except ssl.SSLWantReadError:
                self._flush()
                await self._receive()
                continue
            except ssl.SSLError as error:
                raise LinkError(_refusal_for(error, is_proven=self._is_proven)) from error
            if not chunk:
                raise asyncio.IncompleteReadError(b"".join(chunks), count)
            self._is_proven = True
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(chunks)

    @property
    def received_at(self) -> float:
        """See ByteStream."""
        return self._plain.received_at

    @property
    def unsent(self) -> int:
        """See ByteStream."""
        return self._plain.unsent

    def write(self, data: bytes) -> None:
        """See ByteStream."""
        if data:
            self._tls.write(data)
            self._flush()

    async def drain(self) -> None:
        """See ByteStream."""
        await self._plain.drain()

    def finish(self) -> None:
        """See ByteStream."""
        # The first unwrap sends "close notify" and asks for the other side's, which is of no use.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        self._plain.finish()

    def abort(self) -> None:
        """See ByteStream."""
        self._plain.abort()

    def _flush(self) -> None:
        pending = self._outgoing.read()
        if pending:
            self._plain.write(pending)

    async def _receive(self) -> None:
        data = await self._plain.read_some()
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        self._incoming.write(data)


def _refusal_for(error: ssl.SSLError, *, is_proven: bool = False) -> Refusal:
    about_certificate = "CERTIFICATE" in (error.reason or "") or "ALERT" in (error.reason or "")
    if about_certificate and not is_proven:
        # Same key id, other authority: somebody knows our greeting but not our secret.
        return Refusal(RefusalCode.SECRET_WRONG, "wrong secret")
    what = (error.reason or "unknown error").lower().replace("_", " ")
    return Refusal(RefusalCode.MALFORMED, f"broken TLS: {what}")


def make_contexts(credentials: Credentials) -> TlsContexts:
    """Contexts that show this peer's certificate and trust the secret's authority only."""
    dialling = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    listening = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    # A link lives long: tickets for its resumption would only cost bytes.
    listening.num_tickets = 0
    return TlsContexts(dialling, listening)


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The certificate names a peer, not a host; its name is held against the hello.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=credentials.authority)
    _load_chain(context, credentials.chain.encode())
    return context


def _load_chain(context: ssl.SSLContext, chain: bytes) -> None:
    """The ssl module reads keys from files only: this one has no name and never touches a disk."""
    descriptor = os.memfd_create("weave-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
