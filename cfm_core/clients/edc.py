"""What control plane, IdentityHub, IssuerService and Siglet have in common: tokens and refusals.

Source: dataspace service contracts, sections 4 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from cfm_core.clients.http import Answer, HttpClient
from cfm_core.clients.jwtlet import NoTokenError, TokenExchange
from cfm_core.errors import FatalError, RecoverableError

PAGE = 50

_NO_PARTICIPANT = "No participant for"


class TornDownError(NoTokenError):
    """There is no token because there is no mapping for the participant context: not yet, or not any more."""


class EdcApi:
    """Calls one of these services with a token of the participant context that the call is about.

    Args:
        is_mapped: tells whether jwtlet has a mapping for a participant context, which the refusal of a token leaves open;
            without it a refusal is taken to mean that it has none.
    """

    def __init__(
        self,
        http: HttpClient,
        tokens: TokenExchange,
        url: str,
        is_mapped: Callable[[str], bool] = lambda context: False,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._url = url
        self._is_mapped = is_mapped

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
            TornDownError: jwtlet knows nothing of ``context``.
            NoTokenError: jwtlet knows it, and gives no token with ``scope``.
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
                bearer=self._token(context, scopes),
                expect=(*expect, 401),
            )
            if answer.status != 401:
                return answer
            if _NO_PARTICIPANT in answer.message:
                # The token is good, and the service does not know the participant: it may just not be that far.
                raise RecoverableError(f"{answer.call} answered 401: {answer.message}")
            self._tokens.forget(context, scopes)
        raise answer.error()

    def _token(self, context: str, scopes: tuple[str, ...]) -> str:
        try:
            return self._tokens.token(context, scopes)
        except NoTokenError as error:
            if self._is_mapped(context):
                raise
            raise TornDownError(f"{error}; there is no mapping for {context}") from None


def filter_by(left: str, right: str) -> dict[str, str]:
    """One condition of a query: ``left`` equals ``right``."""
    return {"operandLeft": left, "operator": "=", "operandRight": right}


def required(document: Mapping[str, Any], key: str, answer: Answer) -> str:
    """A text that an answer must contain; FatalError where it does not."""
    value = document.get(key)
    if not isinstance(value, str):
        raise FatalError(f"{answer.call} answered without {key!r}")
    return value
