"""Orchestrations in Postgres."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from cfm_core import trace
from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bounds, Resource
from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.completion import NO_KEY, CompletionKey
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import NotFoundError
from cfm_core.provisioning.definitions.v1alpha1 import activity_from_json
from cfm_core.provisioning.delayed_starts.store import PostgresDelayedStarts
from cfm_core.provisioning.engine.model import ActivityState, OrchestrationState
from cfm_core.provisioning.engine.store import manifest_row, outcome_row, taken_in
from cfm_core.provisioning.keys import check_after, check_known
from cfm_core.provisioning.orchestrations.bounds import condition_of
from cfm_core.provisioning.orchestrations.fields import FIELDS
from cfm_core.provisioning.orchestrations.model import (
    ActivityStatus,
    Attempt,
    Endable,
    Ending,
    Heartbeat,
    Orchestration,
    activities_of,
)
from cfm_core.provisioning.orchestrations.service import (
    can_end,
    check_progress,
    check_recorded,
    named_by,
    outcome_of,
    superseded,
    unknown_type,
)
from cfm_core.query import JsonPage, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.conditions import both
from cfm_core.store.database import Database, Row
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.orchestrations")

LISTING = Listing(
    "provision_manager.entry",
    "provision_manager.entry_json(t)",
    "256 + octet_length((t).id) + octet_length((t).correlation_id) + 2 * octet_length((t).type)",
    key_type="text",
    # Not EXISTS, for which all runs might be read.
    only="(t.start_at IS NULL OR (SELECT r.id FROM provision_manager.run r WHERE r.id = t.id LIMIT 1) IS NULL)",
)


_STATUS = TypeAdapter(ActivityStatus)

BATCH = 500
"""So many runs are archived, or forgotten, in one transaction."""
MOST_BATCHES = 60
"""So many batches one after the other: they take some seconds, and the next ones wait for the next time."""


class PostgresOrchestrations:
    """See ``Orchestrations``."""

    def __init__(self, database: Database, completion_key: CompletionKey = NO_KEY, access: Access = EVERYTHING) -> None:
        self._database = database
        self._completion_key = completion_key
        self._access = access
        self._delayed_starts = PostgresDelayedStarts(database)

    def within(self, access: Access) -> PostgresOrchestrations:
        return PostgresOrchestrations(self._database, self._completion_key, access)

    def start(self, manifest: OrchestrationManifest, start_at: datetime | None = None) -> Orchestration:
        self._access.require_all(Action.CREATE, Resource.ORCHESTRATION)
        if start_at is not None:
            self._delayed_starts.put(manifest, start_at)
        else:
            manifests = json.dumps([manifest_row(manifest, trace.headers())])
            if self._database.rows(SQL["start"], id=manifest.id, manifests=manifests):
                self._database.announce()
        started = self.find(manifest.id)
        if started is None:
            raise unknown_type(manifest)
        return started

    def get(self, orchestration_id: str) -> Orchestration:
        bounds = self._access.require(Action.READ, Resource.ORCHESTRATION)
        check_known("orchestration", orchestration_id)
        found = self.find(orchestration_id, bounds)
        if found is None:
            raise NotFoundError("orchestration", orchestration_id)
        return found

    def end_activity(self, orchestration_id: str, activity_id: str, ending: Ending) -> None:
        check_known("activity", orchestration_id + activity_id)
        found = self._find_ended(orchestration_id, activity_id, ending)
        if can_end(found, ending):
            outcome = outcome_of(orchestration_id, found, ending)
            written, held = taken_in(self._end(outcome_row(outcome, outside=True)), [outcome])
            if held:
                check_recorded(held[0].problem, found.state)
                written = self._end(outcome_row(outcome, checked=held[0].checked, outside=True))
            if written:
                self._database.announce()
            # Before the lock was there, the activity may have been sent again, or have ended: then nothing was taken in.
            can_end(self._find_ended(orchestration_id, activity_id, ending), ending)

    def heartbeat(self, orchestration_id: str, activity_id: str, heartbeat: Heartbeat) -> datetime:
        check_known("activity", orchestration_id + activity_id)
        check_progress(heartbeat.progress)
        until: datetime | None = self._database.value(
            SQL["heartbeat"],
            id=orchestration_id,
            activity_id=activity_id,
            token=heartbeat.token,
            progress=None if heartbeat.progress is None else json.dumps(heartbeat.progress),
        )
        if until is None:
            raise superseded(self._find_activities(orchestration_id, activity_id)[0].state.lower())
        return until

    def history(self, orchestration_id: str) -> list[Attempt]:
        within, bound = condition_of(self._access.require(Action.READ, Resource.ORCHESTRATION), "o")
        check_known("orchestration", orchestration_id)
        sql = SQL["history"].replace("<<within>>", within)
        rows = self._database.rows(sql, id=orchestration_id, **bound)
        if not rows:
            # One that is to start later has no history yet.
            self.get(orchestration_id)
        return [
            Attempt(
                activity_id=activity_id,
                activity_type=activity_type,
                compensates=phase % 2 == 1,
                dispatch=dispatch,
                attempt=attempt,
                outcome=kind,
                reason=reason,
                started_at=dispatched_at,
                ended_at=at,
                next_at=next_at,
            )
            for activity_id, activity_type, phase, dispatch, attempt, kind, reason, dispatched_at, at, next_at in rows
            if kind is not None
        ]

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        within = condition_of(self._access.require(Action.READ, Resource.ORCHESTRATION), "t")
        check_after(page)
        return paging.select(self._database, LISTING, page, *both(within, to_sql(predicate, FIELDS)))

    def _find_ended(self, orchestration_id: str, activity_id: str, ending: Ending) -> Endable:
        found = self._find_activities(orchestration_id, activity_id)
        return named_by(orchestration_id, activity_id, found, ending, self._completion_key)

    def _find_activities(self, orchestration_id: str, activity_id: str) -> list[Endable]:
        rows = self._database.rows(SQL["find_activities"], id=orchestration_id, activity_id=activity_id)
        if not rows:
            raise NotFoundError("activity", f"{orchestration_id}/{activity_id}")
        return [
            Endable(
                phase=phase,
                ord=ord_,
                state=ActivityState(state),
                token=token,
                ending=OutcomeKind(ending) if ending else None,
                ending_token=ending_token,
            )
            for phase, ord_, state, token, ending, ending_token in rows
        ]

    def _end(self, outcome: dict[str, Any]) -> list[Row]:
        return self._database.rows(SQL["end_activity"], outcomes=json.dumps([outcome]))

    def find(self, orchestration_id: str, bounds: Bounds = ALL) -> Orchestration | None:
        """The one with this id, if there is one within ``bounds``."""
        # What is in neither place has perhaps just moved from the second to the first.
        return (
            self._find_run(orchestration_id, bounds)
            or self._delayed_starts.find(orchestration_id, bounds)
            or self._find_run(orchestration_id, bounds)
        )

    def _find_run(self, orchestration_id: str, bounds: Bounds) -> Orchestration | None:
        within, bound = condition_of(bounds, "o")
        row = self._database.row(SQL["get"].replace("<<within>>", within), id=orchestration_id, **bound)
        if row is None:
            return None
        (id_, version, correlation_id, tenant_id, type_, state, state_at, created_at, error_detail) = row[:9]
        (
            activities,
            processing_data,
            output_data,
            paused,
            paused_above,
            erased,
            compensable,
            changes_live,
            parent,
            origin_trace,
            secret_keys,
            graph,
        ) = row[9:]
        shown = tuple(_STATUS.validate_python(one) for one in graph)
        return Orchestration(
            id=id_,
            version=version,
            correlation_id=correlation_id,
            tenant_id=tenant_id,
            type=type_,
            state=OrchestrationState(state),
            state_at=state_at,
            created_at=created_at,
            error_detail=error_detail,
            activities=activities_of([activity_from_json(activity) for activity in activities], shown),
            graph=shown,
            parent=parent,
            origin_trace=origin_trace,
            secret_keys=frozenset(secret_keys),
            paused=paused,
            paused_above=paused_above,
            erased=erased,
            compensable=compensable,
            changes_live=changes_live,
            processing_data=processing_data,
            output_data=output_data,
        )


class PostgresArchive:
    """See ``Archive``."""

    def __init__(self, database: Database, after: timedelta, kept: timedelta | None) -> None:
        """Args:
        after: how long after its end a run is archived.
        kept: how long after its end it is forgotten; None: never.
        """
        self._database = database
        self._after = after
        self._kept = kept

    def tidy(self) -> int:
        done = self._in_batches("archive", after=self._after)
        if self._kept is not None:
            done += self._in_batches("forget_archived", kept=self._kept)
        return done

    def _in_batches(self, name: str, **params: timedelta) -> int:
        done = 0
        for _ in range(MOST_BATCHES):
            some = int(self._database.value(SQL[name], most=BATCH, **params))
            done += some
            if some < BATCH:
                break
        return done


class PostgresHistory:
    """See ``History``."""

    def __init__(self, database: Database, kept: timedelta) -> None:
        self._database = database
        self._kept = kept

    def tidy(self) -> int:
        return int(self._database.value(SQL["keep_history"], kept=self._kept))
