"""Rules that control plane, IdentityHub and IssuerService share: tokens, ownership, errors, paths, queries.

Source: dataspace service contracts, sections 4 and 7.1.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from local.standins.http import Answer, Refused, Request, Service
from local.standins.tokens import TokenSigner, grants

DEFAULT_LIMIT = 50


def error(status: int, kind: str, message: str, path: str | None = None) -> Refused:
    """A refusal in the runtimes' form."""
    return Refused(Answer(status, [{"message": message, "type": kind, "path": path, "invalidValue": None}]))


def not_found(kind: str, key: str) -> Refused:
    return error(404, "ObjectNotFound", f"Object of type {kind} with ID={key} was not found")


def conflict(message: str) -> Refused:
    return error(409, "ObjectConflict", message)


def invalid(path: str, message: str) -> Refused:
    return error(400, "ValidationFailure", message, path)


class EdcService(Service, ABC):
    """One of the three runtimes; ``scope_prefix`` is what its scopes begin with."""

    scope_prefix = ""

    def __init__(self, signer: TokenSigner) -> None:
        super().__init__()
        self._signer = signer

    def answer(self, request: Request) -> Answer:
        path = request.path.lower()
        if "%25" in path or "%2f" in path or "%5c" in path:
            return Answer(400, "Ambiguous URI path encoding")
        return super().answer(request)

    @abstractmethod
    def knows(self, context: str) -> bool:
        """Whether this runtime has a participant context of that id."""

    def authorize(self, request: Request, scope: str, owner: str | None = None) -> None:
        """Let only those on who have ``scope``, given without the prefix, and who own ``owner`` or are administrators.

        An operation without an owner is for administrators.
        """
        claims = self._signer.verified(request.bearer)
        if claims is None:
            raise Refused(Answer(401, {"error": "Request could not be authenticated"}))
        scopes = str(claims.get("scope", "")).split()
        wanted = f"{self.scope_prefix}:{scope}"
        if not grants(scopes, wanted):
            raise Refused(Answer(403, f"Required scope '{wanted}' missing"))
        resource = scope.rpartition(":")[0]
        admin = f"{self.scope_prefix}:{resource}:admin" if resource else f"{self.scope_prefix}:admin"
        if grants(scopes, admin):
            return
        subject = str(claims["sub"])
        if not self.knows(subject):
            raise Refused(Answer(401, f"Not authorized: No participant for 'sub = {subject}' found"))
        if owner != subject:
            raise error(403, "NotAuthorized", f"User '{subject}' is not authorized to access this resource")


def document_of(request: Request) -> dict[str, Any]:
    """The body, which must be a JSON object."""
    if request.content_type != "application/json":
        raise Refused(Answer(415, "Unsupported Media Type"))
    try:
        document = json.loads(request.body)
    except ValueError:
        raise error(400, "InvalidRequest", "the body is not JSON") from None
    if not isinstance(document, dict):
        raise error(400, "InvalidRequest", "the body is not a JSON object")
    return document


def text_of(document: Mapping[str, Any], field: str, *, optional: bool = False) -> str:
    """A field that must be a text and not empty."""
    value = document.get(field)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise invalid(field, f"mandatory value '{field}' is missing or blank")
    return value


def page_of(items: Iterable[Any], request: Request) -> list[Any]:
    """The page of a list that the request's query asks for."""
    try:
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", DEFAULT_LIMIT))
    except ValueError:
        raise error(400, "InvalidRequest", "offset and limit must be numbers") from None
    return list(items)[offset : offset + limit]


def queried(
    items: Iterable[Mapping[str, Any]], request: Request, read: Callable[[Mapping[str, Any], str], Any]
) -> list[Any]:
    """The page of ``items`` that a QuerySpec asks for; ``read`` gives an item's field by its path."""
    query = document_of(request)
    offset, limit = query.get("offset", 0), query.get("limit", DEFAULT_LIMIT)
    if not isinstance(offset, int) or not isinstance(limit, int) or offset < 0 or limit < 1:
        raise invalid("limit", "offset and limit must be numbers, limit at least 1")
    if query.get("sortOrder", "ASC") not in {"ASC", "DESC"}:
        raise invalid("sortOrder", "must be ASC or DESC")
    conditions = query.get("filterExpression", [])
    if not isinstance(conditions, list):
        raise invalid("filterExpression", "must be an array")
    found = [item for item in items if all(_holds(condition, item, read) for condition in conditions)]
    return found[offset : offset + limit]


def _holds(condition: Any, item: Mapping[str, Any], read: Callable[[Mapping[str, Any], str], Any]) -> bool:
    if not isinstance(condition, dict) or not {"operandLeft", "operator", "operandRight"} <= set(condition):
        raise invalid("filterExpression", "a condition has operandLeft, operator and operandRight")
    value, right = read(item, str(condition["operandLeft"])), condition["operandRight"]
    match condition["operator"]:
        case "=":
            return bool(value == right)
        case "!=":
            return bool(value != right)
        case "in":
            return isinstance(right, list) and value in right
        case "contains":
            return isinstance(value, list | str) and right in value
        case other:
            raise invalid("operator", f"operator {other} is not supported")
