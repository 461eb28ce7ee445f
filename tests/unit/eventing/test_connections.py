"""What the trigger understands of HTTP answers, and when it keeps a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cfm_core.eventing.connections import Connections, read

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(_OK, id="with a length"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + _OK, id="after an interim answer"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", id="in chunks"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", id="with trailers"
        ),
    ],
)
def test_an_answer_is_read_when_all_of_it_is_there(received: bytes) -> None:
    assert all(read(received[:length], ended=False) is None for length in range(len(received)))
    response = read(received, ended=False)
    assert response is not None
    assert (response.status, response.body, response.keeps) == (200, b"hello", True)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    received = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nlater"
    assert read(received, ended=False) is None
    response = read(received, ended=True)
    assert response is not None
    assert (response.status, response.headers, response.body, response.keeps) == (
        503,
        {"retry-after": "7"},
        b"later",
        False,
    )


@pytest.mark.parametrize(
    ("received", "ended"),
    [
        (b"", True),
        (_OK[:-1], True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello", False),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False),
        (b"HTTP/1.1 fine\r\n\r\n", False),
        (b"x" * 100_000, False),
    ],
)
def test_what_is_no_answer_is_refused(received: bytes, ended: bool) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(received, ended=ended)


def _with_server(server: Server, use: Callable[[str, Connections], Awaitable[None]]) -> int:
    """Runs ``use`` against ``server``; gives how many connections there were."""
    accepted = 0
    ended: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        task = asyncio.current_task()
        assert task is not None
        ended.append(task)
        await server(reader, writer)
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        connections = Connections({"Content-Type": "text/plain"})
        try:
            await use(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/f?a=b", connections)
        finally:
            connections.close()
            listening.close()
            await asyncio.gather(*ended)

    asyncio.run(main())
    return accepted


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))


def test_a_connection_is_used_again_and_carries_what_every_request_has() -> None:
    heard = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heard.append(await _request(reader))
            writer.write(_OK)

    async def use(url: str, connections: Connections) -> None:
        for body in (b"one", b"two"):
            assert (await connections.post(url, body, 5)).body == b"hello"

    assert _with_server(server, use) == 1
    assert [body for _, body in heard] == [b"one", b"two"]
    assert heard[0][0].startswith(b"POST /f?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nContent-Type: text/plain\r\n" in heard[0][0]


def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(_OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    async def use(url: str, connections: Connections) -> None:
        for _ in range(2):
            assert (await connections.post(url, b"", 5)).status == 200

    assert _with_server(server, use) == 2


def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    both = asyncio.Barrier(2)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        await both.wait()
        writer.write(_OK)

    async def use(url: str, connections: Connections) -> None:
        answers = await asyncio.gather(*(connections.post(url, b"", 5) for _ in range(2)))
        assert [answer.status for answer in answers] == [200, 200]

    assert _with_server(server, use) == 2


def test_a_connection_that_breaks_is_an_error_of_the_system() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(_OK[:-1])

    async def use(url: str, connections: Connections) -> None:
        with pytest.raises(ConnectionError, match="no whole body"):
            await connections.post(url, b"", 5)

    _with_server(server, use)


def test_an_answer_that_does_not_come_is_waited_for_only_so_long() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def use(url: str, connections: Connections) -> None:
        with pytest.raises(TimeoutError):
            await connections.post(url, b"", 0.05)

    _with_server(server, use)
