"""Keys and JWTs of NATS, made by the format's description and not by the code under test."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KINDS = {"O": 14 << 3, "A": 0, "U": 20 << 3}


def _text(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _url_safe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class KeyPair:
    """Of an operator, an account or a user: ``O``, ``A`` or ``U``."""

    kind: str
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        return _text(bytes([_KINDS[self.kind]]) + self.private.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        prefix = _KINDS[self.kind]
        return _text(bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + self.private.private_bytes_raw())

    def jwt(self, subject: KeyPair, name: str, claims: dict[str, Any]) -> str:
        """What this key says of another one."""
        header = _url_safe(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
        body: dict[str, Any] = {
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": name,
            "nats": claims,
        }
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        signed = f"{header}.{_url_safe(json.dumps(body).encode())}"
        return f"{signed}.{_url_safe(self.private.sign(signed.encode()))}"


def credentials(jwt: str, user: KeyPair) -> str:
    """The text of a credentials file."""
    parts = (("NATS USER JWT", "NATS USER JWT", jwt), ("USER NKEY SEED", "USER NKEY SEED", user.seed))
    return "\n".join(f"-----BEGIN {begin}-----\n{text}\n------END {end}------\n" for begin, end, text in parts)
