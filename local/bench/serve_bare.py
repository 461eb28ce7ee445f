"""Serves one function file under the server that the fabric's functions use: SOURCE PORT THREADS."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def app() -> Any:
    import functions_framework

    create: Callable[[str, str], Any] = functions_framework.create_app
    return create("bare", sys.argv[1])


if __name__ == "__main__":
    from granian import Granian
    from granian.constants import Interfaces

    Granian(
        "local.bench.serve_bare:app",
        port=int(sys.argv[2]),
        interface=Interfaces.WSGI,
        factory=True,
        blocking_threads=int(sys.argv[3]),
        websockets=False,
        log_access=False,
    ).serve()
