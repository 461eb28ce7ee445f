"""Declaring an activity: the class stays as it is, and beside it in its module appears the function that serves it."""

from __future__ import annotations

import inspect
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from cfm_core import trace
from cfm_core.agent.context import ActivityContext, SecretSource
from cfm_core.agent.execution import attempt
from cfm_core.agent.heartbeats import Heartbeats
from cfm_core.agent.results import ActivityResult, Complete, Fatal, Retry, Schedule, Wait
from cfm_core.agent.threads import START_WINDOW, Job, Threads
from cfm_core.assembly.secrets import SECRETS
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts import subjects
from cfm_core.contracts.activity import (
    OUTCOME_EVENT,
    ActivityDispatch,
    ActivityOutcome,
    ActivityTypeAnnouncement,
    OutcomeKind,
)
from cfm_core.contracts.reply import EventDict, Failure, Reply
from cfm_core.contracts.secrets import REFERENCE, SecretReference, is_beginning
from cfm_core.declaration import EventFunction
from cfm_core.errors import FatalError, ValidationError
from cfm_core.eventing.cloudevents import CloudEvent, event
from cfm_core.function import target_of
from cfm_core.settings import Settings

A = TypeVar("A")

log = logging.getLogger(__name__)

LONGEST_REASON = 2000
LONGEST_OVERRIDE = timedelta(minutes=5)
"""So long may a definition let an attempt take, whatever the activity's own timeout is."""

_TRACE_CONTEXT = "trace_context"
"""The value in which a run keeps its trace from one turn to the next. Source: CFM wire contract, section 9.4."""
_METHODS = ("deploy", "dispose", "process")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class ActivityDeclaration:
    """What the decorator was told; kept on the class as ``__activity__``."""

    activity_type: str
    timeout: timedelta
    requires: tuple[ServiceType[Any], ...]
    secrets: tuple[str, ...]
    backoff: timedelta
    inputs: type[BaseModel] | None = None
    outputs: type[BaseModel] | None = None


def activity(
    activity_type: str,
    *,
    timeout: timedelta = timedelta(seconds=30),
    requires: Sequence[ServiceType[Any]] = (),
    secrets: Sequence[str] = (),
    inputs: type[BaseModel] | None = None,
    outputs: type[BaseModel] | None = None,
    max_attempts: int = 5,
    backoff: timedelta = timedelta(seconds=1),
    backoff_limit: timedelta = timedelta(seconds=60),
    batch: int = 64,
    slots: int = 4,
) -> Callable[[type[A]], type[A]]:
    """Declare a class as the agent of ``activity_type``.

    In the class's module appears the target for functions-framework: a function named like the class, in snake case.

    Args:
        timeout: how long one attempt may take. Like the three for retries, a default that a definition overrides.
        requires: services that the class's constructor is called with, in this order.
        secrets: names of the secrets that ``ctx.secrets`` gives: paths, references (``vault:<mount>/<path>#<field>``), and with
            ``vault:<mount>/*`` all references that begin like this.
        inputs: the model of the values that ``deploy`` reads, with their names as aliases; for the schemas of its definition.
        outputs: the model of what ``deploy`` gives, likewise.
        max_attempts: so many failures end the activity.
        backoff: the greatest delay before the first retry; doubled with each further failure, up to ``backoff_limit``.
        batch: the greatest number of activities in one call; small where one takes long.
        slots: the greatest number of calls at a time.

    Raises:
        FatalError: the declaration makes no sense; the text says what to change.
    """

    def declare(cls: type[A]) -> type[A]:
        name = _WORD.sub("_", cls.__name__).lower()
        module = vars(sys.modules[cls.__module__])
        _check(cls, activity_type, name, module)
        _check_secrets(cls, secrets)
        try:
            announcement = ActivityTypeAnnouncement(
                activity_type=activity_type,
                timeout=timeout,
                max_attempts=max_attempts,
                backoff=backoff,
                backoff_limit=backoff_limit,
            )
        except ValueError as error:
            raise FatalError(f"{cls.__name__} declares what nobody can hold to: {error}") from None
        declaration = ActivityDeclaration(
            activity_type, timeout, tuple(requires), tuple(secrets), backoff, inputs, outputs
        )
        host = _Host(cls, declaration)

        def handle(events: Sequence[CloudEvent[ActivityDispatch]], *services: Any) -> Reply:
            return host.handle(events, services)

        handle.__module__ = cls.__module__
        handle.__doc__ = inspect.getdoc(cls) or f"Runs activities of type {activity_type}."
        module[name] = target_of(
            EventFunction(
                name,
                Path(inspect.getfile(cls)).resolve(),
                handle,
                (*declaration.requires, SECRETS) if declaration.secrets else declaration.requires,
                subjects.activity(activity_type),
                ActivityDispatch,
                batch,
                slots,
                max(timeout, LONGEST_OVERRIDE) + START_WINDOW,
                activity=announcement,
                of_agent=True,
            )
        )
        cls.__activity__ = declaration  # type: ignore[attr-defined]
        return cls

    return declare


def _check(cls: type[Any], activity_type: str, name: str, module: dict[str, Any]) -> None:
    if not subjects.is_activity_type(activity_type):
        raise FatalError(
            f"{activity_type!r} cannot be an activity type: letters, digits, '-', '_' and single dots only"
        )
    if not any(callable(getattr(cls, method, None)) for method in _METHODS):
        raise FatalError(f"{cls.__name__} has none of the methods {', '.join(_METHODS)}")
    for method in _METHODS:
        if inspect.iscoroutinefunction(getattr(cls, method, None)):
            raise FatalError(f"{cls.__name__}.{method} is a coroutine; an activity's methods are plain functions")
    if name == cls.__name__:
        raise FatalError(f"write the class name {name} in CamelCase: {name} will be the function that serves it")
    if name in module and not hasattr(module[name], "declaration"):
        raise FatalError(
            f"rename {cls.__name__}, or what is called {name} in its module: the serving function needs that name"
        )


def _check_secrets(cls: type[Any], names: Sequence[str]) -> None:
    for name in names:
        try:
            if not is_beginning(name):
                SecretReference.named(name, "secret")
            elif name.partition("/")[0] == REFERENCE:
                raise ValidationError(f"{name!r} names no mount")
        except ValidationError as error:
            raise FatalError(f"{cls.__name__} declares a secret that no store can have: {error}") from None


class _Host:
    """Serves one activity type in this process."""

    def __init__(self, cls: type[Any], declaration: ActivityDeclaration) -> None:
        self._cls = cls
        self._declaration = declaration
        self._threads = Threads(exhausted=_begin_anew)
        self._lock = threading.Lock()
        self._instance: tuple[tuple[Any, ...], Any] | None = None
        self._heartbeats = Heartbeats()

    def handle(self, events: Sequence[CloudEvent[ActivityDispatch]], services: tuple[Any, ...]) -> Reply:
        """Run the activities of ``events``; the reply holds one outcome for each.

        A repeated event is run again: what an activity does has to bear that.
        """
        reply = Reply()
        for one in events:
            if one.data.activity_type == self._declaration.activity_type:
                continue
            # Whoever has put it on this agent's subject: what it says is meant for another's hands and secrets.
            reply.failures[one.id] = Failure(422, f"activities of type {one.data.activity_type} are not this agent's")
        events = [one for one in events if one.id not in reply.failures]
        store: SecretSource | None = None
        if self._declaration.secrets:
            *others, store = services
            services = tuple(others)
        contexts = [
            ActivityContext(
                one.data,
                secrets=store,
                secret_names=self._declaration.secrets,
                beat=partial(self._heartbeats.send, one.data.heartbeat),
            )
            for one in events
        ]
        jobs = [
            Job(
                partial(self._attempt, ctx, services, one),
                partial(self._limit, one.data),
                partial(self._too_late, ctx, one),
            )
            for one, ctx in zip(events, contexts, strict=True)
        ]
        self._threads.run(jobs)
        for one, ctx, job in zip(events, contexts, jobs, strict=True):
            if job.result is None:
                reply.failures[one.id] = Failure(503, "this agent is busy")
            else:
                try:
                    reply.events.append(_outcome(one, ctx, job.result))
                except (ValueError, RecursionError) as error:
                    # What it has recorded cannot be sent, for example because it is nested too deeply.
                    nothing = ActivityContext(one.data)
                    reply.events.append(_outcome(one, nothing, Fatal(f"its outcome cannot be sent: {error}")))
        return reply

    def _attempt(
        self, ctx: ActivityContext, services: tuple[Any, ...], dispatched: CloudEvent[ActivityDispatch]
    ) -> ActivityResult:
        with trace.within(_trace_of(ctx, dispatched)):
            return self._attempt_traced(ctx, services, dispatched.data)

    def _attempt_traced(
        self, ctx: ActivityContext, services: tuple[Any, ...], dispatch: ActivityDispatch
    ) -> ActivityResult:
        if dispatch.timeout_seconds is not None and not self._heartbeats.send(dispatch.heartbeat, None):
            # The engine has waited for this sign of life, and has sent the activity again meanwhile.
            return _NotBegun(after=self._declaration.backoff)
        try:
            instance = self._instance_for(services)
        except Exception as error:
            # Even an error that calls itself fatal: the activity is innocent, and the agent may be mended meanwhile.
            ctx.log.exception("%s cannot be made", self._cls.__name__)
            return Retry(f"{self._cls.__name__} cannot be made: {type(error).__name__}: {error}")
        return attempt(instance, ctx)

    def _instance_for(self, services: tuple[Any, ...]) -> Any:
        made = self._instance
        if made is not None and all(map(_is, made[0], services)):
            return made[1]
        with self._lock:
            made = self._instance
            if made is None or not all(map(_is, made[0], services)):
                made = self._instance = (services, self._cls(*services))
            return made[1]

    def _limit(self, dispatch: ActivityDispatch) -> float:
        timeout = self._declaration.timeout
        if dispatch.deadline is not None:
            timeout = min(dispatch.deadline - datetime.now(UTC), max(timeout, LONGEST_OVERRIDE))
        if dispatch.timeout_seconds is not None:
            timeout = min(timeout, timedelta(seconds=dispatch.timeout_seconds))
        return timeout.total_seconds()

    def _too_late(self, ctx: ActivityContext, dispatched: CloudEvent[ActivityDispatch]) -> ActivityResult:
        # No failure of the activity: it asks for another turn, with a deadline that it can meet.
        with trace.within(_trace_of(ctx, dispatched)):
            ctx.log.warning("arrived after its deadline %s: it waited too long, or a clock is wrong", ctx.deadline)
        return _NotBegun(after=self._declaration.backoff)


class _NotBegun(Schedule):
    """The attempt came too late. It has done nothing, and wants another turn."""


def _begin_anew() -> None:
    """End this process, full of threads that hang, if somebody will start it again."""
    if Settings.from_environ().supervised:
        log.critical("too many activities hang; this process ends, to be started again")
        os.kill(os.getpid(), signal.SIGTERM)


def _is(one: object, other: object) -> bool:
    return one is other


def _trace_of(ctx: ActivityContext, dispatched: CloudEvent[ActivityDispatch]) -> trace.Context:
    return trace.of({"traceparent": ctx.values.get(_TRACE_CONTEXT)}) or dispatched.trace


def _outcome(dispatched: CloudEvent[ActivityDispatch], ctx: ActivityContext, result: ActivityResult) -> EventDict:
    dispatch = dispatched.data
    kind, after, reason = _parts(result)
    # An abandoned thread may still write; a copy of each is made in one step.
    outcome = ActivityOutcome(
        orchestration_id=dispatch.orchestration_id,
        phase=dispatch.phase,
        ord=dispatch.ord,
        token=dispatch.token,
        kind=kind,
        after=after,
        reason=_presentable(reason),
        begun=not isinstance(result, _NotBegun),
        values=ctx.recorded_values.copy(),
        deleted=list(ctx.recorded_deletions.copy()),
        outputs=ctx.recorded_outputs.copy(),
    )
    return event(
        type=OUTCOME_EVENT,
        source=f"cfm/agent/{dispatch.activity_type}",
        subject=subjects.RESULTS,
        id=f"{dispatched.id}/outcome",
        data=outcome.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        belongs_to=dispatched.trace,
    )


def _parts(result: ActivityResult) -> tuple[OutcomeKind, timedelta | None, str]:
    match result:
        case Complete():
            return OutcomeKind.COMPLETE, None, ""
        case Wait():
            return OutcomeKind.WAIT, result.timeout, result.reason
        case Schedule():
            return OutcomeKind.SCHEDULE, result.after, ""
        case Retry():
            return OutcomeKind.RETRY, result.after, result.reason
        case Fatal():
            return OutcomeKind.FATAL, None, result.reason


def _presentable(reason: str) -> str:
    """A reason as it can be stored and shown: without NUL and half characters, and not endless."""
    text = reason.replace("\0", "").encode(errors="replace").decode()
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
