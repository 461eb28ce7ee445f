"""``Idempotency-Key``: a request that is sent again with its key takes effect once, and has the same answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import flask

from cfm_core import deployment
from cfm_core.assembly.idempotency import IDEMPOTENT_ANSWERS
from cfm_core.errors import ValidationError
from cfm_core.idempotency import KeptAnswer, RequestKey
from cfm_core.web.auth import Principal
from cfm_core.web.problem import problem

KEY = "HTTP_IDEMPOTENCY_KEY"
"""Where the WSGI environment has the key."""
_REPLAYED = "Idempotency-Replayed"

PATTERN = r"^[!-~]{1,255}$"
"""What a key is: visible ASCII characters."""


def answer(
    request: flask.Request, principal: Principal, raw: bytes, call: Callable[[], flask.Response], request_id: str
) -> flask.Response:
    """Answer by ``call``, or as the first time where the request's key is known.

    Raises:
        ValidationError: the key is empty, too long, or not of visible ASCII characters.
        ConflictError: the first request is still being worked on.
        RefusedError: the key belongs to a request with another body.
    """
    key = request.environ.get(KEY)
    if key is None:
        return call()
    if not re.fullmatch(PATTERN, key):
        raise ValidationError("Invalid Idempotency-Key: it has 1 to 255 visible ASCII characters")
    (answers,) = deployment.services((IDEMPOTENT_ANSWERS,))
    fingerprint = hashlib.sha256(request.query_string + b"\n" + raw).hexdigest()
    kept, replayed = answers.once(
        RequestKey(principal.issuer, principal.subject, request.method, request.path.rstrip("/"), key),
        fingerprint,
        lambda: _kept(call()),
        lambda error: _kept(problem(error, request, request_id)),
    )
    response = flask.Response(kept.text, kept.status, dict(kept.headers))
    if replayed:
        response.headers[_REPLAYED] = "true"
    return response


def _kept(response: flask.Response) -> KeptAnswer:
    headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
    return KeptAnswer(response.status_code, headers, response.get_data(as_text=True))
