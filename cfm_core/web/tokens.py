"""Bearer tokens: JSON Web Tokens of the issuers that are trusted.

Before a signature is checked a token costs little and always about the same: its length is limited first, it is taken apart
without patterns, and only a key of the issuer that it names is looked for.

Sources: CFM wire contract, section 2; RFC 6750, RFC 7519, RFC 8725.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jwt
from pydantic import Field

from cfm_core.clients.destinations import Destinations
from cfm_core.contracts.documents import Document
from cfm_core.errors import InvalidTokenError, UnauthorizedError
from cfm_core.web.auth import Principal
from cfm_core.web.key_sets import ALGORITHMS, KeySet, source_of

LONGEST = 8192
"""A token has at most so many characters; servers take hardly more of a header."""
LEEWAY_SECONDS = 10.0
"""Clocks may differ by so much: a token is good so long before it should be. It is never good after its end."""
REMEMBERED = 1024
"""So many verified tokens are remembered."""

_LONGEST_SUBJECT = 255
"""OpenID Connect allows no longer one."""

_REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidSignatureError: "the token's signature is wrong",
}
_MALFORMED = "the token is malformed"


class TrustedIssuer(Document, extra="forbid"):
    """An issuer whose tokens are accepted if they are for us; as JSON, an entry of ``CFM_AUTH_ISSUERS``."""

    issuer: str = Field(min_length=1)
    """As the claim ``iss`` names it."""
    audience: str = Field(min_length=1)
    audience_claim: str = Field("aud", min_length=1)
    """``aud`` has to contain the audience; any other claim has to be equal to it."""
    jwks_url: str = ""
    """Where the key set is, ``https:`` or a mounted ``file:``; empty: where the issuer's OpenID configuration says."""


class JwtAuthenticator:
    """Accepts tokens of some issuers, signed with RS256, PS256, ES256 or EdDSA by a key of the issuer that they name.

    Args:
        issuers: each but once.
        remembered: how many verified tokens are remembered, each no longer than its key is believed and it is good itself.
        clock: seconds since any beginning.
        wall: seconds since 1970.
        elsewhere: where key sets may be that issuers' configurations name, if not with the issuers themselves.

    Raises:
        ValueError: an issuer is named twice, or has no address that keys can be fetched from.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        remembered: int = REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        elsewhere: Destinations | None = None,
    ) -> None:
        self._issuers = {
            one.issuer: (
                one,
                KeySet(one.issuer, source_of(one.issuer, one.jwks_url, elsewhere=elsewhere or Destinations()), clock),
            )
            for one in issuers
        }
        if len(self._issuers) != len(issuers):
            raise ValueError("an issuer is named twice")
        self._wall = wall
        self._verified = _Verified(remembered, clock, wall)

    def authenticate(self, authorization: str | None) -> Principal:
        kind, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise UnauthorizedError("a bearer token is required")
        if len(token) > LONGEST:
            raise InvalidTokenError(f"the token has more than {LONGEST} characters")
        if not token.isascii():
            raise InvalidTokenError(_MALFORMED)
        # A digest, so that no token lies in memory for longer than its request.
        digest = hashlib.sha256(token.encode()).digest()
        principal = self._verified.find(digest)
        if principal is None:
            principal, key_until = self._verify(token)
            self._verified.keep(digest, principal, key_until)
        return principal

    def remembered(self, authorization: str | None) -> Principal | None:
        """Whom the token speaks for, if it has been verified before and still holds."""
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or len(token) > LONGEST:
            return None
        return self._verified.find(hashlib.sha256(token.strip().encode("utf-8", "replace")).digest())

    def _verify(self, token: str) -> tuple[Principal, float]:
        """Whom a token speaks for, and until when the key may be believed that has signed it."""
        header, unverified = _taken_apart(token)
        algorithm, name = header.get("alg"), unverified.get("iss")
        if algorithm not in ALGORITHMS:
            raise InvalidTokenError("the token is signed with an algorithm that is not accepted")
        if not isinstance(name, str) or name not in self._issuers:
            raise InvalidTokenError("the token is of an issuer that is not accepted")
        issuer, keys = self._issuers[name]
        key, until = keys.find(header.get("kid"), algorithm)
        claims = self._verified_claims(token, key, issuer)
        subject, scope = claims.get("sub", ""), claims.get("scope")
        if len(subject) > _LONGEST_SUBJECT or not subject.isprintable():
            # It will be stored and logged.
            raise InvalidTokenError(_MALFORMED)
        # Between scopes is a space and nothing else (RFC 6749, section 3.3): no other character can smuggle one in.
        scopes = frozenset(filter(None, scope.split(" "))) if isinstance(scope, str) else frozenset[str]()
        return Principal(subject, scopes, name, MappingProxyType(claims)), until

    def _verified_claims(self, token: str, key: jwt.PyJWK, issuer: TrustedIssuer) -> dict[str, Any]:
        in_aud = issuer.audience_claim == "aud"
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=issuer.issuer,
                audience=issuer.audience if in_aud else None,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", issuer.audience_claim], "verify_aud": in_aud},
            )
        except jwt.MissingRequiredClaimError as error:
            raise InvalidTokenError(f"the token has no claim {error.claim}") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise InvalidTokenError(_REASONS.get(type(error), _MALFORMED)) from error
        if not in_aud and claims[issuer.audience_claim] != issuer.audience:
            raise InvalidTokenError(_REASONS[jwt.InvalidAudienceError])
        if not isinstance(claims["exp"], int | float):
            raise InvalidTokenError(_MALFORMED)
        if claims["exp"] <= self._wall():
            raise InvalidTokenError(_REASONS[jwt.ExpiredSignatureError])
        return claims


def _taken_apart(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, of which nothing is verified."""
    if "=" in token:
        # Padding is no part of it (RFC 7515, section 2): each token has one spelling, and is remembered once.
        raise InvalidTokenError(_MALFORMED)
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidTokenError(_MALFORMED) from error
    return parts["header"], parts["payload"]


class _Verified:
    """Tokens that were verified less than a minute ago, by their digest. Safe between threads."""

    def __init__(self, most: int, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._wall = wall
        self._until: dict[bytes, tuple[float, Principal]] = {}
        self._changing = threading.Lock()

    def find(self, digest: bytes) -> Principal | None:
        """Whom the token speaks for; None where it has to be verified, because of its own end too."""
        until, principal = self._until.get(digest, (0.0, None))
        if principal is None or self._clock() >= until or self._wall() >= principal.claims["exp"]:
            return None
        return principal

    def keep(self, digest: bytes, principal: Principal, key_until: float) -> None:
        """Remember a token as long as its key is believed, the oldest making room."""
        with self._changing:
            self._until.pop(digest, None)
            self._until[digest] = (key_until, principal)
            if len(self._until) > self._most:
                del self._until[next(iter(self._until))]
