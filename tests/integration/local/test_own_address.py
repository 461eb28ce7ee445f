"""Two gateways at one address: the health of each is its own."""

from __future__ import annotations

import contextlib
import signal
import sys
from functools import partial
from pathlib import Path

from local import health
from local.keeper import base_environ
from local.servers.process import free_port, spawn, stop, wait_until


def test_a_gateway_that_hangs_is_not_taken_for_the_other_at_its_address(tmp_path: Path) -> None:
    port, checks, gateways = free_port(), [], []
    with contextlib.ExitStack() as stack:
        for number in range(2):
            log, own = tmp_path / f"gateway-{number}.log", free_port()
            argv = [sys.executable, "-m", "local.server", "gateway", "--port", str(port), "--own-port", str(own)]
            gateway = spawn(argv, log=log, env=base_environ() | {"CFM_AUTH": "off"})
            stack.callback(stop, gateway)
            check = f"http://127.0.0.1:{port}/livez#{own}"
            wait_until(partial(health.healthy, check), process=gateway, log=log, what="the gateway")
            checks.append(check)
            gateways.append(gateway)
        gateways[0].send_signal(signal.SIGSTOP)
        stack.callback(gateways[0].send_signal, signal.SIGCONT)
        assert [health.healthy(check) for check in checks] == [False, True]


def test_a_process_answers_at_its_own_address_only_while_it_listens_at_the_common_one(tmp_path: Path) -> None:
    port, own, log = free_port(), free_port(), tmp_path / "gateway.log"
    argv = [sys.executable, "-m", "local.server", "gateway", "--port", str(port), "--own-port", str(own)]
    gateway = spawn(argv, log=log, env=base_environ() | {"CFM_AUTH": "off"})
    try:
        own_check = f"http://127.0.0.1:{own}/livez"
        wait_until(partial(health.healthy, own_check), process=gateway, log=log, what="the gateway")
        assert health.healthy(f"http://127.0.0.1:{port}/livez")
    finally:
        stop(gateway)
    assert not health.healthy(own_check)
