"""Functions to bring events to, and the trigger as a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from cfm_core.contracts.completion import CompletionKey
from cfm_core.contracts.event_tokens import derived
from cfm_core.contracts.reply import EventDict
from cfm_core.eventing.targets import Target, dump
from local.servers.process import free_port, spawn, stop, wait_until

EVENT_KEY = "the-key-of-the-trigger"
WAKE_KEY = "the-key-of-the-datagrams"
API = "http://cfm/api/v1alpha1"
KEY = CompletionKey("the-key-of-the-deployment")

Events = list[EventDict]


@dataclass(frozen=True)
class Said:
    """What a function answers."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


Behaviour = Callable[[Events], Said]


def fine(events: Events) -> Said:
    return Said()


def reply(**document: Any) -> Said:
    return Said(body=json.dumps(document).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The trigger keeps connections; nobody waits for them at the end.
    block_on_close = False
    request_queue_size = 128


class Functions:
    """An HTTP server whose paths are functions; remembers every batch that it was sent."""

    def __init__(self, behaviours: Mapping[str, Behaviour]) -> None:
        self.behaviours = dict(behaviours)
        self.batches: list[tuple[str, Events]] = []
        self.event_key = EVENT_KEY
        self._changed = threading.Condition()
        self._port = free_port()
        self._server: _Server | None = None
        self.start()

    def start(self) -> None:
        functions = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                opens = derived(functions.event_key, self.path.strip("/"))
                if self.headers["Authorization"] != f"Bearer {opens}":
                    said = Said(401)
                elif self.headers["Content-Type"] != "application/cloudevents-batch+json":
                    said = Said(415)
                else:
                    said = functions._called(self.path.strip("/"), json.loads(body))
                self.send_response(said.status)
                for name, value in {**said.headers, "Content-Length": str(len(said.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.body)

            def log_message(self, format: str, *args: Any) -> None:
                return

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    # The trigger was killed, or has lost patience.
                    self.close_connection = True

        self._server = _Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._port}/{name}"

    def events(self, name: str) -> Events:
        """All that the function was sent, repetitions included."""
        with self._changed:
            return [event for called, events in self.batches if called == name for event in events]

    def ids(self, name: str) -> Counter[str]:
        return Counter(event["id"] for event in self.events(name))

    def wait(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Return as soon as ``condition()``, which is looked at after each call of a function."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"waited in vain; called: {[(name, len(events)) for name, events in self.batches]}"
                self._changed.wait(min(left, 0.05))

    def _called(self, name: str, events: Events) -> Said:
        with self._changed:
            self.batches.append((name, events))
            self._changed.notify_all()
        said = self.behaviours[name](events)
        with self._changed:
            self._changed.notify_all()
        return said


class TriggerProcess:
    """One trigger as its users run it."""

    def __init__(
        self,
        home: Path,
        targets: Sequence[Target],
        *,
        database_url: str,
        nats_url: str,
        handover: str = "direct",
        wakes: Mapping[str, str] = MappingProxyType({"CFM_PROVISION_MANAGER_WAKE_KEY": WAKE_KEY}),
        told: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.wake_address = f"127.0.0.1:{free_port()}"
        self._health = f"127.0.0.1:{free_port()}"
        self.log = home / "trigger.log"
        file = home / "targets.json"
        file.write_text(dump(targets))
        self.event_key = home / "event-key"
        self.event_key.write_text(EVENT_KEY)
        self.process = spawn(
            [sys.executable, "-m", "cfm_core.eventing.trigger", "--targets", file],
            log=self.log,
            env={
                "PATH": os.defpath,
                "CFM_DATABASE_URL": database_url,
                "CFM_NATS_URL": nats_url,
                "CFM_EVENT_KEY_FILE": str(self.event_key),
                "CFM_TRIGGER_ADDRESS": self.wake_address,
                "CFM_TRIGGER_HEALTH": self._health,
                "CFM_HANDOVER": handover,
                "CFM_COMPLETION_URL": API,
                "CFM_COMPLETION_KEY": KEY.key,
                **wakes,
                **told,
            },
            cwd=Path(__file__).resolve().parents[3],
        )

    def wait_ready(self, *, nats: bool = True) -> None:
        """Return when the outbox is reached and, unless it is away on purpose, NATS."""
        wait_until(
            lambda: (state := self.state()).get("ready", False) and state["nats"] is nats,
            process=self.process,
            log=self.log,
            what="the trigger",
        )

    def state(self) -> dict[str, Any]:
        """What ``/readyz`` answers; empty while nobody does."""
        try:
            with urlopen(f"http://{self._health}/readyz", timeout=5) as response:
                document: dict[str, Any] = json.load(response)
        except HTTPError as error:
            with error:
                document = json.load(error)
        except (URLError, OSError):
            return {}
        return document

    def wake(self, datagram: bytes = b"") -> None:
        """What a function does after a commit that left rows of which it knows nothing."""
        host, port = self.wake_address.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(datagram, (host, int(port)))

    def kill(self) -> None:
        stop(self.process, how=signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop and give its exit code."""
        stop(self.process, seconds=20)
        return self.process.returncode

    def wait_exit(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)

    def text(self) -> str:
        return self.log.read_text()


@contextmanager
def serving(behaviours: Mapping[str, Behaviour]) -> Iterator[Functions]:
    functions = Functions(behaviours)
    try:
        yield functions
    finally:
        functions.stop()


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Return as soon as ``condition()``; for what nobody signals, such as a row that vanishes."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)  # between two looks; what is waited for is the condition
        pause = min(pause * 1.5, 0.05)


def is_running(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None
