"""Keys from a secret, certificates, and TLS over a stream that is already in use."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from services.gossip.tests.shell.conftest import credentials
from weave_gossip.core.messages import RefusalCode
from weave_gossip.errors import LinkError, StartError
from weave_gossip.link.certificate import authority_certificate, peer_certificate
from weave_gossip.link.credentials import request_credentials
from weave_gossip.link.framing import PlainStream
from weave_gossip.link.secret import derive_key
from weave_gossip.link.tls import TlsContexts, TlsStream, make_contexts

MakeStreams = Callable[..., Any]
KEY = derive_key("secret", "")


def contexts_of(name: str, secret: str = "secret") -> TlsContexts:
    return make_contexts(credentials(secret, "", name))


async def shake_hands(
    here: PlainStream, there: PlainStream, ours: TlsContexts, theirs: TlsContexts
) -> tuple[TlsStream, TlsStream, list[BaseException | None]]:
    dialler = TlsStream(here, ours.dialling, server_side=False)
    listener = TlsStream(there, theirs.listening, server_side=True)
    outcomes = await asyncio.gather(
        dialler.handshake(), listener.handshake(), return_exceptions=True
    )
    return dialler, listener, list(outcomes)


def test_a_secret_always_gives_the_same_keys() -> None:
    assert derive_key("secret", "") == KEY


def test_another_secret_or_cluster_gives_other_keys() -> None:
    others = [derive_key("secret2", ""), derive_key("secret", "blue")]

    assert len({KEY.key_id, *(key.key_id for key in others)}) == 3
    assert len({KEY.authority, *(key.authority for key in others)}) == 3


def test_keys_do_not_show_themselves() -> None:
    assert str(KEY.authority) not in repr(KEY)


def test_certificates_never_expire() -> None:
    """A node whose clock stands in 1970 or 2100 joins all the same."""
    for pem in (authority_certificate(KEY.authority), peer_certificate(KEY.authority, "x")):
        certificate = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])
        assert certificate.not_valid_before_utc.year == 1970
        assert certificate.not_valid_after_utc.year == 9999


async def test_both_sides_learn_the_name_in_the_other_certificate(
    make_streams: MakeStreams,
) -> None:
    here, there = await make_streams()
    ours, theirs = contexts_of("one"), contexts_of("two")

    dialler, listener, outcomes = await shake_hands(here, there, ours, theirs)

    assert outcomes == [None, None]
    assert dialler.peer_common_name() == "two"
    assert listener.peer_common_name() == "one"


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_bytes_pass_in_both_directions(make_streams: MakeStreams, size: int) -> None:
    here, there = await make_streams()
    contexts = contexts_of("one")
    dialler, listener, _ = await shake_hands(here, there, contexts, contexts)

    dialler.write(bytes(size))
    listener.write(b"answer")

    assert await listener.read_exactly(size) == bytes(size)
    assert await dialler.read_exactly(6) == b"answer"


async def test_bytes_that_are_already_buffered_are_not_lost(make_streams: MakeStreams) -> None:
    """The first TLS record may arrive together with what precedes it in the clear."""
    here, there = await make_streams()
    contexts = contexts_of("one")
    dialler = TlsStream(here, contexts.dialling, server_side=False)
    here.write(b"clear")
    handshake = asyncio.ensure_future(dialler.handshake())
    await asyncio.sleep(0.01)

    clear = await there.read_exactly(5)
    await TlsStream(there, contexts.listening, server_side=True).handshake()
    await handshake

    assert clear == b"clear"


async def test_another_authority_is_a_wrong_secret_on_both_sides(
    make_streams: MakeStreams,
) -> None:
    here, there = await make_streams()
    ours, theirs = contexts_of("one"), contexts_of("two", "other")

    _, _, outcomes = await shake_hands(here, there, ours, theirs)

    for outcome in outcomes:
        assert isinstance(outcome, LinkError)
        assert outcome.refusal.code is RefusalCode.SECRET_WRONG


async def test_a_dialler_learns_late_that_its_certificate_was_refused(
    make_streams: MakeStreams,
) -> None:
    """In TLS 1.3 its handshake has ended by then; the first read tells."""
    here, there = await make_streams()
    right = contexts_of("one")
    liar = TlsContexts(_context_of_liar(), right.listening)

    dialler, _, outcomes = await shake_hands(here, there, liar, right)

    assert outcomes[0] is None
    with pytest.raises(LinkError, match="wrong secret"):
        await dialler.read_exactly(1)


def _context_of_liar() -> ssl.SSLContext:
    """Trusts the right authority, but shows a certificate of another."""
    honest = credentials("secret", "", "liar")
    mixed = replace(honest, chain=credentials("other", "", "liar").chain)
    return make_contexts(mixed).dialling


async def test_bytes_that_are_no_tls_are_malformed(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    here.write(b"this is no record of TLS at all")

    with pytest.raises(LinkError, match="broken TLS") as caught:
        await TlsStream(there, contexts_of("one").listening, server_side=True).handshake()

    assert caught.value.refusal.code is RefusalCode.MALFORMED


async def test_bytes_changed_on_the_way_end_the_stream(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    contexts = contexts_of("one")
    dialler, listener, _ = await shake_hands(here, there, contexts, contexts)
    listener.write(b"proof")
    await dialler.read_exactly(5)

    there.write(b"\x17\x03\x03\x00\x20" + bytes(32))

    with pytest.raises(LinkError, match="broken TLS") as caught:
        await dialler.read_exactly(1)
    assert caught.value.refusal.code is RefusalCode.MALFORMED


async def test_a_finished_stream_ends_after_its_last_byte(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    contexts = contexts_of("one")
    dialler, listener, _ = await shake_hands(here, there, contexts, contexts)

    dialler.write(b"last")
    dialler.finish()

    assert await listener.read_exactly(4) == b"last"
    with pytest.raises(asyncio.IncompleteReadError):
        await listener.read_exactly(1)


async def test_credentials_are_made_by_a_process_that_sees_no_argument() -> None:
    one, other = await request_credentials(["secret", "other"], "", "one")

    assert one.key_id == KEY.key_id
    assert other.key_id == derive_key("other", "").key_id
    assert "PRIVATE" not in repr(one)
    assert make_contexts(one).dialling.verify_mode is ssl.CERT_REQUIRED


async def test_without_a_secret_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")

    assert await request_credentials([], "", "one") == []


async def test_credentials_that_cannot_be_made_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text(
        "#!/bin/sh\ncat > /dev/null\necho 'Traceback' >&2\necho 'no luck' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))

    with pytest.raises(StartError, match="could not be made: no luck"):
        await request_credentials(["secret"], "", "one")
