"""The wire between the triggers and the functions: calls that are lost, doubled, delayed, or carried out without an answer.

It also writes down every outcome that was told to the engine, so that what the engine believes can be held against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, TextIO

import aiohttp
from aiohttp import web

from cfm_core.contracts import subjects
from local.chaos.dice import Dice
from local.servers.process import free_port

_TIMEOUT = "PT3S"
"""So long a trigger waits for an event function of a run, so that a late answer is one."""
_MOST_BYTES = 16 * 1024 * 1024
_HEADERS = ("Authorization", "Content-Type")
_MOST_REMEMBERED = 5000


class FunctionWire:
    """An HTTP server that hands each call on to its function, or does not."""

    def __init__(self, dice: Dice, said: Path) -> None:
        self._said_path = said
        self._said: TextIO = said.open("w")
        self._port = free_port()
        self._dice = dice
        self._targets: list[dict[str, Any]] = []
        self._is_cut = False
        self._open: set[asyncio.BaseTransport] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._to_engine: dict[str, str] = {}
        """What the last results came with: each function has a token of its own."""
        self._last: OrderedDict[tuple[str, int, int], dict[str, Any]] = OrderedDict()
        """The event that told the last outcome of each activity, of those that have spoken last."""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def forget(self) -> None:
        """Forget what has been told so far."""
        self._said.close()
        self._said = self._said_path.open("w")
        self._last.clear()

    def flush(self) -> None:
        """Let the file have all that was told."""
        self._said.flush()

    def told(self, target: dict[str, Any]) -> dict[str, Any]:
        """What a trigger is told of a target, so that it calls this wire instead."""
        self._targets.append(target)
        timeout = {} if target["activity"] else {"timeout": _TIMEOUT}
        return {**target, **timeout, "url": f"http://127.0.0.1:{self._port}/{len(self._targets) - 1}"}

    async def begin(self) -> None:
        """Take calls from now on."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_post("/{number}", self._call)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)
        )

    def cut(self, is_cut: bool) -> None:
        """Drop all connections and every call, until it is mended."""
        self._is_cut = is_cut
        for transport in self._open if is_cut else ():
            transport.abort()  # type: ignore[attr-defined]  # a socket's transport has it

    async def end(self) -> None:
        """Take no more calls."""
        for task in self._later:
            task.cancel()
        self._said.close()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _call(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is None or self._is_cut:
            return self._broken(request)
        self._open.add(transport)
        try:
            return await self._carry(request, self._targets[int(request.match_info["number"])])
        except (aiohttp.ClientError, TimeoutError, OSError):
            return self._broken(request)
        finally:
            self._open.discard(transport)

    async def _carry(self, request: web.Request, target: dict[str, Any]) -> web.StreamResponse:
        body = await request.read()
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        if target["subject"] == subjects.RESULTS:
            self._to_engine = headers
            body = self._outcomes(body, headers, target)
        elif target["activity"]:
            await self._tell_outdated(body)
        fault = self._dice.throw(
            "call refused", "call lost", "call delayed", "call doubled", "answer lost", "answer late"
        )
        match fault:
            case "call refused":
                return web.Response(status=503, headers={"Retry-After": "1"})
            case "call lost":
                return self._broken(request)
            case "call delayed":
                await asyncio.sleep(self._dice.between(0.05, 2))
            case "call doubled":
                # The other process of event functions, if there is one, gets the same at the same time.
                others = [one for one in self._targets if one["name"] == target["name"]]
                self._post_later(others[-1], headers, body, 0)
        status, answer_headers, answer = await self._post(target, headers, body)
        if fault == "answer lost":
            return self._broken(request)
        if fault == "answer late":
            await asyncio.sleep(self._dice.between(4, 8))
        return web.Response(status=status, body=answer, headers=answer_headers)

    def _outcomes(self, body: bytes, headers: dict[str, str], target: dict[str, Any]) -> bytes:
        """Write down what is told, perhaps tell it once more later, and perhaps in another order."""
        events = json.loads(body)
        for event in events:
            data = event["data"]
            place = (data["orchestrationId"], data["phase"], data["ord"])
            self._said.write("\t".join(map(str, (*place, data["kind"], data["token"]))) + "\n")
            self._last[place] = event
            self._last.move_to_end(place)
            if len(self._last) > _MOST_REMEMBERED:
                self._last.popitem(last=False)
        fault = self._dice.throw("outcomes shuffled", "outcomes replayed")
        if fault == "outcomes replayed":
            self._post_later(target, headers, body, self._dice.between(0.2, 8))
        if fault == "outcomes shuffled":
            self._dice.shuffle(events)
            return json.dumps(events).encode()
        return body

    async def _tell_outdated(self, body: bytes) -> None:
        """Perhaps tell the engine the outcomes of former dispatches while the agent has not even got the new ones."""
        outdated = []
        for event in json.loads(body):
            data = event["data"]
            last = self._last.get((data["orchestrationId"], data["phase"], data["ord"]))
            if last is not None and last["data"]["token"] != data["token"] and self._dice.throw("outcomes outdated"):
                outdated.append(last)
        if outdated:
            target = next(one for one in self._targets if one["subject"] == subjects.RESULTS)
            await self._post(target, self._to_engine, json.dumps(outdated).encode())

    def _post_later(self, target: dict[str, Any], headers: dict[str, str], body: bytes, seconds: float) -> None:
        """Make a call that nobody waits for."""

        async def post() -> None:
            await asyncio.sleep(seconds)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                await self._post(target, headers, body)

        task = asyncio.ensure_future(post())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _post(
        self, target: dict[str, Any], headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None
        async with self._session.post(target["url"], data=body, headers=headers) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return answer.status, kept, await answer.read()

    @staticmethod
    def _broken(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)
