"""Ports for servers to come: nobody is given one that another process was given a moment ago and does not use yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from local.servers.process import StartError, free_port

ANOTHER = """
import sys
from local.servers.process import free_port
print(free_port(among=[int(port) for port in sys.argv[1:]]), flush=True)
sys.stdin.read()
"""


def another(ports: Sequence[int]) -> subprocess.Popen[str]:
    """A process that was given one of ``ports``, and lives until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", ANOTHER, *map(str, ports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is kept there")
def test_a_port_that_was_given_to_one_process_is_not_given_to_another_until_it_has_ended() -> None:
    ports = [free_port(), free_port()]
    with pytest.raises(StartError, match=f"between {min(ports)} and {max(ports)}"):
        free_port(among=ports)
    with another([*ports, *range(14_000, 14_050)]) as process:
        assert process.stdout is not None
        given = int(process.stdout.readline())
        assert given not in ports
        with pytest.raises(StartError):
            free_port(among=[given])
        process.communicate("")
    assert free_port(among=[given]) == given
