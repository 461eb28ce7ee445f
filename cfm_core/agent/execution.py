"""One attempt: calls the method for the discriminator and makes a result of whatever comes back."""

from __future__ import annotations

import dataclasses
import traceback
from datetime import timedelta
from typing import Any

from cfm_core.agent.context import ActivityContext
from cfm_core.agent.results import LONGEST_DELAY, ActivityResult, Complete, Fatal, Retry, Schedule, Wait
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.errors import ClientError, FatalError, RecoverableError

_METHODS = {DEPLOY: "deploy", DISPOSE: "dispose"}


def attempt(instance: Any, ctx: ActivityContext) -> ActivityResult:
    """Run the activity once. Whatever it raises or returns becomes a result; nothing is raised.

    A secret that the activity was given does not stand in the result's reason.
    """
    result = _attempt(instance, ctx)
    if isinstance(result, Wait | Retry | Fatal) and ctx.secrets.found_in(result.reason):
        return dataclasses.replace(result, reason=ctx.secrets.blacked_out(result.reason))
    return result


def _attempt(instance: Any, ctx: ActivityContext) -> ActivityResult:
    name = _METHODS.get(ctx.discriminator, "process")
    method = getattr(instance, name, None)
    if method is None:
        return Fatal(f"{type(instance).__name__} cannot run {ctx.discriminator!r}: it has no method {name!r}")
    try:
        result = method(ctx)
    except BaseException as error:
        return result_of(error, ctx)
    if isinstance(result, Complete | Wait | Schedule | Retry | Fatal):
        return result
    return Retry(f"{type(instance).__name__}.{name} returned {_shown(result)}, which is not an activity result")


def result_of(error: BaseException, ctx: ActivityContext) -> ActivityResult:
    """What an exception means for the attempt that raised it."""
    match error:
        case FatalError() | ClientError():
            return Fatal(str(error))
        case RecoverableError(retry_after=None):
            return Retry(str(error))
        case RecoverableError(retry_after=float() | int() as seconds):
            return Retry(str(error), after=min(timedelta(seconds=max(seconds, 0)), LONGEST_DELAY))
    # Nobody foresaw it, so its place in the code is what helps; its text may quote a secret.
    ctx.log.warning(
        "the activity raised an exception:\n%s",
        ctx.secrets.blacked_out("".join(traceback.format_exception(error))),
    )
    return Retry(f"{type(error).__name__}: {_text(error)}")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"(its text cannot be had: {type(second).__name__})"


def _shown(value: object) -> str:
    try:
        return repr(value)[:100]
    except Exception:
        return f"something of type {type(value).__name__}"
