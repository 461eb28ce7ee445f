"""An issuer for tests: a key set in a file, and tokens signed with its key."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from cfm_core.web.auth import ALL_SCOPES

ISSUER = "https://issuer.test"
AUDIENCE = "cfm"


class Issuer:
    """Signs tokens; ``environ`` makes a function's process accept them."""

    def __init__(self, folder: Path) -> None:
        self._key = Ed25519PrivateKey.generate()
        jwk = json.loads(OKPAlgorithm.to_jwk(self._key.public_key())) | {"kid": "1", "use": "sig", "alg": "EdDSA"}
        self._jwks = folder / "jwks.json"
        self._jwks.write_text(json.dumps({"keys": [jwk]}))
        self.environ = {
            "CFM_AUTH_ISSUER": ISSUER,
            "CFM_AUTH_AUDIENCE": AUDIENCE,
            "CFM_AUTH_JWKS_URL": self._jwks.as_uri(),
        }

    def token(
        self, *scopes: str, key: Ed25519PrivateKey | None = None, claims: Mapping[str, object] = MappingProxyType({})
    ) -> str:
        """A token with these scopes (all of them when none is named); ``claims`` replace the usual ones."""
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "tester",
            "exp": time.time() + 600,
            "scope": " ".join(scopes or ALL_SCOPES),
            **claims,
        }
        return jwt.encode(
            {name: value for name, value in payload.items() if value is not None},
            key or self._key,
            algorithm="EdDSA",
            headers={"kid": "1"},
        )
