"""What the figures are held against, taken in the same run: a bare function, and bare commits."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cfm_core.store.database import connect
from local.bench.load import Connection, Rate, run_for
from local.server import GATEWAY_THREADS
from local.servers.postgres import binaries
from local.servers.process import answers, free_port, spawn, stop, wait_until
from local.stack import GATEWAYS

_TRANSACTION = """\
\\set key random(1, 100000000)
INSERT INTO bench_commit (payload) VALUES (jsonb_build_object('key', :key::bigint, 'filler', repeat('x', 900)));
"""


def bare_function(seconds: float, clients: int) -> Rate:
    """A function that only answers, served as the gateway is: as many processes on one port, as many threads in each."""
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        port, source = free_port(), Path(__file__).with_name("bare.py")
        for number in range(len(GATEWAYS)):
            log = Path(home) / f"bare-{number}.log"
            argv = (sys.executable, "-m", "local.bench.serve_bare", source, str(port), str(GATEWAY_THREADS))
            server = spawn(argv, log=log, env=os.environ)
            stack.callback(stop, server)
            wait_until(lambda: answers("127.0.0.1", port), process=server, log=log, what="the bare function")
        connections = [Connection(f"http://127.0.0.1:{port}") for _ in range(clients)]

        def call(connection: Connection) -> None:
            status, _, _ = connection.request("GET", "/anything")
            assert status == 200, status

        run_for(0.5, connections, call)
        rate = run_for(seconds, connections, call)
        for connection in connections:
            connection.close()
        return rate


def commits(database_url: str, seconds: int, clients: int) -> dict[str, float]:
    """pgbench: one insert of about a kilobyte of JSON per transaction, as a deployment's rows are."""
    admin = connect(database_url)
    admin.run("CREATE TABLE bench_commit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL)")
    parts = urlsplit(database_url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_TRANSACTION)
        script.flush()
        done = subprocess.run(
            [
                *(str(binaries() / "pgbench"), "-n", "-M", "prepared", "-f", script.name),
                *("-c", str(clients), "-j", "2", "-T", str(seconds)),
                *("-h", str(parts.hostname), "-p", str(parts.port), "-U", unquote(parts.username or "")),
                parts.path.lstrip("/"),
            ],
            env={"PGPASSWORD": unquote(parts.password or ""), "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=True,
        )
    admin.run("DROP TABLE bench_commit")
    admin.close()
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return {"perSecond": round(float(found[1]), 1), "clients": clients}
