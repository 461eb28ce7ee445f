"""Where CloudEvents over HTTP end: every event function runs through here.

The caller is the trigger, and says so by a token that opens this function alone. A batch is always answered with a report of its
events; a single event with a status alone, unless the caller prefers the report (a broker takes a body for an event).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence

import flask
import pydantic

from cfm_core import deployment, trace
from cfm_core.assembly.events import DOORKEEPER
from cfm_core.contracts.reply import Failure, Reply
from cfm_core.declaration import EventFunction
from cfm_core.errors import CfmError, ClientError, FatalError, RecoverableError
from cfm_core.eventing.cloudevents import CloudEvent, from_request, time_of
from cfm_core.web import body
from cfm_core.web.headers import protect

log = logging.getLogger(__name__)

PREFER_REPORT = "return=representation"

MOST_BYTES = 64 * 1024 * 1024
"""Of a delivery: a batch has some hundred events, and NATS takes messages of up to 1 MiB."""

NOT_PROCESSABLE = 422
UNAVAILABLE = 503


def failure_of(error: Exception) -> Failure:
    """What an error means for the delivery of the event that caused it."""
    if isinstance(error, RecoverableError):
        return Failure(UNAVAILABLE, str(error), error.retry_after)
    if isinstance(error, ClientError | FatalError):
        return Failure(NOT_PROCESSABLE, str(error))
    return Failure(500, f"{type(error).__name__}: {error}")


def answer(function: EventFunction, request: flask.Request) -> flask.Response:
    """Answer a delivery of one event or of a batch."""
    if request.method != "POST":
        return _protected(flask.Response(status=405, headers={"Allow": "POST"}))
    try:
        (doorkeeper,) = deployment.services((DOORKEEPER,))
        if not doorkeeper.lets_in(function.name, request.headers.get("Authorization", "")):
            body.forget(request)
            return _status(Failure(401, "this function takes events of the trigger only"))
        services = deployment.services(function.requires)
        events, is_batch = from_request(request.headers, body.content(request, MOST_BYTES))
    except ClientError as error:
        return _status(Failure(error.status, str(error)))
    except CfmError as error:
        log.error("%s cannot start: %s", function.name, error, exc_info=error)
        return _status(Failure(UNAVAILABLE, str(error)))

    of_request = trace.of(request.headers)
    reply = Reply()
    accepted: list[CloudEvent[object]] = []
    for event in events:
        try:
            data = None if function.data is None else function.data.model_validate(event.get("data"))
        except pydantic.ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            reply.failures[event["id"]] = Failure(NOT_PROCESSABLE, f"data: {problems}")
        else:
            about = (event["id"], event["source"], event["type"], event.get("subject", ""))
            belongs_to = trace.of(event) or of_request
            accepted.append(CloudEvent(*about, data, time=time_of(event), trace=belongs_to))
    if accepted:
        try:
            handled = _handled(function, accepted, services)
        except Exception as error:
            failure = failure_of(error)
            if is_batch and not reply.failures:
                return _status(failure)
            reply.failures |= {event.id: failure for event in accepted}
        else:
            reply.failures |= handled.failures
            reply.outbox, reply.events = handled.outbox, handled.events

    if is_batch or request.headers.get("Prefer") == PREFER_REPORT:
        return _protected(flask.Response(reply.text, 200, content_type="application/json"))
    if reply.failures:
        return _status(next(iter(reply.failures.values())))
    return _protected(flask.Response(status=204))


def _handled(function: EventFunction, events: Sequence[CloudEvent[object]], services: Sequence[object]) -> Reply:
    """What the handler gives. Where all events belong to one trace, what it does belongs to that."""
    with trace.within(trace.common([event.trace for event in events])):
        try:
            reply: Reply = function.handler(events, *services)
        except Exception as error:
            if not isinstance(error, ClientError):
                log.exception("%s failed", function.name)
            raise
        return reply


def _status(failure: Failure) -> flask.Response:
    response = flask.Response(
        json.dumps({"status": failure.status, "detail": failure.reason}),
        failure.status,
        content_type="application/problem+json",
    )
    if failure.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(failure.retry_after))
    return _protected(response)


def _protected(response: flask.Response) -> flask.Response:
    # A report holds what is going to be sent, with the tokens that open it.
    protect(response.headers, "no-store")
    return response
