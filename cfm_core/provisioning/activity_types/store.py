"""Activity types in Postgres."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from cfm_core.audit.model import Kind, Subject
from cfm_core.errors import NotFoundError
from cfm_core.provisioning.activity_types.model import ActivityType
from cfm_core.provisioning.definitions.model import Rate
from cfm_core.provisioning.engine.model import ActivityState
from cfm_core.provisioning.keys import check_known
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.operations.notes import note
from cfm_core.provisioning.orchestrations.actions import Action
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.activity_types")


class PostgresActivityTypes:
    """See ``ActivityTypeStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.contextmanager
    def held(self, type_: str) -> Iterator[None]:
        with self._database.joined() as transaction:
            transaction.rows(SQL["lock"])
            yield

    def all(self) -> list[ActivityType]:
        return self._select(None)

    def get(self, type_: str) -> ActivityType:
        check_known("activity type", type_)
        found = self._select(type_)
        if not found:
            raise NotFoundError("activity type", type_)
        return found[0]

    def set_paused(self, type_: str, paused: bool) -> None:
        self._database.rows(SQL["set_paused"], type=type_, paused=paused)
        if not paused and self._database.rows(SQL["admit"], type=type_):
            self._database.announce()

    def note(self, type_: str, action: Action, order: Order, before: str, after: str) -> None:
        note(self._database, Subject(Kind.ACTIVITY_TYPES, type_), action, order, before, after)

    def _select(self, type_: str | None) -> list[ActivityType]:
        counts: dict[str, dict[str, dict[ActivityState, int]]] = {}
        for of_type, tenant, state, n in self._database.rows(SQL["count"], type=type_):
            counts.setdefault(of_type, {}).setdefault(tenant, {})[ActivityState(state)] = n
        open_at: dict[str, dict[str, datetime]] = {}
        for of_type, tenant, at in self._database.rows(SQL["rates_of_tenants"], type=type_):
            open_at.setdefault(of_type, {})[tenant] = at
        return [
            ActivityType(
                type=name,
                version=version,
                has_agent=has_agent,
                paused=paused,
                concurrency=concurrency,
                concurrency_per_tenant=per_tenant,
                rate=_rate(*rate),
                rate_per_tenant=_rate(*tenant_rate),
                rate_opens_at=rate_opens_at,
                tenant_rates_open_at=open_at.get(name, {}),
                failures=failures,
                probe_at=probe_at,
                counts=counts.get(name, {}),
            )
            for (
                name,
                version,
                has_agent,
                paused,
                concurrency,
                per_tenant,
                *rates,
                failures,
                probe_at,
                rate_opens_at,
            ) in self._database.rows(SQL["select"], type=type_)
            for rate, tenant_rate in [(rates[:2], rates[2:])]
        ]


def _rate(count: int | None, per: timedelta | None) -> Rate | None:
    return None if count is None or per is None else Rate(count, per)
