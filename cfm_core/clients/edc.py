"""What control plane, IdentityHub and IssuerService have in common: tokens and refusals.

Source: dataspace service contracts, section 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cfm_core.clients.http import Answer, HttpClient
from cfm_core.clients.jwtlet import TokenExchange
from cfm_core.errors import FatalError, RecoverableError

PAGE = 50

_NO_PARTICIPANT = "No participant for"


class EdcApi:
    """Calls one of the three with a token of the participant context that the call is about."""

    def __init__(self, http: HttpClient, tokens: TokenExchange, url: str) -> None:
        self._http = http
        self._tokens = tokens
        self._url = url

    def send(
        self,
        method: str,
        path: str,
        *,
        context: str,
        scope: str,
        json: Any = None,
        query: Mapping[str, str] | None = None,
        expect: Collection[int] = (),
    ) -> Answer:
        """Send a request and give the answer: any 2xx, or a status of ``expect``.

        A token that is not accepted is replaced once.

        Raises:
            NoTokenError: there is no token for ``context`` with ``scope``.
            RecoverableError: the same call may work later.
            FatalError: it will not.
        """
        scopes = (scope,)
        for _ in range(2):
            answer = self._http.send(
                method,
                self._url + path,
                json=json,
                query=query,
                bearer=self._tokens.token(context, scopes),
                expect=(*expect, 401),
            )
            if answer.status != 401:
                return answer
            if _NO_PARTICIPANT in answer.message:
                # The token is good, and the service does not know the participant: it may just not be that far.
                raise RecoverableError(f"{answer.call} answered 401: {answer.message}")
            self._tokens.forget(context, scopes)
        raise answer.error()


def filter_by(left: str, right: str) -> dict[str, str]:
    """One condition of a query: ``left`` equals ``right``."""
    return {"operandLeft": left, "operator": "=", "operandRight": right}


def required(document: Mapping[str, Any], key: str, answer: Answer) -> str:
    """A text that an answer must contain; FatalError where it does not."""
    value = document.get(key)
    if not isinstance(value, str):
        raise FatalError(f"{answer.call} answered without {key!r}")
    return value
