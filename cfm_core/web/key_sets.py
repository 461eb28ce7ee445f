"""The keys of issuers: where they come from, how long they are believed, and what each of them verifies.

Sources: RFC 7517 (JSON Web Key), OpenID Connect Discovery 1.0, section 4.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

import jwt

from cfm_core.clients.destinations import SCHEMES, Destinations, RefusedDestinationError
from cfm_core.errors import InvalidTokenError, RecoverableError

log = logging.getLogger(__name__)

FRESH_SECONDS = 50.0
"""Keys are fetched again after so long, so that a withdrawn one is out within a minute, the fetch included."""
PAUSE_SECONDS = 10.0
"""After a fetch that failed, or for a key that is not known, there is none for so long."""
TOLERATED_SECONDS = 3600.0
"""Keys are used for so long although they cannot be fetched again."""

TIMEOUT_SECONDS = 4.0
"""How long an issuer may take for one answer."""
LARGEST = 256 * 1024
"""Nothing that is larger is read, in bytes."""

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
_VERIFIED_BY = {"RSA": ("RS256", "PS256"), "EC P-256": ("ES256",), "OKP Ed25519": ("EdDSA",)}
"""What a key of each kind may verify, unless it says so itself. No other kind verifies anything."""
_PUBLIC = ("kty", "kid", "n", "e", "crv", "x", "y")

_PUBLIC_PLACES = Destinations()

Source = Callable[[], bytes]
"""Gives a key set as JSON. Raises OSError, HTTPException or ValueError where it cannot be had."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an issuer's keys, and since when; instants as the set's clock has them."""

    keys: tuple[jwt.PyJWK, ...] = ()
    fetched_at: float = -math.inf
    tried_at: float = -math.inf
    due_at: float = -math.inf
    failed: bool = False

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The only key that fits, if there is just one: a token need not name the key where there is no choice."""
        fitting = [
            key for key in self.keys if key.algorithm_name == algorithm and (key_id is None or key.key_id == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None


class KeySet:
    """The keys of one issuer, fetched when they are needed and then at most every ``PAUSE_SECONDS``. Safe between threads.

    Args:
        issuer: whose keys they are, for the log.
        source: fetches them.
        clock: seconds, as of ``time.monotonic``.
    """

    def __init__(self, issuer: str, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._source = source
        self._clock = clock
        self._known = _Known()
        self._fetching = threading.Lock()

    def find(self, key_id: str | None, algorithm: str) -> tuple[jwt.PyJWK, float]:
        """The key that a token names, and until when it may be believed without asking again.

        Raises:
            InvalidTokenError: the issuer has no such key.
            RecoverableError: whether it has one cannot be found out now.
        """
        known = self._known
        if self._clock() >= known.due_at:
            # Whoever comes while another fetches goes on with the keys that there are.
            known = self._renewed(known, wait=not known.keys)
        key = known.find(key_id, algorithm)
        if key is None and self._clock() >= known.tried_at + PAUSE_SECONDS:
            known = self._renewed(known, wait=True)
            key = known.find(key_id, algorithm)
        if key is not None:
            return key, known.due_at
        if known.failed:
            raise RecoverableError("the issuer's keys cannot be fetched now", PAUSE_SECONDS)
        raise InvalidTokenError("the token is signed by a key that is not known")

    def _renewed(self, known: _Known, *, wait: bool) -> _Known:
        """What is known once it has been fetched again since ``known``, by this thread or another."""
        if not self._fetching.acquire(blocking=wait):
            return known
        try:
            if self._known is known:
                self._known = self._fetched(known)
            return self._known
        finally:
            self._fetching.release()

    def _fetched(self, known: _Known) -> _Known:
        begun = self._clock()
        try:
            keys = tuple(_keys_of(self._source()))
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            now = self._clock()
            log.warning("the keys of issuer %s cannot be fetched: %s", self._issuer, error)
            tolerated = known.keys if now - known.fetched_at < TOLERATED_SECONDS else ()
            return _Known(tolerated, known.fetched_at, now, now + PAUSE_SECONDS, failed=True)
        return _Known(keys, begun, self._clock(), begun + FRESH_SECONDS)


def _keys_of(text: bytes) -> Iterator[jwt.PyJWK]:
    """The public keys of a key set, once for each algorithm that they verify; what is not for signatures is left out."""
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("what is there is no JSON Web Key Set")
    for jwk in document["keys"]:
        try:
            yield from _verifying(jwk)
        except (jwt.PyJWTError, AttributeError, TypeError) as error:
            log.warning("a key of a key set cannot be used: %s", type(error).__name__)


def _verifying(jwk: dict[str, Any]) -> Iterator[jwt.PyJWK]:
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ("verify",)):
        return
    kind = " ".join(str(jwk[name]) for name in ("kty", "crv") if name in jwk)
    for algorithm in _VERIFIED_BY.get(kind, ()):
        if jwk.get("alg", algorithm) == algorithm:
            key = jwt.PyJWK({name: jwk[name] for name in _PUBLIC if name in jwk}, algorithm)
            if (weakness := key.Algorithm.check_key_length(key.key)) is not None:
                log.warning("a key of a key set is not used: %s", weakness)
            else:
                yield key


def source_of(
    issuer: str, jwks_url: str, timeout: float = TIMEOUT_SECONDS, elsewhere: Destinations = _PUBLIC_PLACES
) -> Source:
    """Where the keys of ``issuer`` come from: ``jwks_url``, or if that is empty, where the issuer's configuration says.

    Args:
        timeout: how long one answer may take, in seconds.
        elsewhere: where the key set may be that the issuer's configuration names, if not with the issuer itself.

    Raises:
        ValueError: an address is neither ``http:`` nor ``https:``, nor, for a key set that is named, ``file:``.
    """
    if jwks_url.startswith("file:"):
        path = Path(unquote(urlsplit(jwks_url).path))
        return lambda: _limited(path.read_bytes())
    if jwks_url:
        address = _checked(jwks_url)
        return lambda: _get(address, timeout)
    return _Discovered(_checked(issuer), timeout, elsewhere)


class _Discovered:
    """A key set where its issuer's configuration says; that is asked for once, and again when nothing is there any more."""

    def __init__(self, issuer: str, timeout: float, elsewhere: Destinations) -> None:
        self._issuer = issuer
        self._timeout = timeout
        self._elsewhere = elsewhere
        self._jwks_url = ""

    def __call__(self) -> bytes:
        address, self._jwks_url = self._jwks_url, ""
        if not address:
            configuration = _get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration", self._timeout)
            address = jwks_url_of(self._issuer, configuration)
        # The issuer's own address is configured; any other is what an answer says.
        is_own = _origin(address) == _origin(self._issuer)
        text = _get(address, self._timeout, None if is_own else self._elsewhere)
        self._jwks_url = address
        return text


def jwks_url_of(issuer: str, configuration: bytes) -> str:
    """Where the OpenID configuration of ``issuer`` says that its key set is.

    Raises:
        ValueError: it is none, or another issuer's, or its address is less safe than the issuer's own.
    """
    document = json.loads(configuration)
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("its configuration is not its own")
    address = _checked(str(document.get("jwks_uri", "")))
    if issuer.startswith("https:") and not address.startswith("https:"):
        raise ValueError("its configuration names a key set that is at no https: address")
    return address


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or SCHEMES[parts.scheme]


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no http: or https: address")
    return url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Keys come from the address that is configured and from no other."""


def _opener(only_to: Destinations | None) -> urllib.request.OpenerDirector:
    """Opens addresses, where ``only_to`` allows it if they come from data; then past any proxy."""
    if only_to is None:
        return urllib.request.build_opener(_NoRedirect())

    def connect(address: tuple[str, int], timeout: float | None, _: object) -> socket.socket:
        return only_to.connect(*address, timeout)

    class Plain(http.client.HTTPConnection):
        _create_connection = staticmethod(connect)

    class Encrypted(http.client.HTTPSConnection):
        _create_connection = staticmethod(connect)

    class Opened(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class Secured(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Encrypted, req)

    return urllib.request.build_opener(_NoRedirect(), urllib.request.ProxyHandler({}), Opened(), Secured())


def _get(url: str, timeout: float, only_to: Destinations | None = None) -> bytes:
    """The body of an answer of success, read within ``timeout``; no redirect is followed.

    Raises:
        OSError, HTTPException: it cannot be had.
        ValueError: it is too large, or its address comes from data and leads where it must not.
    """
    try:
        if only_to is not None:
            only_to.check(url)
        return _read(url, timeout, _opener(only_to))
    except RefusedDestinationError as error:
        raise ValueError(str(error)) from None


def _read(url: str, timeout: float, opener: urllib.request.OpenerDirector) -> bytes:
    until = time.monotonic() + timeout
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - whoever made it has seen the scheme
    try:
        with opener.open(request, timeout=timeout) as response:
            text = b""
            while more := response.read1(LARGEST):
                text = _limited(text + more)
                # The socket's own limit begins anew with every byte.
                if time.monotonic() > until:
                    raise TimeoutError(f"no whole answer within {timeout:g} s")
            return text
    except HTTPError as error:
        error.close()
        raise


def _limited(text: bytes) -> bytes:
    if len(text) > LARGEST:
        raise ValueError(f"what is there is larger than {LARGEST} bytes")
    return text
