"""Manifests that come in batches over the bus, from a sender that repeats them until they are known to have arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from cfm_core.contracts import subjects
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import CfmError
from cfm_core.provisioning.engine.events import manifest_event
from cfm_core.store import outbox
from cfm_core.store.database import Database
from local.chaos.client import Client

_LOOK_SECONDS = 1.0
_REPEAT_SECONDS = 5.0
_KNOWN = "SELECT id FROM provision_manager.orchestration WHERE id = ANY (:ids)"


class Courier:
    """A thread's work: ``run`` until it is told that no more manifests come, and all have arrived."""

    def __init__(self, database: Database, client: Client) -> None:
        self.problems: list[str] = []
        self._database = database
        self._client = client
        self._out: dict[str, tuple[float, OrchestrationManifest]] = {}
        """What is not known to have arrived, with the time at which it was sent last."""
        self._lock = threading.Lock()

    def send(self, manifests: Sequence[OrchestrationManifest]) -> None:
        """Put them into one message, as any sender of events does."""
        with self._lock:
            self._out |= {one.id: (time.monotonic(), one) for one in manifests}
        events = [manifest_event(one, one.id) for one in manifests]
        try:
            with self._database.transaction() as tx:
                outbox.put(tx, subjects.MANIFESTS, events)
        except CfmError:
            return  # sent again in a while

    def run(self, no_more: threading.Event) -> None:
        """Repeat what has not arrived."""
        while self._client.has_patience and not (no_more.is_set() and not self._out):
            self._client.stopped.wait(_LOOK_SECONDS)
            try:
                known = {id_ for (id_,) in self._database.rows(_KNOWN, ids=list(self._out))}
            except CfmError:
                continue  # the database is not there; it will be
            with self._lock:
                self._out = {id_: sent for id_, sent in self._out.items() if id_ not in known}
                before = time.monotonic() - _REPEAT_SECONDS
                late = [manifest for at, manifest in self._out.values() if at < before]
            if late:
                self.send(late)
        self.problems += [f"{id_} has not arrived" for id_ in self._out]
