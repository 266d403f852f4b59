"""Certificates of one peer under the authority that a secret stands for.

Runs as a process of its own that lives for a moment (`python -m weave_gossip.link.certificate`,
asked by `link/credentials.py`): `cryptography` would add 15 MB to a service that needs it once.
Secrets come by standard input, never by arguments.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from weave_gossip.link.secret import derive_key

# Clocks of peers are not trusted: a node that boots in 1970 joins, and nothing ever expires
# (RFC 5280 section 4.1.2.5: the last moment means "no expiry").
_NOT_BEFORE = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def issue(request: Mapping[str, str]) -> dict[str, str]:
    """Answers {secret, cluster_id, name} with {key_id (hexadecimal), authority, chain (PEM)}."""
    key = derive_key(request["secret"], request["cluster_id"])
    return {
        "key_id": key.key_id.hex(),
        "authority": authority_certificate(key.authority).decode(),
        "chain": peer_certificate(key.authority, request["name"]).decode(),
    }


def authority_certificate(authority: int) -> bytes:
    """The self-signed certificate of the authority, PEM: what peers verify each other against."""
    key = _authority_key(authority)
    name = _authority_name(key)
    builder = (
        _builder(subject=name, issuer=name, public_key=key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def peer_certificate(authority: int, common_name: str) -> bytes:
    """A fresh P-256 key and its certificate for this peer, both PEM in one."""
    authority_key = _authority_key(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(
            subject=subject, issuer=_authority_name(authority_key), public_key=key.public_key()
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    certificate = builder.sign(authority_key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(authority: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(authority, ec.SECP256R1())


def _authority_name(key: ec.EllipticCurvePrivateKey) -> x509.Name:
    # The key's own identifier in the name: during a rotation two authorities must not share a name.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"weave mesh {identifier}")])


if __name__ == "__main__":
    json.dump([issue(request) for request in json.load(sys.stdin)], sys.stdout)
