"""jwtlet: the token exchange, and who may exchange tokens for which participant context.

Source: dataspace service contracts, section 3.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cfm_core.clients.http import Answer, HttpClient, segment
from cfm_core.errors import FatalError, RecoverableError

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_FRESH = 0.8
"""A token is used for this part of its life."""
MOST_REMEMBERED = 4096
"""About a kilobyte each; a participant has some six while it is deployed, and nobody asks for them later on."""


class NoTokenError(FatalError):
    """The exchange gives this caller no such token: no mapping for the resource, or one without the scope or audience."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    fresh_until: float


class TokenExchange:
    """Exchanges the service account's token for tokens of one resource and scope, and remembers them.

    Args:
        subject_token: gives the service account's token as it is now.
        clock: monotonic seconds.

    Source: dataspace service contracts, section 3.1.
    """

    def __init__(
        self,
        http: HttpClient,
        url: str,
        subject_token: Callable[[], str],
        audience: str = "edcv",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._subject_token = subject_token
        self._audience = audience
        self._clock = clock
        self._tokens: dict[tuple[str, frozenset[str]], _Token] = {}
        self._lock = threading.Lock()

    def token(self, resource: str, scopes: Iterable[str]) -> str:
        """A bearer token for ``resource``, usually a participant context, with ``scopes``.

        Raises:
            NoTokenError: this caller is not given one.
            RecoverableError: the exchange does not answer now, or does not accept the service account's token now.
            FatalError: the exchange refuses for another reason.
        """
        key = (resource, frozenset(scopes))
        with self._lock:
            known = self._tokens.get(key)
        if known is not None and known.fresh_until > self._clock():
            return known.text
        fresh = self._exchange(resource, sorted(key[1]))
        with self._lock:
            self._tokens.pop(key, None)
            if len(self._tokens) >= MOST_REMEMBERED:
                # The oldest, which is the first that would not be fresh any more.
                del self._tokens[next(iter(self._tokens))]
            self._tokens[key] = fresh
        return fresh.text

    def forget(self, resource: str, scopes: Iterable[str]) -> None:
        """Somebody did not accept the token for this: ask for a new one next time."""
        with self._lock:
            self._tokens.pop((resource, frozenset(scopes)), None)

    def _exchange(self, resource: str, scopes: list[str]) -> _Token:
        asked_at = self._clock()
        answer = self._http.send(
            "POST",
            f"{self._url}/token",
            form={
                "grant_type": _GRANT,
                "subject_token": self._subject_token(),
                "subject_token_type": _JWT,
                "resource": resource,
                "scope": " ".join(scopes),
                "audience": self._audience,
            },
            expect=(400, 403),
        )
        asked_for = f"for {resource!r} with scope {' '.join(scopes)!r} and audience {self._audience!r}"
        match answer.status, answer.message:
            case 403, message:
                raise NoTokenError(f"{answer.call} gives no token {asked_for}: {message}")
            case 400, "invalid_grant":
                # Also when the cluster could not be asked about the service account's token.
                raise RecoverableError(f"{answer.call} does not accept the service account's token")
            case 400, message:
                raise FatalError(f"{answer.call} refuses a token {asked_for}: {message}")
        document = answer.object()
        text, lifetime = document.get("access_token"), document.get("expires_in")
        if not isinstance(text, str) or not text or not isinstance(lifetime, int | float):
            raise FatalError(f"{answer.call} answered without access_token or expires_in")
        return _Token(text, asked_at + lifetime * _FRESH)


@dataclass(frozen=True, slots=True)
class ResourceMapping:
    """Which scopes and audiences a client may have tokens with, for one participant context."""

    client: str
    context: str
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]


class ResourceMappings:
    """jwtlet's management API; it takes the service account's own token.

    Args:
        service_token: gives that token as it is now.

    Source: dataspace service contracts, sections 3.2 and 3.3.
    """

    def __init__(self, http: HttpClient, url: str, service_token: Callable[[], str]) -> None:
        self._http = http
        self._url = f"{url}/api/v1/mappings"
        self._service_token = service_token

    def put(self, mapping: ResourceMapping) -> None:
        """Create a mapping, or replace the one that is there."""
        body = {
            "clientIdentifier": mapping.client,
            "participantContext": mapping.context,
            "scopes": list(mapping.scopes),
            "audiences": list(mapping.audiences),
        }
        # Created, else replaced; and once more, should it have been deleted between the two.
        for _ in range(2):
            if self._send("POST", self._url, body, expect=409).status != 409:
                return
            if self._send("PUT", self._one(mapping.client, mapping.context), body, expect=404).status != 404:
                return
        raise RecoverableError(f"the mapping of {mapping.client} for {mapping.context} comes and goes")

    def delete(self, client: str, context: str) -> None:
        """Delete a mapping; no matter if there is none."""
        self._send("DELETE", self._one(client, context), expect=404)

    def contexts(self, client: str) -> set[str]:
        """The participant contexts that ``client`` has mappings for."""
        return {
            str(one.get("participantContext"))
            for one in self._send("GET", self._url).objects()
            if one.get("clientIdentifier") == client
        }

    def exists(self, client: str, context: str) -> bool:
        """Whether ``client`` has a mapping for ``context``."""
        return context in self.contexts(client)

    def _one(self, client: str, context: str) -> str:
        return f"{self._url}/{segment(client)}/{segment(context)}"

    def _send(self, method: str, url: str, body: Any = None, *, expect: int = 0) -> Answer:
        """Send a request with the token of now, and once more where that was replaced at this moment."""
        for _ in range(2):
            answer = self._http.send(method, url, json=body, bearer=self._service_token(), expect=(expect, 401))
            if answer.status != 401:
                return answer
        # Also when the cluster could not be asked about the token.
        raise RecoverableError(f"{answer.call} does not accept the service account's token")
