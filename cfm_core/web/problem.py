"""Errors as answers: the fields of RFC 9457 beside the three of the contract.

Source: CFM wire contract, section 1.1.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

import flask

from cfm_core.errors import (
    CfmError,
    ConflictError,
    FatalError,
    NotFoundError,
    RecoverableError,
    RefusedError,
    ValidationError,
)

PROBLEM = "application/problem+json"


def problem(error: CfmError, request: flask.Request, request_id: str) -> flask.Response:
    """Answer with ``error``; nothing internal goes out with one that the caller cannot mend."""
    status = error.status
    phrase = HTTPStatus(status).phrase
    message = _message(error, request_id)
    document: dict[str, Any] = {
        "type": f"/problems/{phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": status,
        "detail": message,
        "instance": request.path,
        "retryable": isinstance(error, RecoverableError),
        "requestId": request_id,
        "error": phrase,
        "message": message,
        "code": status,
    }
    if isinstance(error, ValidationError | RefusedError) and error.errors:
        document["errors"] = [{"pointer": item.pointer, "detail": item.detail} for item in error.errors]
    if isinstance(error, ConflictError):
        document |= error.context
    wants_problem = PROBLEM in request.headers.get("Accept", "")
    response = flask.Response(
        json.dumps(document, separators=(",", ":")),
        status,
        content_type=PROBLEM if wants_problem else "application/json",
    )
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RecoverableError):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after or 1))
    return response


def _message(error: CfmError, request_id: str) -> str:
    if isinstance(error, FatalError):
        return f"Internal server error occurred [{request_id}]"
    if isinstance(error, NotFoundError):
        return f"Not found: {error}"
    return str(error)
