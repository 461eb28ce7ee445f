"""The stack's own token issuer: one Ed25519 key in its directory, and the key set that the managers read from a file.

Tokens name the issuer ``urn:cfm:local`` and the audience ``cfm``. A stack's key is its own: another stack refuses its tokens.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

ISSUER = "urn:cfm:local"
AUDIENCE = "cfm"
SCOPES = (
    "tenant-manager-api:read",
    "tenant-manager-api:write",
    "provision-manager-api:read",
    "provision-manager-api:write",
)
LIFETIME = timedelta(hours=12)
_KEY_ID = "local"


class Issuer:
    """Signs tokens with the key in ``folder``; ``prepare`` makes what is missing there."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "key.pem"
        self._key_set = folder / "jwks.json"

    @property
    def environ(self) -> dict[str, str]:
        """What makes a manager's process accept this issuer's tokens."""
        return {
            "CFM_AUTH": "jwt",
            "CFM_AUTH_ISSUER": ISSUER,
            "CFM_AUTH_AUDIENCE": AUDIENCE,
            "CFM_AUTH_JWKS_URL": self._key_set.resolve().as_uri(),
        }

    def prepare(self) -> None:
        """Make the key and the key set unless they are there."""
        if self._key_set.exists():
            return
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        self._key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        _write(self._key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": _KEY_ID, "use": "sig", "alg": "EdDSA"}
        _write(self._key_set, json.dumps({"keys": [jwk]}).encode())

    def token(self, scopes: Iterable[str] = SCOPES, subject: str = "cfm", lifetime: timedelta = LIFETIME) -> str:
        """An access token; what ``scopes`` names is not checked, so that refusals can be tried too."""
        import jwt

        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now,
            "exp": now + int(lifetime.total_seconds()),
            "scope": " ".join(scopes),
        }
        return jwt.encode(claims, self._key.read_bytes(), algorithm="EdDSA", headers={"kid": _KEY_ID})


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    partial = path.with_suffix(".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    partial.rename(path)
