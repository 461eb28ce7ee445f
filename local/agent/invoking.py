"""One call of an agent's function, as the trigger makes it: in this process, or over HTTP."""

from __future__ import annotations

import contextlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.contracts import subjects
from cfm_core.contracts.activity import DISPATCH_EVENT, ActivityDispatch
from cfm_core.declaration import EventFunction
from cfm_core.errors import CfmError, FatalError, ForbiddenError, RecoverableError
from cfm_core.eventing.cloudevents import BATCH, event, to_batch
from cfm_core.settings import Settings

if TYPE_CHECKING:
    import flask

Post = Callable[[bytes], tuple[int, bytes]]
"""Sends a batch of CloudEvents to a function, and gives the status and body of its answer."""

_PATIENCE_SECONDS = 330
"""Longer than any attempt may take."""


def invoke(post: Post, dispatch: ActivityDispatch) -> dict[str, Any]:
    """Have one attempt made, and give its outcome without what only the engine needs.

    Raises:
        ForbiddenError: the function takes events of the trigger only, and was shown another token.
        RecoverableError: the function cannot make the attempt now.
        FatalError: it gives no outcome.
    """
    sent = event(
        type=DISPATCH_EVENT,
        source="cfm/agent/invoke",
        subject=subjects.activity(dispatch.activity_type),
        data=dispatch.to_json(),
    )
    status, body = post(to_batch([sent]))
    try:
        reply = json.loads(body)
    except ValueError:
        raise FatalError(f"the function answered {status} with something that is not JSON") from None
    if status != 200:
        raise _refusal(status, str(reply.get("detail", "")))
    for failure in reply.get("failures", ()):
        raise _refusal(failure["status"], failure["reason"])
    for one in reply.get("events", ()):
        outcome: dict[str, Any] = one["data"]
        return {name: outcome[name] for name in outcome if name not in _OF_THE_ENGINE}
    raise FatalError("the function gave no outcome")


_OF_THE_ENGINE = frozenset({"orchestrationId", "phase", "ord", "token", "begun"})


@contextlib.contextmanager
def in_process(function: EventFunction) -> Iterator[Post]:
    """The function's own app without a server, with the services that the environment names; its trigger is this process."""
    import functions_framework

    create: Callable[[str, str], flask.Flask] = functions_framework.create_app
    client = create(function.name, str(function.source)).test_client()
    settings = replace(Settings.from_environ(), event_token=secrets.token_urlsafe())
    assembler = ServiceAssembler(deployment.assemblies(settings), settings)

    def post(batch: bytes) -> tuple[int, bytes]:
        answer = client.post("/", data=batch, headers=_headers(settings.event_token))
        return answer.status_code, answer.data

    deployment.use(assembler)
    try:
        yield post
    finally:
        deployment.stop()


@contextlib.contextmanager
def over_http(url: str) -> Iterator[Post]:
    """The function at ``url``, shown the token of ``CFM_EVENT_TOKEN``."""
    # Not through a proxy: an agent's function is not reached from elsewhere.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(batch: bytes) -> tuple[int, bytes]:
        headers = _headers(Settings.from_environ().event_token)
        request = urllib.request.Request(url, batch, headers, method="POST")  # noqa: S310 - the address is the operator's own
        try:
            with opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    yield post


def _headers(token: str) -> dict[str, str]:
    return {"Content-Type": BATCH, "Authorization": f"Bearer {token}"}


def _refusal(status: int, detail: str) -> CfmError:
    if status in {401, 403}:
        return ForbiddenError(f"{detail}; CFM_EVENT_TOKEN has to be its token")
    if status == 503:
        return RecoverableError(detail)
    return FatalError(f"the function answered {status}: {detail}")
