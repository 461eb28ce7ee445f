"""Who can reach this process: at which addresses it listens."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine reaches ``address``; a name is none."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def beyond_loopback() -> list[str]:
    """The addresses at which this process takes connections from other machines, as ``address:port``.

    Where the system does not tell what a process has open, none is found.
    """
    try:
        descriptors = os.listdir("/dev/fd")
    except OSError:
        return []
    found = set()
    for descriptor in descriptors:
        # Some are closed meanwhile, the one first of all that has listed them.
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode) and (where := _listening_at(int(descriptor))):
                found.add(where)
    return sorted(found)


def _listening_at(descriptor: int) -> str:
    """Where a socket takes connections from other machines; empty if it takes none."""
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.family not in {socket.AF_INET, socket.AF_INET6}:
            return ""
        address, port = one.getsockname()[:2]
        takes = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and not is_loopback(address)
        return f"{address}:{port}" if takes else ""
