"""Where HTTP ends: authentication, body, the call of the handler, errors as answers. Every HTTP function runs through here."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flask

from cfm_core import deployment, trace
from cfm_core.access.assembly import ACCESSES
from cfm_core.access.model import EVERYTHING
from cfm_core.access.service import Accesses, Bounded
from cfm_core.assembly.admission import LIMITS, ORIGINS
from cfm_core.assembly.auth import AUTHENTICATOR
from cfm_core.assembly.telemetry import logged
from cfm_core.caller import Caller, acting
from cfm_core.declaration import HttpFunction
from cfm_core.errors import CfmError, FatalError, FieldError, ForbiddenError, ValidationError
from cfm_core.masking import masked_text
from cfm_core.web import answers, body, idempotency, paging
from cfm_core.web.auth import Principal
from cfm_core.web.cors import Origins
from cfm_core.web.headers import protect
from cfm_core.web.problem import problem

log = logging.getLogger(__name__)

API = "/api/v1alpha1"

_PRINCIPAL = "cfm.principal"
PATH_VARIABLES = "cfm.path_variables"
"""Key of the WSGI environment under which a router leaves the variables that it has read from the path."""

_REASON = "HTTP_X_REASON"
"""Where the WSGI environment has why something is to be changed."""
LONGEST_REASON = 1000
"""Characters."""

_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_TRACE = tuple((name, f"HTTP_{name.upper()}") for name in trace.NAMES)
"""Where the WSGI environment has the trace context."""


def request_id_of(request: flask.Request) -> str:
    """The caller's own id for the request where it is usable, else functions-framework's, else a new one."""
    environ = request.environ
    given = environ.get("HTTP_X_REQUEST_ID") or environ.get("HTTP_FUNCTION_EXECUTION_ID") or ""
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def principal_of(request: flask.Request) -> Principal:
    """Whose token the request has; only for a function with a scope."""
    principal: Principal = request.environ[_PRINCIPAL]
    return principal


def subject_of(request: flask.Request) -> str:
    """The subject of ``principal_of``."""
    return principal_of(request).subject


def answer(function: HttpFunction, request: flask.Request) -> flask.Response:
    """Answer a request: authenticate, authorize, call the handler, turn what it raises into an answer."""
    return _told(request, function.name, function.methods, lambda request_id: _answer(function, request, request_id))


def unmatched(request: flask.Request, allowed: Sequence[str]) -> flask.Response:
    """Answer a request that no function answers: 405 where others have its path; below the API only to those with a token.

    Args:
        allowed: the methods that the path answers; none where nobody knows it.

    Source: CFM wire contract, sections 1.1 and 2.
    """

    def work(request_id: str) -> flask.Response:
        if f"{request.path}/".startswith(API + "/"):
            limits, authenticator = deployment.services((LIMITS, AUTHENTICATOR))
            limits.authenticated(request, authenticator)
        return answers.not_allowed(allowed) if allowed else answers.no_such_page()

    return _told(request, "the route table", allowed, work)


def refused(request: flask.Request, error: CfmError) -> flask.Response:
    """Answer a request that comes to no function, because of ``error``."""
    request_id = request_id_of(request)
    return _with_headers(problem(error, request, request_id), request_id, _trace(request))


def _told(
    request: flask.Request, who: str, methods: Sequence[str], work: Callable[[str], flask.Response]
) -> flask.Response:
    """What ``work`` gives for the request's id, or the problem that it raises; or what a browser asks before, of ``methods``."""
    request_id, belongs_to = request_id_of(request), _trace(request)
    origins = Origins()
    with trace.within(belongs_to), logged(request_id=request_id):
        try:
            (origins,) = deployment.services((ORIGINS,))
            response = origins.preflight(request, methods) or work(request_id)
        except CfmError as error:
            if error.status >= 500:
                log.error("%s failed [%s]: %s", who, request_id, error, exc_info=error)
            response = problem(error, request, request_id)
        except Exception as error:
            log.exception("%s crashed [%s]", who, request_id)
            response = problem(FatalError(str(error)), request, request_id)
    origins.show(request, response)
    return _with_headers(response, request_id, belongs_to)


def _trace(request: flask.Request) -> trace.Context:
    return trace.of({name: request.environ.get(key) for name, key in _TRACE})


def _with_headers(response: flask.Response, request_id: str, belongs_to: trace.Context) -> flask.Response:
    headers = response.headers
    headers.add("X-Request-Id", request_id)
    # Whoever asked may keep it, and use it again after the server has said that it still holds.
    protect(headers, "private, no-cache")
    if belongs_to:
        headers.add("traceparent", belongs_to["traceparent"])
    return response


def _answer(function: HttpFunction, request: flask.Request, request_id: str) -> flask.Response:
    services: Sequence[Any]
    if function.scope is not None:
        limits, authenticator, accesses, *services = deployment.services(
            (LIMITS, AUTHENTICATOR, ACCESSES, *function.requires)
        )
        principal = limits.authenticated(request, authenticator)
    else:
        limits, *services = deployment.services((LIMITS, *function.requires))
        limits.let_in(request, shows_token=function.method != "GET")
        principal = None
    variables = request.environ.get(PATH_VARIABLES)
    if variables is None:
        variables = function.match(request.path)
        if variables is None:
            return answers.no_such_page()
        if request.method not in function.methods:
            return answers.not_allowed(function.methods)
    if principal is not None and function.scope is not None:
        principal.require(function.scope)
        services = _within(function, services, principal, accesses)
        request.environ[_PRINCIPAL] = principal
    # A handler without a declared body reads it itself, if at all.
    takes_body = function.body is not None or (function.method == "POST" and function.lists is not None)
    raw = body.content(request) if takes_body or idempotency.KEY in request.environ else b""

    def call() -> flask.Response:
        return _call(function, request, raw, services, variables)

    if principal is None:
        with limits.counting_refusals(request):
            return call()
    if function.scope is None or function.method == "GET" or function.lists is not None:
        return call()
    with acting(_caller(request, principal, limits.client_of(request), request_id)):
        if function.method != "POST":
            return call()
        return idempotency.answer(request, function.scope, principal, raw, call, request_id)


def _caller(request: flask.Request, principal: Principal, address: str, request_id: str) -> Caller:
    """Who asks for a change, and why.

    Raises:
        ValidationError: the reason is too long, or no text.
    """
    environ = request.environ
    try:
        # WSGI gives the bytes of a header as if they were Latin-1.
        reason = environ.get(_REASON, "").encode("latin-1").decode()
    except UnicodeError:
        raise ValidationError("Invalid X-Reason: it is not UTF-8") from None
    if len(reason) > LONGEST_REASON:
        raise ValidationError(f"Invalid X-Reason: it has more than {LONGEST_REASON} characters")
    return Caller(
        actor=principal.subject,
        issuer=principal.issuer,
        request_id=request_id,
        address=address,
        reason=masked_text(reason) if reason else "",
    )


def _within(function: HttpFunction, services: Sequence[Any], principal: Principal, accesses: Accesses) -> Sequence[Any]:
    """The services as they are for a client who is no user, else bounded by the caller's rights.

    Raises:
        ForbiddenError: the caller has no right for the function, or one with bounds that a service does not know.
    """
    access = EVERYTHING if principal.scopes is None else accesses.of(principal)
    if access.everything:
        return services
    if not function.rights:
        raise ForbiddenError("Access not granted: no right allows this")
    bounded = [one.within(access) for one in services if isinstance(one, Bounded)]
    if len(bounded) == len(services):
        for need in function.rights:
            access.require(*need)
        return bounded
    for need in function.rights:
        access.require_all(*need)
    return services


def _call(
    function: HttpFunction, request: flask.Request, raw: bytes, services: Sequence[Any], variables: Mapping[str, str]
) -> flask.Response:
    """Call the handler with what its declaration promises; name the fields that the body has besides."""
    unknown: Sequence[body.Doubt] = ()
    arguments: list[Any] = []
    if function.body is not None:
        document, unknown = body.parse(raw or (b"{}" if function.body_is_optional else b""), function.body)
        arguments = [document]
    elif function.lists is not None and function.method == "POST":
        query, unknown = body.parse(raw, paging.QueryRequest)
        arguments = [paging.asked_by_document(request, query)]
    elif function.lists is not None:
        arguments = [paging.asked_by_url(request)]
    if unknown and request.args.get("fieldValidation", "").lower() == "strict":
        raise ValidationError(
            f"Invalid payload: {'; '.join(map(str, unknown))}",
            [FieldError(one.pointer, str(one)) for one in unknown],
        )
    response = function.handler(request, *services, *arguments, **variables)
    for one in unknown:
        answers.warn(response, str(one))
    return response
