"""Calls to other systems over HTTP; the one module that knows the HTTP library.

What goes wrong becomes one of two errors: ``RecoverableError`` where the same call may work later, ``FatalError`` where it
will not. Other outcomes that a caller can make sense of, it names in ``expect``.

Source: dataspace service contracts, sections 1.4 and 4.2.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore2
import httpx2

from cfm_core import trace
from cfm_core.clients.destinations import Destinations
from cfm_core.errors import FatalError, RecoverableError

CONNECT_TIMEOUT = timedelta(seconds=5)
MOST_IDLE = 64
"""So many clients keep their connections while nobody uses them."""
LONGEST_MESSAGE = 300
LARGEST_ANSWER = 1024 * 1024
"""Bytes of an answer of somebody whose address comes from data."""

_IDLE_SECONDS = 30
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
    """Clients with connections that are kept, safe to share between threads.

    Each call has a client to itself, the one that was used last. The library's own pool has one lock, under which it looks at
    all connections; sixty threads wait longer for that than for the servers.

    Args:
        timeout: how long an answer may take.
        transport: in a test, what takes the network's place.
        only_to: for addresses that come from data: where they may lead. Then no proxy of the environment is asked, and an answer
            may have ``LARGEST_ANSWER`` bytes, none of them compressed. No client follows a redirect.
    """

    def __init__(
        self,
        timeout: timedelta = timedelta(seconds=10),
        transport: httpx2.BaseTransport | None = None,
        *,
        only_to: Destinations | None = None,
    ) -> None:
        self._timeout = timeout
        self._transport = transport
        self._only_to = only_to
        self._ssl: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._idle: list[httpx2.Client] = []
        self._closed = False
        # A line for each call, which costs more than it tells: what goes wrong is in the activity's result.
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    def send(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        bearer: str = "",
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (),
    ) -> Answer:
        """Send a request and give the answer: any 2xx, or a status of ``expect``. The trace context goes with it.

        Raises:
            RecoverableError: no connection, no answer in time, or a status that passes; with the server's ``Retry-After``.
                Where the address comes from data, also no whole answer in time.
            FatalError: any other status; with the server's message. Where the address comes from data, also that it leads
                where it must not.
        """
        if self._only_to is not None:
            self._only_to.check(url)
        call = f"{method} {_shown(url)}"
        context = dict(trace.headers())
        if self._only_to is not None:
            # Whoever has named the address is not to learn what callers tell each other.
            context.pop("baggage", None)
        sent = {**context, **(headers or {}), **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        try:
            with self._client() as client:
                if self._only_to is None:
                    response = client.request(method, url, json=json, data=form, params=query, headers=sent)
                    content = response.content
                else:
                    sent["Accept-Encoding"] = "identity"
                    with client.stream(method, url, json=json, data=form, params=query, headers=sent) as response:
                        content = _limited(response, call, self._timeout)
        except httpx2.ConnectTimeout:
            raise RecoverableError(f"{call}: no connection within {_seconds(CONNECT_TIMEOUT)}") from None
        except httpx2.TimeoutException:
            raise RecoverableError(f"{call}: no answer within {_seconds(self._timeout)}") from None
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise FatalError(f"{call}: the address is wrong: {error}") from None
        except httpx2.RequestError as error:
            raise RecoverableError(f"{call}: {type(error).__name__}: {error}") from None
        answer = Answer(call, response.status_code, response.headers, content)
        if response.is_success or response.status_code in expect:
            return answer
        raise answer.error()

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it is not."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for client in idle:
            client.close()

    @contextmanager
    def _client(self) -> Iterator[httpx2.Client]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or self._new_client()
        try:
            yield client
        finally:
            with self._lock:
                keep = not self._closed and len(self._idle) < MOST_IDLE
                if keep:
                    self._idle.append(client)
            if not keep:
                client.close()

    def _new_client(self) -> httpx2.Client:
        with self._lock:
            if self._ssl is None:
                self._ssl = httpx2.create_ssl_context()  # takes longer than a call
        seconds = self._timeout.total_seconds()
        transport = self._transport
        if transport is None and self._only_to is not None:
            transport = _GuardedTransport(self._ssl, self._only_to)
        return httpx2.Client(
            verify=self._ssl,
            timeout=httpx2.Timeout(seconds, connect=min(CONNECT_TIMEOUT, self._timeout).total_seconds()),
            limits=httpx2.Limits(keepalive_expiry=_IDLE_SECONDS),
            transport=transport,
            follow_redirects=False,
        )


class _GuardedTransport(httpx2.HTTPTransport):
    """The library's own, with connections that go where they may."""

    def __init__(self, context: ssl.SSLContext, destinations: Destinations) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context, keepalive_expiry=_IDLE_SECONDS, network_backend=_GuardedNetwork(destinations)
        )


class _GuardedNetwork(httpcore2.NetworkBackend):
    """Looks at each address before it connects to it. Over TLS the server has to prove the name, not the address."""

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._network = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            where = self._destinations.looked_up(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        failure: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        for address in where:
            try:
                return self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")


def _limited(response: httpx2.Response, call: str, timeout: timedelta) -> bytes:
    """The body of an answer, which is read no further than it may be long, and no longer than it may take.

    Raises:
        FatalError: it is longer, or compressed although nobody has asked for that.
        RecoverableError: it trickles in.
    """
    until = time.monotonic() + timeout.total_seconds()
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FatalError(f"{call} answered {response.status_code} with something compressed")
    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > LARGEST_ANSWER:
            raise FatalError(f"{call} answered {response.status_code} with more than {LARGEST_ANSWER} bytes")
        # The library's own limit begins anew with every byte.
        if time.monotonic() > until:
            raise RecoverableError(f"{call}: no whole answer within {_seconds(timeout)}")
    return bytes(content)


def _shown(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
