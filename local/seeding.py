"""``--seed``: applies the demonstration fabric through the public API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from local.documents import places_of
from local.servers.process import StartError

_BASE = "/api/v1alpha1"
_SECONDS = 30


def apply(url: str, token: str) -> None:
    """Put the standard orchestration in force, and make a cell and a dataspace profile deployed to it, unless they are there.

    Raises:
        StartError: the API refused something.
    """
    from local import seed

    for path, document in places_of(seed.STANDARD):
        _call(url, token, "PUT", path, document)
    cell_id = _find_or_create(url, token, "/cells", seed.CELL)["id"]
    profile = _find_or_create(url, token, "/dataspace-profiles", seed.DATASPACE_PROFILE)
    if not any(deployment["cellId"] == cell_id for deployment in profile.get("deployments") or ()):
        deployment = {"profileId": profile["id"], "cellId": cell_id}
        _call(url, token, "POST", f"/dataspace-profiles/{profile['id']}/deployments", deployment)


def _find_or_create(url: str, token: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
    for entity in _call(url, token, "GET", path):
        if entity.get("properties") == document.get("properties"):
            found: dict[str, Any] = entity
            return found
    created: dict[str, Any] = _call(url, token, "POST", path, document)
    return created


def _call(url: str, token: str, method: str, path: str, document: Any = None) -> Any:
    request = urllib.request.Request(  # noqa: S310 - the address is the stack's
        f"{url}{_BASE}{path}",
        None if document is None else json.dumps(document).encode(),
        {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
        method=method,
    )
    # Not through a proxy: the stack is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        raise StartError(
            f"the demonstration fabric was refused: {method} {path} answered {error.code}: {text}"
        ) from None
    except OSError as error:
        raise StartError(f"the demonstration fabric could not be applied: {error}") from None
    return json.loads(body) if body else None
