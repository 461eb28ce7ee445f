"""The wire between an agent and the services that it calls: sees every call, and cuts the agent off where it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

_TIMEOUT_SECONDS = 60
_MOST_BYTES = 16 * 1024 * 1024
_KEPT_BACK = frozenset(
    # What is true of one connection only; and no encoding, so that bodies can be read here.
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
    | {"accept-encoding"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a service has answered; ``path`` is still encoded, and without the query."""

    service: str
    method: str
    path: str
    query: str
    idempotency_key: str
    body: bytes
    status: int
    answer: bytes
    location: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Cut(Enum):
    """What goes wrong after a call has taken effect."""

    CRASH = "crash"
    """The caller gets no answer, and no further call gets through: its process is gone."""
    LOST = "lost"
    """The caller gets no answer; the calls that follow go through."""


class Wire:
    """Addresses in front of services; usable in a ``with`` block.

    ``calls`` holds what was answered since ``forget``; ``counted`` those of them since ``begin``.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._begun = 0
        self._upstreams: dict[str, str] = {}
        self._at = 0
        self._count = 0
        self._cut: Cut | None = None
        self._meanwhile: Callable[[], object] | None = None
        self._is_cut = False
        self._is_dead = False
        self._runners: list[web.AppRunner] = []
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> Wire:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="wire")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def front(self, service: str, url: str) -> str:
        """Give the address at which calls for ``url`` are taken from now on."""
        port = asyncio.run_coroutine_threadsafe(self._listen(service), self._loop).result()
        self.lead(service, url)
        return f"http://127.0.0.1:{port}{urlsplit(url).path.rstrip('/')}"

    def lead(self, service: str, url: str) -> None:
        """Let the calls for a service, which has an address already, go to ``url``; its path stays what it was."""
        parts = urlsplit(url)
        self._upstreams[service] = f"{parts.scheme}://{parts.netloc}"

    def forget(self) -> None:
        """Forget all calls, and mend the wire."""
        self.calls = []
        self.begin()

    def begin(self, at: int = 0, cut: Cut | None = None, meanwhile: Callable[[], object] | None = None) -> None:
        """Mend the wire and count calls from now on.

        Args:
            at: the call, counted from 1, at which something happens; 0: at none.
            cut: what goes wrong after that call has taken effect.
            meanwhile: is called in another thread before that call goes on to its service; nothing is counted during that.
        """
        self._begun = len(self.calls)
        self._count = 0
        self._at, self._cut, self._meanwhile = at, cut, meanwhile
        self._is_cut = self._is_dead = False

    @property
    def counted(self) -> list[Call]:
        return self.calls[self._begun :]

    @property
    def is_cut(self) -> bool:
        """Whether what was to go wrong since ``begin`` has."""
        return self._is_cut

    @property
    def is_crashed(self) -> bool:
        """Whether that was a crash."""
        return self._is_dead

    async def _listen(self, service: str) -> int:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                auto_decompress=False,
                skip_auto_headers=("Content-Type", "User-Agent", "Accept-Encoding"),
            )
        app = web.Application(client_max_size=_MOST_BYTES)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._carry(service, request)

        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    async def _end(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _carry(self, service: str, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self._is_dead:
            return _broken(request)
        self._count += 1
        is_it = self._count == self._at
        if is_it and (meanwhile := self._meanwhile) is not None:
            self._at = 0
            await asyncio.get_running_loop().run_in_executor(None, meanwhile)
        try:
            answer = await self._ask(service, request, body)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return _broken(request)
        if is_it and self._cut is not None:
            self._is_cut = True
            self._is_dead = self._cut is Cut.CRASH
            return _broken(request)
        return answer

    async def _ask(self, service: str, request: web.Request, body: bytes) -> web.Response:
        assert self._session is not None
        path, _, query = request.raw_path.partition("?")
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _KEPT_BACK]
        async with self._session.request(
            request.method,
            URL(self._upstreams[service] + request.raw_path, encoded=True),
            data=body or None,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            self.calls.append(
                Call(
                    service,
                    request.method,
                    path,
                    query,
                    request.headers.get("Idempotency-Key", ""),
                    body,
                    answer.status,
                    content,
                    answer.headers.get("Location", ""),
                )
            )
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _KEPT_BACK]
            response = web.Response(status=answer.status, body=content)
            response.headers.extend(kept)
            return response


def _broken(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
