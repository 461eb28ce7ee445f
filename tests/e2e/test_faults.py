"""A hundred deployments, and something breaks in the middle: every participant still ends active."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local import bench
from local.bench.fabric import Fabric
from local.bench.load import Connection
from local.stack import Stack

DEPLOYMENTS = 100
PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    agent = Path(bench.__file__).with_name("noop_agent.py")
    with Stack(tmp_path_factory.mktemp("faults") / "data", auth=False, agents=[agent]) as stack:
        yield stack


@pytest.fixture(scope="module")
def fabric(stack: Stack) -> Fabric:
    return Fabric(stack.url, "")


def deploy_through(fabric: Fabric, connect: Callable[[], Connection], identifier: str) -> None:
    """Ask for one participant as a patient client does: again when the connection breaks or the fabric is unwell.

    The identifier is the client's own, so that a repetition of a request that took effect is told so by a 409.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with contextlib.closing(connect()) as connection:
                status, _, body = connection.request("POST", fabric.profiles_path, fabric.deployment(identifier))
        except OSError as error:
            status, body = 503, str(error).encode()
        if status in {202, 409}:
            return
        assert status == 503, (status, body)
        assert time.monotonic() < deadline, "the fabric did not come back"
        time.sleep(0.05)  # a client's pause before it tries again


def kill(name: str) -> Callable[[Stack], None]:
    def break_it(stack: Stack) -> None:
        stack.process(name).kill()

    return break_it


def delete_the_nats_store(stack: Stack) -> None:
    shutil.rmtree(stack.data / "nats" / "jetstream")
    stack.process("nats").kill()


def stop_nats(stack: Stack) -> None:
    stack.process("nats").terminate()


def restart_postgres(stack: Stack) -> None:
    stack.process("postgres").send_signal(signal.SIGINT)


FAULTS: dict[str, Callable[[Stack], None]] = {
    "the trigger is killed": kill("trigger"),
    "the gateway is killed": kill("gateway"),
    "the event functions are killed": kill("events"),
    "the agent is killed": kill("agent-noop_agent"),
    "NATS is stopped and started": stop_nats,
    "NATS loses its store": delete_the_nats_store,
    "Postgres is restarted": restart_postgres,
    "Postgres is killed": kill("postgres"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_participant_still_ends_active(stack: Stack, fabric: Fabric, fault: str) -> None:
    identifiers = [f"did:web:{uuid.uuid4()}.example" for _ in range(DEPLOYMENTS)]
    half_way = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def work() -> None:
        for index, identifier in enumerate(identifiers):
            if index == DEPLOYMENTS // 2:
                half_way.wait()
            deploy_through(fabric, fabric.connect, identifier)

    client = threading.Thread(target=work)
    client.start()
    half_way.wait()
    FAULTS[fault](stack)
    client.join(PATIENCE_SECONDS)
    assert not client.is_alive()
    states = wait_for_the_end(fabric, identifiers)
    assert states == {"active": DEPLOYMENTS}


def wait_for_the_end(fabric: Fabric, identifiers: list[str]) -> dict[str, int]:
    """The states of these participants, once none is pending or the patience has ended."""
    wanted = set(identifiers)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError), contextlib.closing(fabric.connect()) as connection:
            status, _, body = connection.request("GET", fabric.profiles_path)
            if status == 200:
                states = [one["vpas"][0]["state"] for one in json.loads(body) if one["identifier"] in wanted]
                if "pending" not in states or time.monotonic() > deadline:
                    return {state: states.count(state) for state in set(states)}
        assert time.monotonic() < deadline + 10, "the fabric did not come back"
        time.sleep(0.05)  # between two looks
