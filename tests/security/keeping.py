"""All that a stack keeps: a digest of each table, and how much each stream has ever held."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from cfm_core.contracts import subjects
from cfm_core.store.database import connect

_STREAMS = (subjects.STREAM, subjects.ACTIVITY_STREAM)
_TABLES = """
SELECT c.oid::regclass::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
 ORDER BY 1
"""

Kept = Mapping[str, str]


class Keeping:
    """Looks into the database and the streams of a stack, as their administrator."""

    def __init__(self, database_url: str, nats_url: str) -> None:
        self._connection = connect(database_url)
        tables = [name for (name,) in self._connection.run(_TABLES) or ()]
        # Sums of what each row hashes to: no order is needed, and two rows that are alike count twice.
        self._digests = " UNION ALL ".join(
            f"SELECT '{name}', count(*)::text || '/' || coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {name} t"  # noqa: S608
            for name in tables
        )
        self._connection.run(f"PREPARE kept AS {self._digests}")
        self._streams = _Streams(nats_url)

    def look(self) -> Kept:
        """By the name of each table and stream, what tells whether anything has changed there."""
        return dict(self._connection.run("EXECUTE kept") or ()) | self._streams.counts()

    def rows(self, sql: str) -> list[list[object]]:
        """What the database answers to ``sql``."""
        return list(self._connection.run(sql) or ())

    def close(self) -> None:
        self._connection.close()
        self._streams.close()


class _Streams:
    """Counts the messages of streams over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((str(parts.hostname), parts.port or 4222), 20)
        self._said = self._socket.makefile("rb")
        self._said.readline()
        told = {"user": parts.username, "pass": parts.password, "verbose": False, "lang": "py", "version": "0"}
        self._socket.sendall(f"CONNECT {json.dumps(told)}\r\nSUB _INBOX.kept 1\r\n".encode())

    def counts(self) -> dict[str, str]:
        return {f"stream {name}": self._count(name) for name in _STREAMS}

    def _count(self, stream: str) -> str:
        self._socket.sendall(f"PUB $JS.API.STREAM.INFO.{stream} _INBOX.kept 0\r\n\r\n".encode())
        while not (line := self._said.readline()).startswith(b"MSG "):
            if line.startswith(b"PING"):
                self._socket.sendall(b"PONG\r\n")
            assert not line.startswith(b"-ERR"), line
            assert line, "NATS has closed the connection"
        state = json.loads(self._said.read(int(line.split()[-1]) + 2))["state"]
        return f"{state['messages']} of {state['last_seq']}"

    def close(self) -> None:
        self._said.close()
        self._socket.close()
