"""Keys from a shared secret. The secret itself is forgotten once they are made.

One slow derivation per secret (scrypt, RFC 7914), then cheap labels: the id that greetings carry,
and the private key of the certificate authority that every peer with the secret derives alike.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

# 16 MiB and about 50 ms on a small machine: guessing costs that much per try, starting once.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 14, 8, 1
_SALT = b"weave-net mesh secret 1\0"
# Order of the group of NIST P-256 (FIPS 186-5, SP 800-186).
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class SecretKey:
    """What one secret stands for. `authority` is a P-256 private scalar, never shown."""

    key_id: bytes
    authority: int = field(repr=False)


def derive_key(secret: str, cluster_id: str) -> SecretKey:
    """The keys of a secret in a cluster. Takes about 50 ms and 16 MiB."""
    master = hashlib.scrypt(
        secret.encode(),
        salt=_SALT + cluster_id.encode(),
        n=_SCRYPT_N,
        r=_SCRYPT_R,
        p=_SCRYPT_P,
        maxmem=64 << 20,
        dklen=32,
    )
    wide = _labelled(master, b"authority 0") + _labelled(master, b"authority 1")
    return SecretKey(
        key_id=_labelled(master, b"key id")[:KEY_ID_BYTES],
        # 512 bits reduced to 256: no value is noticeably likelier than another.
        authority=int.from_bytes(wide, "big") % (_P256_ORDER - 1) + 1,
    )


def _labelled(master: bytes, label: bytes) -> bytes:
    return hmac.digest(master, label, "sha256")
