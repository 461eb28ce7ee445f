"""Calls to other systems over HTTP; the one module that knows the HTTP library.

What goes wrong becomes one of two errors: ``RecoverableError`` where the same call may work later, ``FatalError`` where it
will not. Other outcomes that a caller can make sense of, it names in ``expect``.

Source: dataspace service contracts, sections 1.4 and 4.2.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from cfm_core import trace
from cfm_core.errors import FatalError, RecoverableError

CONNECT_TIMEOUT = timedelta(seconds=5)
POOL_TIMEOUT = timedelta(seconds=5)
LONGEST_MESSAGE = 300

_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


def segment(text: str) -> str:
    """``text`` as one segment of a path, encoded but for ``:``, which may stand there and which servers expect as it is."""
    return quote(text, safe=":")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; ``call`` says to what, for errors."""

    call: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body.

        Raises:
            FatalError: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise FatalError(f"{self.call} answered {self.status} with something that is not JSON") from None

    def objects(self) -> list[dict[str, Any]]:
        """The body, which must be a list of objects; FatalError where it is not."""
        found = self.json()
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise FatalError(f"{self.call} answered {self.status} with something that is not a list of objects")
        return found

    def object(self) -> dict[str, Any]:
        """The body, which must be an object; FatalError where it is not."""
        found = self.json()
        if not isinstance(found, dict):
            raise FatalError(f"{self.call} answered {self.status} with something that is not an object")
        return found

    @property
    def message(self) -> str:
        """What the server says about an error: an error array's first message, an object's, or the text; cut short."""
        text = self.body.decode(errors="replace")
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if isinstance(document, list) and document:
            document = document[0]
        if isinstance(document, dict):
            # The last two are those of RFC 9457.
            for key in ("message", "error", "errorMessage", "detail", "title"):
                if isinstance(document.get(key), str):
                    text = document[key]
                    break
        text = " ".join(text.split())
        return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"

    @property
    def retry_after(self) -> float | None:
        """In how many seconds the server wants to be asked again, if it says so."""
        said = self.headers.get("retry-after", "").strip()
        if not said:
            return None
        try:
            seconds = float(said)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
            except (ValueError, TypeError):
                return None
        return max(seconds, 0.0) if seconds < 86400 else None

    def error(self) -> RecoverableError | FatalError:
        """The error that this answer means to a caller who expected none."""
        text = f"{self.call} answered {self.status}" + (f": {self.message}" if self.body.strip() else "")
        if self.status in _LATER:
            return RecoverableError(text, self.retry_after)
        return FatalError(text)


class HttpClient:
    """A pool of connections, safe to share between threads.

    Args:
        timeout: how long an answer may take.
        transport: in a test, what takes the network's place.
    """

    def __init__(
        self, timeout: timedelta = timedelta(seconds=10), transport: httpx2.BaseTransport | None = None
    ) -> None:
        self._timeout = timeout
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(
                timeout.total_seconds(),
                connect=min(CONNECT_TIMEOUT, timeout).total_seconds(),
                pool=POOL_TIMEOUT.total_seconds(),
            ),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=30),
            transport=transport,
        )

    def send(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        bearer: str = "",
        expect: Collection[int] = (),
    ) -> Answer:
        """Send a request and give the answer: any 2xx, or a status of ``expect``. The trace context goes with it.

        Raises:
            RecoverableError: no connection, no answer in time, or a status that passes; with the server's ``Retry-After``.
            FatalError: any other status; with the server's message.
        """
        call = f"{method} {_shown(url)}"
        headers = {**trace.headers(), **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        try:
            response = self._client.request(method, url, json=json, data=form, params=query, headers=headers)
        except httpx2.ConnectTimeout:
            raise RecoverableError(f"{call}: no connection within {_seconds(CONNECT_TIMEOUT)}") from None
        except httpx2.PoolTimeout:
            raise RecoverableError(f"{call}: all connections were busy for {_seconds(POOL_TIMEOUT)}") from None
        except httpx2.TimeoutException:
            raise RecoverableError(f"{call}: no answer within {_seconds(self._timeout)}") from None
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise FatalError(f"{call}: the address is wrong: {error}") from None
        except httpx2.RequestError as error:
            raise RecoverableError(f"{call}: {type(error).__name__}: {error}") from None
        answer = Answer(call, response.status_code, response.headers, response.content)
        if response.is_success or response.status_code in expect:
            return answer
        raise answer.error()

    def close(self) -> None:
        self._client.close()


def _shown(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
