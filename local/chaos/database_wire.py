"""The wire to Postgres: exchanges that do not arrive, come late, or are carried out without the caller hearing of it.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", message flow and formats.
"""

from __future__ import annotations

import asyncio

from local.chaos.wires import Broken, Connection

_HEAD = 5
_READY = b"Z"
_BIND, _QUERY = b"B", b"Q"


class PostgresConnection(Connection):
    """Looks for the ends of exchanges in what the server says."""

    _at_rest = False
    _unanswered = False
    _rest = b""

    async def from_client(self, chunk: bytes) -> None:
        if self._at_rest and (chunk[:1] == _BIND or (chunk[:1] == _QUERY and b"COMMIT" in chunk)):
            fault = self._dice.throw("statement lost", "statement delayed", "commit unanswered")
            if fault == "statement lost":
                raise Broken
            if fault == "statement delayed":
                await asyncio.sleep(self._dice.between(0.05, 1))
            self._unanswered = fault == "commit unanswered"
        self._at_rest = False
        self._server.write(chunk)

    async def from_server(self, chunk: bytes) -> None:
        data = self._rest + chunk
        at = 0
        while len(data) >= at + _HEAD:
            following = at + 1 + int.from_bytes(data[at + 1 : at + _HEAD])
            if following > len(data):
                break
            if data[at : at + 1] == _READY:
                self._at_rest = True
                if self._unanswered:
                    # It has been carried out, and committed unless a transaction is open.
                    raise Broken
            at = following
        self._rest = data[at:]
        if not self._unanswered:
            self._client.write(chunk)
