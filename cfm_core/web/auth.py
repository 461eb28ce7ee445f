"""Who is calling: bearer tokens and their scopes.

Source: CFM wire contract, section 2.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import jwt

from cfm_core.errors import ForbiddenError, RecoverableError, UnauthorizedError

TM_READ = "tenant-manager-api:read"
TM_WRITE = "tenant-manager-api:write"
PM_READ = "provision-manager-api:read"
PM_WRITE = "provision-manager-api:write"
ALL_SCOPES = (TM_READ, TM_WRITE, PM_READ, PM_WRITE)

_ALGORITHMS = ["RS256", "EdDSA"]
_REMEMBERED = 1024
_REMEMBER_SECONDS = 60.0
"""A verified token is believed for so long without checking its signature again; a withdrawn key lives no longer than that."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever calls, as a verified token names them.

    Two issuers may name two people alike: only ``issuer`` and ``subject`` together say who somebody is.
    """

    subject: str
    scopes: frozenset[str] | None
    """None for somebody who may do everything."""
    issuer: str = ""
    """Empty where no token is asked for."""
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)
    """All that the token says, for reading only."""

    def require(self, scope: str) -> None:
        """Raises ForbiddenError unless this principal has ``scope``."""
        if self.scopes is not None and scope not in self.scopes:
            raise ForbiddenError(f"Access not granted: required scope '{scope}' not present")


class Authenticator(Protocol):
    """Turns the Authorization header of a request into a principal."""

    def authenticate(self, authorization: str | None) -> Principal:
        """Raises UnauthorizedError when there is no token or it is not accepted."""
        ...


class Anybody:
    """Accepts everybody, for everything."""

    def authenticate(self, authorization: str | None) -> Principal:
        return Principal("anonymous", None)


class _KeySetFile:
    """The keys of a file, read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0
        self._keys: dict[str | None, jwt.PyJWK] = {}

    def get_signing_key_from_jwt(self, token: str) -> jwt.PyJWK:
        kid = jwt.get_unverified_header(token).get("kid")
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_json(self._path.read_text()).keys}
                self._read_at = changed_at
        except OSError as error:
            raise jwt.PyJWKClientConnectionError(str(error)) from error
        if kid not in self._keys:
            raise jwt.PyJWKClientError("no key of this id")
        return self._keys[kid]


class JwtAuthenticator:
    """Accepts tokens of one issuer for one audience, signed with RS256 or EdDSA by a key of its key set.

    Args:
        jwks_url: where the key set is, ``https:`` or a mounted ``file:``; fetched at the first token and again for an
            unknown key id.
    """

    def __init__(self, issuer: str, audience: str, jwks_url: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys: _KeySetFile | jwt.PyJWKClient = (
            _KeySetFile(Path(unquote(urlsplit(jwks_url).path)))
            if jwks_url.startswith("file:")
            else jwt.PyJWKClient(jwks_url, cache_keys=True, lifespan=300, timeout=5)
        )
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def authenticate(self, authorization: str | None) -> Principal:
        kind, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise UnauthorizedError("a bearer token is required")
        digest = hashlib.sha256(token.encode()).digest()
        remembered = self._verified.get(digest)
        if remembered is not None and remembered[0] > time.time():
            return remembered[1]
        principal, expires = self._verify(token)
        self._verified[digest] = (min(expires, time.time() + _REMEMBER_SECONDS), principal)
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return principal

    def _verify(self, token: str) -> tuple[Principal, float]:
        key = self._key_of(token)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise UnauthorizedError("the token has expired") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise UnauthorizedError("the token is not accepted") from error
        scope = claims.get("scope")
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset[str]()
        subject = str(claims.get("sub", ""))
        return Principal(subject, scopes, claims["iss"], MappingProxyType(claims)), float(claims["exp"])

    def _key_of(self, token: str) -> jwt.PyJWK:
        try:
            jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise UnauthorizedError("the token is not accepted") from error
        try:
            return self._keys.get_signing_key_from_jwt(token)
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, OSError, ValueError) as error:
            raise RecoverableError("the issuer's keys cannot be fetched now") from error
        except jwt.PyJWTError as error:
            raise UnauthorizedError("the token is not accepted") from error
