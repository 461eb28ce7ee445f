"""Functions that ask for no tokens: only this machine may reach them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import functions
from cfm_core.assembly import InitContext, ServiceRegistry
from cfm_core.assembly.auth import AUTHENTICATOR, auth_assembly
from cfm_core.assembly.events import EVENT_TOKEN, EventTokenAssembly
from cfm_core.assembly.listeners import beyond_loopback
from cfm_core.errors import FatalError
from cfm_core.settings import Settings
from local import health
from local.keeper import base_environ
from local.servers.process import answers, free_port, spawn, stop, wait_until

ROOT = Path(functions.__file__).parents[1]


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_a_process_knows_where_others_reach_it(family: socket.AddressFamily, host: str) -> None:
    assert beyond_loopback() == []
    with socket.socket(family) as one:
        one.bind((host, 0))
        assert beyond_loopback() == []
        one.listen()
        assert beyond_loopback() == [f"{host}:{one.getsockname()[1]}"]
    assert beyond_loopback() == []


def test_a_process_that_listens_on_loopback_only_is_reached_by_nobody_else() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with (
        socket.create_server(("127.0.0.1", 0)),
        socket.create_server(("::1", 0), family=socket.AF_INET6),
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        local.bind("\0cfm-test-listeners")
        local.listen()
        datagrams.bind(("0.0.0.0", 0))
        assert beyond_loopback() == []
    assert set(os.listdir("/proc/self/fd")) <= before


def test_neither_requests_nor_events_are_taken_without_tokens_where_others_listen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(auth="off")
    for assembly, key in ((auth_assembly(settings), AUTHENTICATOR), (EventTokenAssembly(), EVENT_TOKEN)):
        registry = ServiceRegistry()
        with socket.create_server(("0.0.0.0", 0)) as server:
            told = f"CFM_AUTH=off, and this process listens at 0.0.0.0:{server.getsockname()[1]}"
            with pytest.raises(FatalError, match=told):
                assembly.init(InitContext(registry, settings))
        assert caplog.text == ""
        assembly.init(InitContext(registry, settings))
        registry.resolve(key)
        if key is AUTHENTICATOR:
            assert "whoever reaches this process may do everything" in caplog.text
            caplog.clear()


@contextmanager
def framework(host: str, port: int, log: Path) -> Iterator[None]:
    """A function that functions-framework serves alone, asking for no tokens."""
    source = ROOT / "functions" / "tenant_manager" / "tenants.py"
    process = spawn(
        [
            *(Path(sys.executable).with_name("functions-framework"), "--target", "list_tenants", "--source", source),
            *("--host", host, "--port", str(port)),
        ],
        log=log,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "CFM_AUTH": "off", "CFM_STORE": "memory"},
    )
    try:
        wait_until(lambda: answers("127.0.0.1", port), process=process, log=log, what="the function", seconds=60)
        yield
    finally:
        stop(process)


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("0.0.0.0", 500)])
def test_a_function_alone_finds_out_where_its_server_listens(tmp_path: Path, host: str, status: int) -> None:
    port, log = free_port(), tmp_path / "function.log"
    with framework(host, port, log):
        for _ in range(2):
            assert health.get(f"http://127.0.0.1:{port}/api/v1alpha1/tenants")[0] == status
    if status == 200:
        assert "whoever reaches this process may do everything" in log.read_text()
    else:
        assert f"CFM_AUTH=off, and this process listens at 0.0.0.0:{port}" in log.read_text()


@pytest.mark.parametrize("role", ["gateway", "events"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_does_not_start_where_others_reach_it(role: str, host: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.server", role, "--host", host, "--port", str(free_port())],
        env=base_environ() | {"CFM_AUTH": "off"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"CFM_AUTH=off is for loopback, and others reach {host}" in done.stderr
