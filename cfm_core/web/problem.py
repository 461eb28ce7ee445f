"""Errors as answers: the fields of RFC 9457 beside the three of the contract.

Source: CFM wire contract, section 1.1.
"""

from __future__ import annotations

import json
import math
from typing import Any

import flask

from cfm_core.contracts.documents import Document
from cfm_core.errors import (
    CfmError,
    ConflictError,
    FatalError,
    ForbiddenError,
    InvalidTokenError,
    NotFoundError,
    RecoverableError,
    RefusedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedMediaError,
    ValidationError,
)
from cfm_core.web import urls
from cfm_core.web.problems import PATH, by_status

MEDIA = "application/problem+json"

_MOST_ERRORS = 20
_LONGEST = 1000


class ErrorDocument(Document):
    """One thing that is wrong with the request's body or URL: a JSON pointer to it, and what it is."""

    pointer: str
    detail: str


class ProblemDocument(Document):
    """Why a request had no success. A conflict tells more, in fields of its own: ``usedBy``, ``allowedActions``."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    retryable: bool
    request_id: str
    error: str
    message: str
    code: int
    errors: list[ErrorDocument] | None = None


def problem(error: CfmError, request: flask.Request, request_id: str) -> flask.Response:
    """Answer with ``error``; nothing internal goes out with one that the caller cannot mend."""
    known = by_status(error.status)
    message = _shortened(_message(error, request_id))
    errors = error.errors if isinstance(error, ValidationError | RefusedError) else ()
    document: dict[str, Any] = {
        "type": urls.local(request, f"{PATH}/{known.name}"),
        "title": known.title,
        "status": error.status,
        "detail": message,
        "instance": urls.local(request, urls.path_of(request)),
        "retryable": isinstance(error, RecoverableError),
        "requestId": request_id,
        "error": known.title,
        "message": message,
        "code": error.status,
    }
    if errors:
        document["errors"] = [
            {"pointer": _shortened(item.pointer), "detail": _shortened(item.detail)} for item in errors[:_MOST_ERRORS]
        ]
    if isinstance(error, ConflictError):
        document |= error.context
    wants_problem = MEDIA in request.headers.get("Accept", "")
    response = flask.Response(
        json.dumps(document, separators=(",", ":")),
        error.status,
        content_type=MEDIA if wants_problem else "application/json",
    )
    if isinstance(error, UnauthorizedError | ForbiddenError):
        response.headers["WWW-Authenticate"] = _challenge(error)
    if isinstance(error, UnsupportedMediaError):
        response.headers["Accept-Encoding"] = "identity"
    if isinstance(error, TooManyRequestsError):
        response.headers.update(_rate_limit(error))
    if document["retryable"]:
        seconds = error.retry_after if isinstance(error, RecoverableError) else None
        response.headers["Retry-After"] = str(math.ceil(seconds or 1))
    return response


def _rate_limit(error: TooManyRequestsError) -> dict[str, str]:
    """The limit that is met: its quota and the seconds in which that comes back; nothing remains of it until there is room.

    Source: draft-ietf-httpapi-ratelimit-headers, "RateLimit header fields for HTTP".
    """
    policy = f'"{error.limit}";q={error.burst:.0f};w={math.ceil(error.burst / error.rate)}'
    return {
        "RateLimit-Policy": policy,
        "RateLimit": f'"{error.limit}";r=0;t={math.ceil(error.retry_after or 1)}',
    }


def _challenge(error: UnauthorizedError | ForbiddenError) -> str:
    """What a client has to show, and what was wrong with what it has shown.

    Source: RFC 6750, section 3.
    """
    told = {"realm": "cfm"}
    match error:
        case InvalidTokenError():
            told |= {"error": "invalid_token", "error_description": str(error)}
        case ForbiddenError():
            told |= {"error": "insufficient_scope", "error_description": str(error)}
            told |= {"scope": error.scope} if error.scope else {}
    return "Bearer " + ", ".join(f'{name}="{_quotable(value)}"' for name, value in told.items())


def _quotable(text: str) -> str:
    """``text`` without what a parameter of a challenge cannot hold: anything but visible ASCII, quotes, backslashes."""
    return "".join(letter for letter in text if " " <= letter <= "~" and letter not in '"\\')


def _shortened(text: str) -> str:
    """``text`` as an answer may have it: what it repeats of a request can be as long as a whole body."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _message(error: CfmError, request_id: str) -> str:
    if isinstance(error, FatalError):
        return f"Internal server error occurred [{request_id}]"
    if isinstance(error, NotFoundError):
        return f"Not found: {error}"
    return str(error)
