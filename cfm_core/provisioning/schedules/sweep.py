"""What is done when the time of something has come that starts by itself: a schedule, or a delayed start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from cfm_core.errors import CfmError, RecoverableError
from cfm_core.provisioning.engine.model import Progress

log = logging.getLogger(__name__)


class Due(Protocol):
    """Things of one kind that start by themselves. What time it is, their store says."""

    def list_due(self, most: int) -> list[str]:
        """The ids of those whose time has come and that may be started, the one that has waited longest first."""
        ...

    def start_due(self, most: int, among: list[str] | None) -> Progress:
        """Start up to ``most`` whose time has come, only of ``among`` unless that is None. One transaction.

        What somebody else holds is left to them. One whose orchestration type nobody defines is taken care of as well.
        """
        ...

    def set_aside(self, id_: str, reason: str) -> None:
        """Leave out the time of one that cannot be started, and say why."""
        ...


class DueStarts:
    """Starts what is due, of several kinds."""

    def __init__(self, kinds: Sequence[Due]) -> None:
        self._kinds = kinds

    def sweep(self, most: int = 200) -> Progress:
        """Start up to ``most`` of each kind. Repeated, or done by several at once, nothing is started twice.

        What cannot be started says why, and stops no other. The rows in the outbox are leased to whoever called.

        Raises:
            RecoverableError: the store cannot answer now.
        """
        progress = Progress()
        for kind in self._kinds:
            try:
                progress.outbox += kind.start_due(most, None).outbox
            except RecoverableError:
                raise
            except CfmError:
                log.exception("what is due cannot be started together; looking for the culprit")
                for id_ in kind.list_due(most):
                    progress.outbox += _start_alone(kind, id_).outbox
        return progress


def _start_alone(kind: Due, id_: str) -> Progress:
    try:
        return kind.start_due(1, [id_])
    except RecoverableError:
        raise
    except CfmError as error:
        log.exception("%s cannot be started", id_)
        kind.set_aside(id_, str(error))
        return Progress()
