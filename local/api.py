"""Calls of commands to the API of a running stack."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local.cli import CONFLICT, FAILED, NOT_FOUND, UNREACHABLE, api_of, fail

_ANSWER_SECONDS = 30
_EXIT_CODES = {404: NOT_FOUND, 409: CONFLICT, 412: CONFLICT}


def call(data: Path, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    """Send ``document`` to the API of the stack in ``data``; gives status and document of the answer.

    Ends the command where nothing runs, or the API refuses.
    """
    url, token = api_of(data)
    request = urllib.request.Request(  # noqa: S310 - the address is the stack's
        url + path,
        None if document is None else json.dumps(document).encode(),
        {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
        method=method,
    )
    # Not through a proxy: the stack is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_ANSWER_SECONDS) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        with error:
            fail(json.loads(error.read())["message"], _EXIT_CODES.get(error.code, FAILED))
    except OSError as error:
        fail(f"the API at {url} does not answer: {error}", UNREACHABLE)
    return response.status, json.loads(body) if body else None
