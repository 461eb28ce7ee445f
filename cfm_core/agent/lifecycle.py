"""Declaring a function of a lifecycle agent: it follows what happens in other systems, without being part of an orchestration.

@lifecycle_function(subject=subjects.KEY_PAIR_EVENTS, data=KeyPairEvent, requires=[SIGNING_KEYS])
def follow_key_pair(event: CloudEvent[KeyPairEvent], keys: SigningKeys) -> None: ...

@lifecycle_function(every=timedelta(minutes=5), requires=[SIGNING_KEYS])
def look_after_keys(event: CloudEvent[None], keys: SigningKeys) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cfm_core import trace
from cfm_core.assembly.service_type import ServiceType
from cfm_core.contracts.reply import Reply
from cfm_core.declaration import EventFunction
from cfm_core.errors import CfmError
from cfm_core.eventing.cloudevents import CloudEvent
from cfm_core.eventing.edge import failure_of
from cfm_core.function import Target, target_of

log = logging.getLogger(__name__)


def lifecycle_function(
    *,
    subject: str = "",
    every: timedelta | None = None,
    data: type[BaseModel] | None = None,
    batch: int = 4,
    slots: int = 4,
    timeout: timedelta = timedelta(seconds=60),
    requires: Sequence[ServiceType[Any]] = (),
) -> Callable[[Callable[..., None]], Target]:
    """Declare a function that is called with one event of ``subject`` after another, or is woken ``every`` so often.

    An event may come twice, late, and in any order. The handler is called with the event, its data checked against
    ``data``, then the required services. What it raises is about that event alone: RecoverableError has it brought again
    after a delay, which grows, and not for ever; any other error of ours makes a dead letter of it, with the reason.
    """

    def declare(handler: Callable[..., None]) -> Target:
        @functools.wraps(handler)
        def handle(events: Sequence[CloudEvent[Any]], *services: Any) -> Reply:
            reply = Reply()
            for event in events:
                with trace.within(event.trace):
                    try:
                        handler(event, *services)
                    except Exception as error:
                        if not isinstance(error, CfmError):
                            log.exception("%s failed", handler.__name__)
                        reply.failures[event.id] = failure_of(error)
            return reply

        source = Path(inspect.getfile(handler)).resolve()
        return target_of(
            EventFunction(
                handler.__name__,
                source,
                handle,
                tuple(requires),
                subject,
                data,
                batch,
                slots,
                timeout,
                every,
                of_agent=True,
            )
        )

    return declare
