"""Keys and certificates of a cluster that lives for a test."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_BITS = 2048


def write(folder: Path, addresses: list[str]) -> None:
    """ca.crt, api.crt, api.key for these addresses; sa.key and sa.pub for tokens."""
    authority, server, tokens = (_key() for _ in range(3))
    ca = _certificate("cluster", authority, "cluster", authority, [])
    api = _certificate("kube-apiserver", server, "cluster", authority, addresses)
    (folder / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "api.crt").write_bytes(api.public_bytes(serialization.Encoding.PEM))
    (folder / "api.key").write_bytes(_private(server))
    (folder / "sa.key").write_bytes(_private(tokens))
    public = tokens.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "sa.pub").write_bytes(public)


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=_BITS)


def _private(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate(
    subject: str, key: rsa.RSAPrivateKey, issuer: str, signer: rsa.RSAPrivateKey, hosts: list[str]
) -> x509.Certificate:
    now = datetime.now(timezone.utc)  # noqa: TID251, UP017 - certificates live by the wall clock
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
    )
    if hosts:
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(host)) for host in hosts]
        names.append(x509.DNSName("kubernetes.default.svc"))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
