"""The kinds of problems that answers name in their ``type``: what each means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

PATH = "/problems"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind: the last part of its path, its title (the contract's ``error``), what it means, what to do."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str


PROBLEMS = (
    Problem(
        *("bad-request", 400, "Bad Request"),
        "The request is malformed: the body is not JSON or lacks a field, a value has the wrong type or is out of its "
        "range, a predicate does not parse, or what is asked for can never be done.",
        "Read 'detail'; each entry of 'errors' points at a place in the body or names a parameter. Mend that and send the "
        "request again. As it is, it can never succeed.",
    ),
    Problem(
        *("unauthorized", 401, "Unauthorized"),
        "There is no bearer token, or it is not accepted: expired, signed by an unknown key, of another issuer or for "
        "another audience.",
        "Get a new token from the issuer, and send it as 'Authorization: Bearer <token>'.",
    ),
    Problem(
        *("forbidden", 403, "Forbidden"),
        "The token is good and does not allow this; 'detail' names the scope that it lacks.",
        "Ask the issuer for a token with that scope in its claim 'scope'. To write does not include to read.",
    ),
    Problem(
        *("not-found", 404, "Not Found"),
        "There is nothing with this id; what belongs to another tenant counts as absent.",
        "Look for the id in the list of the collection.",
    ),
    Problem(
        *("method-not-allowed", 405, "Method Not Allowed"),
        "The path is known and does not answer this method.",
        "Use one of the methods of the answer's header 'Allow'.",
    ),
    Problem(
        *("request-timeout", 408, "Request Timeout"),
        "The request has not arrived as a whole in time.",
        "Send it again, without a pause.",
    ),
    Problem(
        *("conflict", 409, "Conflict"),
        "The request contradicts what is stored: a duplicate, a state in which this cannot be done, something that is in "
        "use, or a request with this Idempotency-Key that is still being worked on.",
        "'usedBy' names what uses it, 'allowedActions' what can be done in this state. Where 'retryable' is true, send the "
        "same request again after the seconds of 'Retry-After'.",
    ),
    Problem(
        *("precondition-failed", 412, "Precondition Failed"),
        "The entity is not in the version that 'If-Match' or 'If-None-Match' asks for: somebody has changed it meanwhile. "
        "Nothing was changed.",
        "Read the entity again, apply the change to what it is now, and send it with the new ETag.",
    ),
    Problem(
        *("content-too-large", 413, "Request Entity Too Large"),
        "The body is larger than what is accepted.",
        "Send less; 'detail' names the limit.",
    ),
    Problem(
        *("unsupported-media-type", 415, "Unsupported Media Type"),
        "The body is compressed, or encoded in another way.",
        "Send it as it is, without 'Content-Encoding'.",
    ),
    Problem(
        *("unprocessable-content", 422, "Unprocessable Entity"),
        "The request is well formed and a rule of the model refuses it: no active cell, a dataspace profile that is unknown "
        "or not deployed to the cell, an unknown role, an Idempotency-Key that belongs to another request.",
        "Read 'detail' and 'errors': either the request has to change, or what it refers to.",
    ),
    Problem(
        *("too-many-requests", 429, "Too Many Requests"),
        "The token's subject asks too often; or the address does, from where too many requests came without a good token.",
        "Send the same request again after the seconds of 'Retry-After', and ask less often: 'RateLimit-Policy' tells how often.",
    ),
    Problem(
        *("internal-server-error", 500, "Internal Server Error"),
        "Something is wrong that neither the caller nor time will mend.",
        "Tell an operator the 'requestId': it finds the cause in the logs.",
    ),
    Problem(
        *("service-unavailable", 503, "Service Unavailable"),
        "A service that is needed does not answer just now. Whether the request took effect may be unknown.",
        "Send the same request again after the seconds of 'Retry-After'. A POST with an Idempotency-Key takes effect once.",
    ),
)

_BY_STATUS = {problem.status: problem for problem in PROBLEMS}
_BY_NAME = {problem.name: problem for problem in PROBLEMS}


def by_status(status: int) -> Problem:
    """The kind of the answers with ``status``; another status of a failure counts as its class."""
    return _BY_STATUS.get(status) or _BY_STATUS[400 if status < 500 else 500]


def find(name: str) -> Problem | None:
    """The kind called ``name``, if there is one."""
    return _BY_NAME.get(name)
