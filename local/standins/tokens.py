"""Tokens of the stand-ins that issue some: signed with EdDSA, and read by the other stand-ins."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import OKPAlgorithm

ISSUER = "http://jwtlet.edc-v.svc.cluster.local:8080"

_ACTIONS = {"read": 1, "write": 2, "admin": 3}


class TokenSigner:
    """Holds the one key that the tokens of ``issuer`` are signed with."""

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.rotate()

    def rotate(self) -> None:
        """Take a new key; what was signed with the old one is accepted no more."""
        self._key = Ed25519PrivateKey.generate()
        self._key_id = uuid.uuid4().hex

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._key_id})

    def verified(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that holds now; None for any other. The audience is nobody's business."""
        try:
            if jwt.get_unverified_header(token).get("kid") != self._key_id:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["EdDSA"],
                issuer=self.issuer,
                options={"require": ["exp", "iss", "sub"], "verify_aud": False},
            )
        except jwt.PyJWTError:
            return None
        return claims

    def private_keys(self) -> Iterator[str]:
        """The key in the forms in which it could be written down."""
        yield self._key.private_bytes_raw().hex()
        yield OKPAlgorithm.to_jwk(self._key, as_dict=True)["d"]
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        yield pem.splitlines()[1]

    def jwks(self) -> dict[str, Any]:
        public = OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [public | {"kid": self._key_id, "use": "sig", "alg": "EdDSA"}]}


def grants(scopes: Iterable[str], wanted: str) -> bool:
    """Whether one of ``scopes`` covers ``wanted``: ``prefix[:resource]:action``, where admin covers write, and write read."""
    prefix, resource, action = _parts(wanted)
    for scope in scopes:
        its_prefix, its_resource, its_action = _parts(scope)
        if (
            its_prefix == prefix
            and its_resource in {"", "*", resource}
            and _ACTIONS.get(its_action, 0) >= _ACTIONS.get(action, 9)
        ):
            return True
    return False


def _parts(scope: str) -> tuple[str, str, str]:
    prefix, _, rest = scope.partition(":")
    resource, _, action = rest.rpartition(":")
    return prefix, resource, action
