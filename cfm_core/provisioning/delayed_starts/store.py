"""Orchestrations that are to start later, in Postgres."""

from __future__ import annotations

import json
from datetime import datetime

from cfm_core import trace
from cfm_core.access.model import ALL, Bounds
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.provisioning.definitions.v1alpha1 import activity_from_json
from cfm_core.provisioning.engine.model import OrchestrationState, Progress, unknown_type_detail
from cfm_core.provisioning.engine.starting import start
from cfm_core.provisioning.orchestrations.bounds import condition_of
from cfm_core.provisioning.orchestrations.model import Orchestration
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.delayed_starts")


class PostgresDelayedStarts:
    """What ``Orchestrations`` asks of them; and see ``Due``. A row goes when it has become a run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, manifest: OrchestrationManifest, start_at: datetime) -> None:
        """Keep a manifest until its time, unless something has its id, or nobody defines its type."""
        self._database.rows(
            SQL["put"],
            id=manifest.id,
            correlation_id=manifest.correlation_id,
            type=manifest.orchestration_type,
            template_ref=manifest.template_ref,
            tenant_id=manifest.tenant_id,
            payload=json.dumps(manifest.payload),
            trace=trace.text_of(trace.headers()),
            start_at=start_at.isoformat(),
        )

    def find(self, id_: str, bounds: Bounds = ALL) -> Orchestration | None:
        """What is to become an orchestration, as one."""
        within, bound = condition_of(bounds, "s")
        row = self._database.row(SQL["find"].replace("<<within>>", within), id=id_, **bound)
        if row is None:
            return None
        (_, version, correlation_id, tenant_id, type_, state, state_at, created_at, error_detail) = row[:9]
        activities, payload, start_at, origin_trace, secret_keys = row[9:]
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
            activities=tuple(activity_from_json(activity) for activity in activities),
            graph=(),
            processing_data=payload,
            start_at=start_at,
            origin_trace=origin_trace,
            secret_keys=frozenset(secret_keys),
        )

    def cancel(self, id_: str, reason: str) -> bool:
        """Whether there was something to cancel that had not been started."""
        return self._database.row(SQL["cancel"], id=id_, reason=reason) is not None

    def lock(self, correlation_id: str) -> list[str]:
        """Keep those of a correlation id from starting, until commit; gives the ids of those that are to start."""
        rows = self._database.rows(SQL["lock"], correlation_id=correlation_id)
        return [id_ for id_, state in rows if state == OrchestrationState.SCHEDULED]

    def erase(self, correlation_id: str) -> int:
        """Forget those of a correlation id that will not start; gives their number."""
        return len(self._database.rows(SQL["erase"], correlation_id=correlation_id))

    def list_due(self, most: int) -> list[str]:
        return [id_ for (id_,) in self._database.rows(SQL["list_due"], most=most)]

    def start_due(self, most: int, among: list[str] | None) -> Progress:
        with self._database.transaction() as tx:
            manifests = [
                {
                    "id": id_,
                    "correlationId": correlation_id,
                    "type": type_,
                    "templateRef": template_ref,
                    "tenantId": tenant_id,
                    "payload": payload,
                    "trace": belongs_to,
                }
                for id_, type_, template_ref, correlation_id, tenant_id, payload, belongs_to in tx.rows(
                    SQL["lock_due"], most=most, among=among
                )
            ]
            written, started = start(tx, manifests)
            if started:
                tx.rows(SQL["move_on"], ids=list(started))
                tx.rows(SQL["forget"], ids=list(started))
            for one in manifests:
                if one["id"] not in started:
                    tx.rows(SQL["fail"], id=one["id"], reason=unknown_type_detail(one["type"], one["templateRef"]))
        return Progress(written)

    def set_aside(self, id_: str, reason: str) -> None:
        self._database.rows(SQL["fail"], id=id_, reason=reason)
