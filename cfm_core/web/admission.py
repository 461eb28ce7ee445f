"""Who is let in, and how often: the caller of a request, within the limits of its rate.

A token that is remembered costs next to nothing, so its subject is counted alone. Of all others the address is looked at first:
whoever has shown too many bad tokens, or none, gets no further signature checked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import flask

from cfm_core.errors import ForbiddenError, NotFoundError, UnauthorizedError
from cfm_core.web.auth import Authenticator, Principal
from cfm_core.web.rates import Buckets

INTERNAL = "cfm.internal"
"""Key of the WSGI environment under which a server says that this request has come by a door for the inside alone."""

_IPV6_NETWORK = 64
"""Whoever has one IPv6 address has all of a network of this size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How often each subject may ask, and how often an address may be refused."""

    subjects: Buckets
    """By issuer and subject; by address for what needs no token."""
    strangers: Buckets
    """By address: requests that were refused because nobody knows whose they are."""
    proxies: int = 0
    """How many proxies tell in front of us where a request comes from."""

    def authenticated(self, request: flask.Request, authenticator: Authenticator) -> Principal:
        """Whose token the request has.

        Raises:
            UnauthorizedError: there is no token, or it is not accepted.
            TooManyRequestsError: its subject asks too often, or too many requests of its address were refused.
        """
        authorization = request.environ.get("HTTP_AUTHORIZATION")
        principal = authenticator.remembered(authorization)
        if principal is None:
            address = self.address_of(request)
            self.strangers.require(address)
            try:
                principal = authenticator.authenticate(authorization)
            except UnauthorizedError:
                self.strangers.take(address)
                raise
        self.subjects.take((principal.issuer, principal.subject))
        return principal

    def let_in(self, request: flask.Request, *, shows_token: bool) -> None:
        """Count a request for something that needs no token of an issuer.

        Args:
            shows_token: whether it shows a token of another kind, at which could be guessed.

        Raises:
            TooManyRequestsError: its address asks too often, or has been refused too often.
        """
        if INTERNAL in request.environ:
            return
        address = self.address_of(request)
        if shows_token:
            self.strangers.require(address)
        self.subjects.take(address)

    @contextmanager
    def counting_refusals(self, request: flask.Request) -> Iterator[None]:
        """Count it where such a token turns out to be none, or to be for nothing."""
        try:
            yield
        except (ForbiddenError, NotFoundError):
            self.strangers.take(self.address_of(request))
            raise

    def address_of(self, request: flask.Request) -> str:
        """Where a request comes from, as far as proxies that are believed tell; of IPv6 the network."""
        environ = request.environ
        told = environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if self.proxies else []
        # With fewer entries somebody has asked past the proxies, and may have written them.
        believed = told[-self.proxies] if len(told) >= self.proxies > 0 else ""
        for text in (believed, environ.get("REMOTE_ADDR", "")):
            try:
                address = ipaddress.ip_address(text.strip())
            except ValueError:
                continue
            if isinstance(address, ipaddress.IPv6Address):
                if address.ipv4_mapped is None:
                    return str(ipaddress.ip_network((int(address), _IPV6_NETWORK), strict=False))
                address = address.ipv4_mapped
            return str(address)
        # A server that does not tell: all who come by it are one.
        return ""
