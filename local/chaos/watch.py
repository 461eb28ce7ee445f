"""Looks at the database while a run goes on: what has to hold at every commit, and which runs have ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from cfm_core.errors import CfmError
from cfm_core.store.database import Database
from local.chaos.invariants import INVARIANTS, broken

_LOOK_SECONDS = 1.0
_ALWAYS = {
    rule: INVARIANTS[rule]
    for rule in (
        "no more is in flight than the limits allow",
        "what is held back of a run that is not paused is queued",
        "what is queued is held back, what is in flight is out",
        "what lives has a time, what is blocked or has ended has none",
    )
}
"""Those that cost little, because they begin with what is queued or alive."""
_NOTE_ENDED = """
INSERT INTO chaos.ended (id, state)
SELECT o.id, o.state FROM provision_manager.orchestration o
 WHERE o.state_number <> 1 AND o.state NOT IN ('CANCELLING', 'COMPENSATING') AND o.state_at > now() - interval '1 min'
    ON CONFLICT DO NOTHING
"""


class Watch:
    """A thread's work: ``run`` until it is told to stop."""

    def __init__(self, database: Database) -> None:
        self.broken: dict[str, list[str]] = {}
        """What was broken when it was first seen, by rule."""
        self._database = database

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(_LOOK_SECONDS):
            try:
                self._take(broken(self._database, _ALWAYS))
                self._database.rows(_NOTE_ENDED)
            except CfmError:
                continue  # the database is not there; it will be

    def _take(self, found: Mapping[str, list[str]]) -> None:
        for rule, what in found.items():
            self.broken.setdefault(f"{rule}, at any time", what)
