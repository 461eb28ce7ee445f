"""Where runs take place: real servers, wires in front of them, and a stack with two triggers and two engine processes."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from cfm_core.store.database import Database
from local.chaos import records
from local.chaos.alterations import hasten
from local.chaos.bus_wire import NatsConnection
from local.chaos.database_wire import PostgresConnection
from local.chaos.dice import Dice
from local.chaos.function_wire import FunctionWire
from local.chaos.wires import Loop, TcpWire, Wire
from local.keeper import Keeper, Server
from local.servers.nats import EmbeddedNats
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import StartError, free_port
from local.stack import Stack

_EMPTY = """
TRUNCATE provision_manager.orchestration, provision_manager.orchestration_data, provision_manager.activity,
         provision_manager.activity_output, provision_manager.history, provision_manager.dead_letter,
         provision_manager.admission, provision_manager.admitted, provision_manager.gate,
         provision_manager.schedule, provision_manager.delayed_start, eventing.outbox, http.idempotent_answers
"""


class Ground:
    """A context manager that starts all of it in ``home``, and stops it.

    Args:
        say: takes lines about what happens.
    """

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.executions = home / "executions.tsv"
        self.said = home / "said.tsv"
        self.dice = Dice()
        self.functions = FunctionWire(self.dice, self.said)
        self._home = home
        self._say = say
        self._postgres = EmbeddedPostgres(
            home / "postgres", home / "postgres.log", free_port(), settings={"fsync": "off"}
        )
        self._nats = EmbeddedNats(home / "nats", home / "nats.log", free_port())
        self._keepers: dict[str, Keeper] = {}
        self._wires: dict[str, Wire] = {}
        self._loop: Loop | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def url(self) -> str:
        return self._stack.url

    @property
    def database_url(self) -> str:
        """The database itself, past the wire."""
        return self._postgres.url()

    def empty(self) -> None:
        """Forget all orchestrations and participants, and what agents have noted of them."""
        with self.database.transaction() as tx:
            tx.rows(_EMPTY)
            tx.rows(records.EMPTY)
            # Past the rules that only a disposed participant goes, and nothing of the audit trail.
            tx.rows("SET LOCAL session_replication_role = replica")
            tx.rows("DELETE FROM tenant_manager.participant_profiles")
            tx.rows("TRUNCATE audit.entry, audit.payload, audit.waiting, audit.seal, audit.sealed")
        if self.executions.exists():
            os.truncate(self.executions, 0)  # the agent goes on writing to it
        self.functions.forget()

    # What can happen to a process, or to a wire

    def kill(self, name: str) -> None:
        """End a process without a warning; it is started again."""
        self._leader(name).kill()

    def restart(self, name: str) -> None:
        """Ask a process to end; it is started again."""
        self._leader(name).send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)

    def pause(self, name: str, seconds: float) -> Callable[[], object]:
        """Stop a process where it is for so long; gives what returns when it goes on."""
        leader = self._leader(name)
        # Postgres serves each connection by a process of its own.
        stopped = [str(one.pid) for one in (leader, *leader.children(recursive=True))]
        # Not by this process: were it killed meanwhile, they would stay for ever, and could not even end.
        command = 'kill -STOP "$@"; sleep "$0"; kill -CONT "$@"'
        return subprocess.Popen(
            ["/bin/sh", "-c", command, str(seconds), *stopped], start_new_session=True, stderr=subprocess.DEVNULL
        ).wait

    def wipe(self) -> None:
        """Delete all that JetStream has stored, and kill NATS."""
        shutil.rmtree(self._nats.store, ignore_errors=True)
        self.kill("nats")

    def cut(self, wire: str, is_cut: bool) -> None:
        """Cut a wire, or mend it."""
        assert self._loop is not None
        self._loop.call(self._wires[wire], is_cut)

    # Coming

    def _leader(self, name: str) -> psutil.Process:
        keeper = self._keepers.get(name)
        process = self._stack.process(name) if keeper is None else keeper.process
        assert process is not None
        return psutil.Process(process.pid)

    def _start(self) -> None:
        self._start_servers()
        self._loop = loop = Loop()
        self._open.callback(loop.stop)
        self._wires = {
            "functions": self.functions,
            "database": (database := TcpWire(self._postgres.port, PostgresConnection, self.dice)),
            "bus": (bus := TcpWire(self._nats.port, NatsConnection, self.dice)),
        }
        for wire in self._wires.values():
            self._open.callback(_end, loop, wire)
            loop.run(wire.begin())
        agent = shutil.copy(Path(__file__).with_name("chaos_agent.py"), self._home)
        self._stack = Stack(
            self._home / "stack",
            auth=False,
            agents=[Path(agent)],
            database_url=_with_port(self._postgres.url(), self._postgres.port, database.port),
            nats_url=_with_port(self._nats.url, self._nats.port, bus.port),
            handovers=("direct", "jetstream"),
            told=self.functions.told,
            say=self._say,
        )
        self._open.enter_context(self._stack)
        self.database = Database(self.database_url)
        self._open.callback(self.database.close)
        hasten(self.database_url)
        records.create(self.database)

    def _start_servers(self) -> None:
        settled: queue.SimpleQueue[Keeper] = queue.SimpleQueue()
        servers: dict[str, Server] = {"postgres": self._postgres, "nats": self._nats}
        for name, server in servers.items():
            self._keepers[name] = keeper = Keeper(name, server, changed=settled.put, say=self._say)
            self._open.callback(keeper.stop)
            keeper.start()
        for _ in servers:
            if (failure := settled.get().failure) is not None:
                raise StartError(str(failure)) from failure


def _end(loop: Loop, wire: Wire) -> None:
    loop.run(wire.end())


def _with_port(url: str, port: int, instead: int) -> str:
    return url.replace(f":{port}", f":{instead}")
