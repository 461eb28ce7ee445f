"""Definitions in Postgres."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from cfm_core.entities import JsonEntity, json_of
from cfm_core.errors import NotFoundError
from cfm_core.provisioning.definitions import v1alpha1
from cfm_core.provisioning.definitions.fields import ACTIVITY_DEFINITION, ORCHESTRATION_DEFINITION
from cfm_core.provisioning.definitions.model import (
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    check_activity_definition,
    check_template,
)
from cfm_core.provisioning.definitions.service import activity_type_in_use, template_in_use
from cfm_core.provisioning.keys import check_after, check_known
from cfm_core.query import JsonPage, Page, Predicate, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database, Row, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.versions import ANY, Expected

SQL = Queries("cfm_core.provisioning.definitions")

_DOCUMENT = ("(t).document::text", "octet_length((t).document::text)")
ACTIVITY_DEFINITIONS = Listing("provision_manager.activity_definition", *_DOCUMENT, key="type", key_type="text")
ORCHESTRATION_DEFINITIONS = Listing(
    "provision_manager.definition", *_DOCUMENT, key="type", key_type="text", only="t.is_current"
)


class PostgresDefinitions:
    """See ``Definitions``. Changes happen one at a time, so that what a check has found still holds when it counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def select_activity_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        condition, params = to_sql(predicate, ACTIVITY_DEFINITION)
        return paging.select(self._database, ACTIVITY_DEFINITIONS, page, condition, params)

    def get_activity_definition(self, activity_type: str) -> JsonEntity:
        check_known("activity definition", activity_type)
        row = self._database.row(SQL["find_activity_definition"], type=activity_type)
        if row is None:
            raise NotFoundError("activity definition", activity_type)
        return JsonEntity(*row)

    def put_activity_definition(
        self, definition: ActivityDefinition, expected: Expected = ANY
    ) -> tuple[bool, JsonEntity]:
        check_activity_definition(definition)
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = tx.row(SQL["find_activity_definition"], type=definition.type)
            expected.check(f"activity definition {definition.type}", before[0] if before else None)
            (row,) = tx.rows(
                SQL["put_activity_definition"],
                type=definition.type,
                document=json_of(v1alpha1.activity_definition_to_json(definition)),
                timeout=_seconds(definition.timeout),
                max_attempts=definition.retry.max_attempts,
                backoff=_seconds(definition.retry.backoff),
                backoff_limit=_seconds(definition.retry.backoff_limit),
                max_in_flight=definition.limits.concurrency,
                max_per_tenant=definition.limits.concurrency_per_tenant,
                max_failures=definition.limits.consecutive_failures,
            )
            if (definition.limits.concurrency, definition.limits.concurrency_per_tenant) != (None, None):
                tx.rows(SQL["count_in_flight"], type=definition.type)
        return before is None, JsonEntity(*row)

    def delete_activity_definition(self, activity_type: str, expected: Expected = ANY) -> None:
        check_known("activity definition", activity_type)
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = tx.row(SQL["find_activity_definition"], type=activity_type)
            if before is None:
                raise NotFoundError("activity definition", activity_type)
            expected.check(f"activity definition {activity_type}", before[0])
            if users := tx.rows(SQL["list_users"], type=activity_type):
                raise activity_type_in_use(activity_type, (user for (user,) in users))
            tx.rows(SQL["delete_activity_definition"], type=activity_type)

    def select_orchestration_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        condition, params = to_sql(predicate, ORCHESTRATION_DEFINITION)
        return paging.select(self._database, ORCHESTRATION_DEFINITIONS, page, condition, params)

    def get_template(self, template_ref: str) -> JsonEntity:
        check_known("orchestration template", template_ref)
        found = _template_of(self._database.rows(SQL["find_template"], template_ref=template_ref))
        if found is None:
            raise NotFoundError("orchestration template", template_ref)
        return found

    def add_template(self, template: OrchestrationTemplate) -> None:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            _put(tx, template)

    def put_template(self, template: OrchestrationTemplate, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = _template_of(tx.rows(SQL["find_template"], template_ref=template.id))
            expected.check(f"orchestration template {template.id}", before.version if before else None)
            _put(tx, template)
            _retire(tx, template.id, kept=list(template.activities))
            after = _template_of(tx.rows(SQL["find_template"], template_ref=template.id))
        assert after is not None
        return before is None, after

    def delete_template(self, template_ref: str, expected: Expected = ANY) -> None:
        check_known("orchestration template", template_ref)
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = _template_of(tx.rows(SQL["find_template"], template_ref=template_ref))
            if before is None:
                raise NotFoundError("orchestration template", template_ref)
            expected.check(f"orchestration template {template_ref}", before.version)
            _retire(tx, template_ref, kept=[])


def _template_of(rows: Sequence[Row]) -> JsonEntity | None:
    ((version, text),) = rows
    return None if text is None else JsonEntity(version, text)


def _put(tx: Transaction, template: OrchestrationTemplate) -> None:
    documents = [document for (document,) in tx.rows(SQL["activity_definitions"])]
    known = [v1alpha1.ActivityDefinitionDocument.model_validate(document).to_model() for document in documents]
    check_template(template, {definition.type: definition for definition in known})
    for definition in template.definitions():
        _replace(tx, definition)


def _retire(tx: Transaction, template_ref: str, kept: list[str]) -> None:
    if tx.rows(SQL["retire_template"], template_ref=template_ref, kept=kept) and (
        runs := tx.rows(SQL["list_runs"], template_ref=template_ref)
    ):
        raise template_in_use(template_ref, (run for (run,) in runs))


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
        document=json_of(v1alpha1.orchestration_definition_to_json(definition)),
        nodes=json.dumps(nodes),
        edges=json.dumps(edges),
    )


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
