"""Issuers for tests: keys, their sets, and tokens signed with them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import get_default_algorithms

from cfm_core.web.auth import ALL_SCOPES

ISSUER = "https://issuer.test"
AUDIENCE = "cfm"

PrivateKey = Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_NOTHING: Mapping[str, object] = MappingProxyType({})


def new_key(algorithm: str = "EdDSA") -> PrivateKey:
    """A fresh key to sign with."""
    match algorithm:
        case "RS256" | "PS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return Ed25519PrivateKey.generate()


def jwk_of(key: PrivateKey, key_id: str | None, algorithm: str, **more: object) -> dict[str, Any]:
    """The public half as a key of a set; ``more`` replaces members, None removes one."""
    jwk = json.loads(get_default_algorithms()[algorithm].to_jwk(key.public_key()))
    jwk |= {"kid": key_id, "use": "sig", "alg": algorithm, "key_ops": None, **more}
    return {name: value for name, value in jwk.items() if value is not None}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    """A key set as it is fetched."""
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """Signs tokens with its key ``1``; ``environ`` makes a function's process accept them."""

    def __init__(self, folder: Path, name: str = ISSUER, algorithm: str = "EdDSA") -> None:
        self.name = name
        self.algorithm = algorithm
        self.key = new_key(algorithm)
        self.key_id = "1"
        self.file = folder / f"jwks-{algorithm}.json"
        self.publish(jwk_of(self.key, self.key_id, algorithm))
        self.environ = {
            "CFM_AUTH_ISSUER": name,
            "CFM_AUTH_AUDIENCE": AUDIENCE,
            "CFM_AUTH_JWKS_URL": self.file.as_uri(),
        }

    def publish(self, *keys: Mapping[str, Any]) -> None:
        """Let the set hold these keys and no other."""
        self.file.write_bytes(key_set(*keys))

    def token(
        self,
        *scopes: str,
        key: PrivateKey | None = None,
        claims: Mapping[str, object] = _NOTHING,
        headers: Mapping[str, object] = _NOTHING,
    ) -> str:
        """A token with these scopes (all of them when none is named).

        ``claims`` and ``headers`` replace the usual ones, and None removes one.
        """
        payload = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": "tester",
            "exp": time.time() + 600,
            "scope": " ".join(scopes or ALL_SCOPES),
            **claims,
        }
        told = {"kid": self.key_id, **headers}
        return jwt.encode(
            {name: value for name, value in payload.items() if value is not None},
            key or self.key,
            algorithm=self.algorithm,
            headers={name: value for name, value in told.items() if value is not None},
        )
