"""Every error that crosses a package of this project; edges translate it once, into a status or an acknowledgement.

CfmError
  ClientError        the caller changes the request      HTTP 4xx    message: dead letter, not redelivered
    ValidationError 400   UnauthorizedError 401   ForbiddenError 403   NotFoundError 404   ConflictError 409
    PreconditionFailedError 412   TooLargeError 413   UnsupportedMediaError 415   RefusedError 422
  RecoverableError   the same request may work later     HTTP 503    message: redelivered after a delay
    TooManyRequestsError 429
  FatalError         an operator has to look             HTTP 500    message: 422 to the trigger, not redelivered
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class CfmError(Exception):
    """Base of all errors of this project. The text may be shown to a caller: it holds ids and no internals."""

    status: ClassVar[int] = 500


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a document: ``pointer`` is a JSON pointer (RFC 6901) to it, ``""`` for the whole document."""

    pointer: str
    detail: str


class ClientError(CfmError):
    """The caller has to change the request; repeating it as it is cannot succeed."""

    status = 400


class ValidationError(ClientError):
    """A document is malformed. ``errors`` says what is wrong, and where."""

    status = 400

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class UnauthorizedError(ClientError):
    """No token, or one that is not accepted."""

    status = 401


class InvalidTokenError(UnauthorizedError):
    """There is a token, and it is not accepted; the text says why, and repeats nothing of it."""


class ForbiddenError(ClientError):
    """The token is good and does not allow this. ``scope`` names the scope that it lacks, if it is that."""

    status = 403

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class NotFoundError(ClientError):
    """There is no ``kind`` with this id, or the caller may not know of it."""

    status = 404

    def __init__(self, kind: str, key: object) -> None:
        super().__init__(f"no {kind} {str(key)!r}")
        self.kind = kind
        self.key = str(key)


class ConflictError(ClientError):
    """The request contradicts what is stored: a duplicate, a wrong state, something in use.

    ``context`` names what it contradicts, for example ``{"usedBy": [...]}`` or ``{"allowedActions": [...]}``.
    """

    status = 409

    def __init__(self, message: str, context: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.context = dict(context or {})


class PreconditionFailedError(ClientError):
    """The entity is not in the version that the caller has in mind; nothing was changed."""

    status = 412


class TooLargeError(ClientError):
    """The document is larger than what is accepted."""

    status = 413


class UnsupportedMediaError(ClientError):
    """The document is in a form that is not read, for example compressed."""

    status = 415


class RefusedError(ClientError):
    """The document is well formed and a rule of the model refuses it, for example: no active cell."""

    status = 422

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class RecoverableError(CfmError):
    """The same request may work later. ``retry_after`` is in seconds; None leaves the delay to the sender."""

    status = 503

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyRequestsError(RecoverableError):
    """The caller asks too often.

    Args:
        limit: what the limit is called that is met.
        rate: requests a second that it allows in the long run.
        burst: requests that it allows at once.
        retry_after: in how many seconds there is room for one more.
    """

    status = 429

    def __init__(self, limit: str, rate: float, burst: float, retry_after: float) -> None:
        super().__init__(f"too many requests: at most {burst:g} at once, and {rate:g} a second", retry_after)
        self.limit = limit
        self.rate = rate
        self.burst = burst


class FatalError(CfmError):
    """Something is wrong that neither the caller nor time will mend; an operator has to look."""

    status = 500
