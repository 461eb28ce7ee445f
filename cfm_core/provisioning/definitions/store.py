"""Definitions in Postgres."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cfm_core.errors import NotFoundError
from cfm_core.provisioning.definitions import v1alpha1
from cfm_core.provisioning.definitions.model import (
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    RetryPolicy,
    check_activity_definition,
    check_template,
)
from cfm_core.provisioning.definitions.service import activity_type_in_use, template_in_use
from cfm_core.store.database import Database, Row, Transaction
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.definitions")


class PostgresDefinitions:
    """See ``Definitions``. Changes happen one at a time, so that what a check has found still holds when it counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_activity_definitions(self) -> list[ActivityDefinition]:
        return [_activity_definition(row) for row in self._database.rows(SQL["list_activity_definitions"])]

    def put_activity_definition(self, definition: ActivityDefinition) -> None:
        check_activity_definition(definition)
        self._database.rows(
            SQL["put_activity_definition"],
            type=definition.type,
            description=definition.description,
            input_schema=_json_or_none(definition.input_schema),
            output_schema=_json_or_none(definition.output_schema),
            timeout=_seconds(definition.timeout),
            max_attempts=definition.retry.max_attempts,
            backoff=_seconds(definition.retry.backoff),
            backoff_limit=_seconds(definition.retry.backoff_limit),
        )

    def delete_activity_definition(self, activity_type: str) -> None:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            if tx.row(SQL["delete_activity_definition"], type=activity_type) is None:
                raise NotFoundError("activity definition", activity_type)
            if users := tx.rows(SQL["list_users"], type=activity_type):
                raise activity_type_in_use(activity_type, (user for (user,) in users))

    def list_orchestration_definitions(self) -> list[OrchestrationDefinition]:
        return [_orchestration_definition(row) for row in self._database.rows(SQL["list_orchestration_definitions"])]

    def get_template(self, template_ref: str) -> list[OrchestrationDefinition]:
        rows = self._database.rows(SQL["list_of_template"], template_ref=template_ref)
        if not rows:
            raise NotFoundError("orchestration template", template_ref)
        return [_orchestration_definition(row) for row in rows]

    def put_template(self, template: OrchestrationTemplate) -> None:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            known = [_activity_definition(row) for row in tx.rows(SQL["list_activity_definitions"])]
            check_template(template, {definition.type: definition for definition in known})
            for definition in template.definitions():
                _replace(tx, definition)

    def delete_template(self, template_ref: str) -> None:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            if not tx.rows(SQL["retire_template"], template_ref=template_ref):
                raise NotFoundError("orchestration template", template_ref)
            if tx.value(SQL["is_template_busy"], template_ref=template_ref):
                raise template_in_use(template_ref)


def _replace(tx: Transaction, definition: OrchestrationDefinition) -> None:
    places = {activity.id: place for place, activity in enumerate(definition.activities)}
    parents = {activity.id: sorted({places[id_] for id_ in activity.depends_on}) for activity in definition.activities}
    nodes = [
        {"ord": places[activity.id], "id": activity.id, "type": activity.type, "n_deps": len(parents[activity.id])}
        for activity in definition.activities
    ]
    edges = [{"from_ord": parent, "to_ord": places[id_]} for id_, all_ in parents.items() for parent in all_]
    tx.rows(SQL["retire_definition"], type=definition.type)
    tx.rows(
        SQL["add_definition"],
        type=definition.type,
        template_ref=definition.template_ref,
        description=definition.description,
        schema=_json_or_none(definition.schema),
        activities=json.dumps([v1alpha1.activity_to_json(activity) for activity in definition.activities]),
        nodes=json.dumps(nodes),
        edges=json.dumps(edges),
    )


def _activity_definition(row: Row) -> ActivityDefinition:
    type_, description, input_schema, output_schema, timeout, max_attempts, backoff, backoff_limit = row
    return ActivityDefinition(
        type=type_,
        description=description,
        input_schema=input_schema or {},
        output_schema=output_schema or {},
        timeout=_duration(timeout),
        retry=RetryPolicy(
            max_attempts=max_attempts, backoff=_duration(backoff), backoff_limit=_duration(backoff_limit)
        ),
    )


def _orchestration_definition(row: Row) -> OrchestrationDefinition:
    type_, template_ref, description, schema, activities = row
    return OrchestrationDefinition(
        type=type_,
        template_ref=template_ref,
        description=description,
        schema=schema or {},
        activities=tuple(v1alpha1.activity_from_json(activity) for activity in activities),
    )


def _json_or_none(document: Mapping[str, Any]) -> str | None:
    return json.dumps(document) if document else None


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
