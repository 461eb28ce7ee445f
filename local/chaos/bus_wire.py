"""The wire to NATS: messages and acknowledgements that are lost, doubled, or overtake each other.

Source: NATS documentation, "Client Protocol", and "JetStream wire API" for the subjects of acknowledgements.
"""

from __future__ import annotations

import asyncio

from local.chaos.wires import Connection

_WITH_PAYLOAD = frozenset({b"PUB", b"HPUB", b"MSG", b"HMSG"})
_END = b"\r\n"


class _Frames:
    """Cuts what arrives into the protocol's frames."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, chunk: bytes) -> list[tuple[list[bytes], bytes]]:
        """The frames that are whole now: the words of the first line, and all of the frame."""
        self._rest += chunk
        found = []
        while (end := self._rest.find(_END)) >= 0:
            words = self._rest[:end].split()
            size = end + len(_END)
            if words and words[0].upper() in _WITH_PAYLOAD:
                size += int(words[-1]) + len(_END)
            if len(self._rest) < size:
                break
            found.append((words, self._rest[:size]))
            self._rest = self._rest[size:]
        return found


class NatsConnection(Connection):
    """Lets the fabric's messages have accidents; requests to JetStream and all else pass."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # those of any connection
        self._out, self._in = _Frames(), _Frames()

    async def from_client(self, chunk: bytes) -> None:
        for words, frame in self._out.of(chunk):
            self._pass(self._server, frame, self._published(words))

    async def from_server(self, chunk: bytes) -> None:
        for words, frame in self._in.of(chunk):
            self._pass(self._client, frame, self._delivered(words, frame))

    def _published(self, words: list[bytes]) -> str:
        if words[0] not in {b"PUB", b"HPUB"}:
            return ""
        if words[1].startswith(b"event."):
            return self._dice.throw("publish lost", "publish doubled")
        if words[1].startswith(b"$JS.ACK."):
            return self._dice.throw("acknowledgement lost")
        return ""

    def _delivered(self, words: list[bytes], frame: bytes) -> str:
        if words[0] not in {b"MSG", b"HMSG"}:
            return ""
        if words[3].startswith(b"$JS.ACK."):
            return self._dice.throw("message lost", "message doubled", "message delayed")
        if b'{"stream":' in frame and b'"seq":' in frame and b'"type":' not in frame:
            return self._dice.throw("publish unanswered")
        return ""

    def _pass(self, sink: asyncio.StreamWriter, frame: bytes, fault: str) -> None:
        if fault.endswith(("lost", "unanswered")):
            return
        if fault.endswith("delayed"):
            asyncio.get_running_loop().call_later(self._dice.between(0.1, 3), _write, sink, frame)
            return
        _write(sink, frame * 2 if fault.endswith("doubled") else frame)


def _write(sink: asyncio.StreamWriter, frame: bytes) -> None:
    if not sink.is_closing():
        sink.write(frame)
