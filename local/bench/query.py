"""What queries cost over HTTP, with many tenants and participant profiles, and what their indexes cost whoever writes."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import psutil

from cfm_core.store.database import connect
from cfm_core.tenancy.query_indexes.ready import REMEMBERED_SECONDS
from local import state
from local.bench import crowd
from local.bench.fabric import BASE
from local.bench.load import Connection, run_for
from local.stack import Stack

_TIMES = 40
_WARM_UP = 3
_UNCOUNTED = "Prefer: count=none\r\n"
_TENANT = json.dumps({"properties": {"name": "Acme", "group": "suppliers", "size": 5, "since": "2026-01-01T00:00:00Z"}})
_DECLARED = (("properties.size", "number"), ("properties.since", "time"), ("properties.name", "text"))


def figures(stack: Stack, tenants: int, profiles: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Medians in milliseconds of queries of each shape, rates of writing, and the memory of a long page."""
    say(f"  writing {tenants} tenants and {profiles} participant profiles")
    crowd.fill(stack.database_url, tenants=tenants, profiles=profiles)
    connection = Connection(stack.url)
    found: dict[str, Any] = {"tenants": tenants, "profiles": profiles}
    say("  queries")
    found["medianMs"] = _queries(connection, tenants, profiles)
    say("  declaring indexes while tenants are created")
    found["declaring"] = _declaring(stack, connection)
    found["medianMs"] |= _ranges(connection, tenants, "declared")
    say("  a long page")
    found["longPage"] = _long_page(stack, connection)
    say("  creating tenants with and without indexes")
    found["creating"] = _creating(stack, connection, seconds)
    connection.close()
    return found


def _median(connection: Connection, path_of: Callable[[int], str], headers: str = "", times: int = _TIMES) -> float:
    """The median of a GET, each of another path."""
    durations = []
    for number in range(_WARM_UP + times):
        begun = time.perf_counter()
        status, _, body = connection.request("GET", BASE + path_of(number), headers=headers)
        durations.append((time.perf_counter() - begun) * 1000)
        assert status == 200, body[:300]
    return round(median(durations[_WARM_UP:]), 2)


def _always(path: str) -> Callable[[int], str]:
    return lambda _: path


def _asked(collection: str, predicate: Callable[[int], str], limit: int = 50) -> Callable[[int], str]:
    return lambda number: f"/{collection}?limit={limit}&q={quote(predicate(number))}"


def _queries(connection: Connection, tenants: int, profiles: int) -> dict[str, float]:
    many, few = max(1, tenants // 50), max(1, profiles // 50)
    found = {
        name: _median(connection, _asked(collection, predicate))
        for name, collection, predicate in (
            ("equalityOfAName", "tenants", lambda n: f"properties.name = 'tenant-{1 + n * many}'"),
            ("equalityAtDepthThree", "tenants", lambda n: f"properties.address.geo.code = {n * 7}"),
            (
                "commonAndRare",
                "tenants",
                lambda n: f"properties.group = 'oems' AND properties.name = 'tenant-{1 + n * many}'",
            ),
            ("vpas", "participant-profiles", lambda n: f"vpas.properties.region = 'region-{n}'"),
            ("roles", "participant-profiles", lambda n: f"participantRoles.`{crowd.DATASPACE}` = 'role-{n}'"),
            (
                "identifier",
                "participant-profiles",
                lambda n: f"identifier = 'did:web:participant-{1 + n * few}.example'",
            ),
        )
    }
    found["firstPageUncounted"] = _median(connection, _always("/tenants?limit=50"), _UNCOUNTED)
    found["firstPageCounted"] = _median(connection, _always("/tenants?limit=50"))
    for tenth in (1, 5, 9):
        behind = f"/tenants?limit=50&after={tenth * 0x19:02x}000000-0000-4000-8000-000000000000"
        found[f"cursorAt{tenth}0Percent"] = _median(connection, _always(behind), _UNCOUNTED)
    found["offsetAt90Percent"] = _median(
        connection, _always(f"/tenants?limit=50&offset={tenants * 9 // 10}"), _UNCOUNTED
    )
    return found | _ranges(connection, tenants, "undeclared")


def _ranges(connection: Connection, tenants: int, kind: str) -> dict[str, float]:
    # Without an index all tenants are looked at, which needs no repetition to be seen.
    times = _TIMES if kind == "declared" else 3
    digits = max(1, len(str(tenants)) - 2)
    return {
        f"{name}On{kind.capitalize()}": _median(connection, _asked("tenants", predicate), times=times)
        for name, predicate in (
            ("numbers", lambda n: f"properties.size >= {n * 1000} AND properties.size < {n * 1000 + 5}"),
            (
                "times",
                lambda n: (
                    f"properties.since >= '2020-01-01T{n % 24:02}:00:00Z' AND properties.since < '2020-01-01T{n % 24:02}:30:00Z'"
                ),
            ),
            ("beginnings", lambda n: f"properties.name STARTS_WITH 'tenant-{str(10**digits + n)[: digits + 1]}'"),
        )
    }


def _declaring(stack: Stack, connection: Connection) -> dict[str, float]:
    """How long the indexes take, and the longest time that a tenant took to be created meanwhile."""
    done = threading.Event()
    durations: list[float] = []

    def create() -> None:
        writer = Connection(stack.url)
        while not done.is_set():
            begun = time.perf_counter()
            status, _, body = writer.request("POST", f"{BASE}/tenants", _TENANT.encode())
            durations.append((time.perf_counter() - begun) * 1000)
            assert status == 201, body
            time.sleep(0.005)  # somebody who writes now and then
        writer.close()

    creating = threading.Thread(target=create)
    creating.start()
    begun = time.perf_counter()
    try:
        for path, kind in _DECLARED:
            document = {"entity": "tenants", "path": path, "kind": kind}
            connection.json("POST", f"{BASE}/query-indexes", document, expect=202)
        while any(one["state"] != "ready" for one in connection.json("GET", f"{BASE}/query-indexes", expect=200)):
            assert time.perf_counter() - begun < 900, "the indexes are still being built"
            time.sleep(0.1)  # between two looks
    finally:
        done.set()
        creating.join()
    elapsed = time.perf_counter() - begun
    time.sleep(REMEMBERED_SECONDS + 0.1)  # so long a process may go on without them
    return {
        "seconds": round(elapsed, 1),
        "createdMeanwhile": len(durations),
        "medianCreateMs": round(median(durations), 2),
        "longestCreateMs": round(max(durations), 1),
    }


def _long_page(stack: Stack, connection: Connection) -> dict[str, float]:
    """A page of 10,000 participant profiles, and by how much it raises the memory of the processes that serve it."""
    running = state.running(stack.data)
    assert running is not None
    gateways = [
        one.pid
        for one in psutil.Process(running.pid).children(recursive=True)
        if "local.server" in (command := one.cmdline()) and "gateway" in command
    ]
    begun = time.perf_counter()
    size = len(connection.request("GET", f"{BASE}/participant-profiles", headers=_UNCOUNTED)[2])
    elapsed = (time.perf_counter() - begun) * 1000
    raised = []
    for _ in range(3):
        before = {pid: _kilobytes(pid, "VmRSS") for pid in gateways}
        for pid in gateways:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        connection.request("GET", f"{BASE}/participant-profiles", headers=_UNCOUNTED)
        raised.append(max(_kilobytes(pid, "VmHWM") - before[pid] for pid in gateways))
    return {
        "megabytes": round(size / 1e6, 1),
        "ms": round(elapsed, 1),
        "raisesByMegabytes": round(max(raised) / 1e3, 1),
    }


def _kilobytes(pid: int, name: str) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def _creating(stack: Stack, connection: Connection, seconds: float) -> dict[str, float]:
    """Tenants created per second by one client, with all indexes and with the primary key alone."""
    numbers = count()

    def create(one: Connection) -> None:
        document = json.dumps({"properties": {"name": f"new-{next(numbers)}", "group": "oems", "size": 7}})
        assert one.request("POST", f"{BASE}/tenants", document.encode())[0] == 201

    run_for(0.5, [connection], create)
    indexed = run_for(seconds, [connection], create)
    for index in connection.json("GET", f"{BASE}/query-indexes", expect=200):
        connection.json("DELETE", f"{BASE}/query-indexes/{index['id']}", expect=202)
    begun = time.perf_counter()
    while connection.json("GET", f"{BASE}/query-indexes", expect=200):
        assert time.perf_counter() - begun < 900, "the indexes are still there"
        time.sleep(0.1)  # between two looks
    with contextlib.closing(connect(stack.database_url, answer_seconds=0)) as database:
        database.run("DROP INDEX tenant_manager.tenants_properties")
    bare = run_for(seconds, [connection], create)
    with_indexes, without = indexed.to_json()["perSecond"], bare.to_json()["perSecond"]
    return {"perSecond": with_indexes, "perSecondWithout": without, "ratio": round(with_indexes / without, 3)}
