"""Participant profiles in Postgres."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

from cfm_core import trace
from cfm_core.access.model import ALL, Bounds
from cfm_core.contracts.orchestration import DEPLOY, VPA_STATE, OrchestrationManifest, compensation_id
from cfm_core.contracts.reply import OutboxRow
from cfm_core.contracts.subjects import MANIFESTS
from cfm_core.entities import JsonEntity
from cfm_core.query import Column, DeclaredPath, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import outbox, paging
from cfm_core.store.conditions import EVERYTHING, Condition, both
from cfm_core.store.database import Database, Row, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceProfileId, DataspaceProfileOption
from cfm_core.tenancy.ids import is_id
from cfm_core.tenancy.instants import read_instant
from cfm_core.tenancy.participant_profiles.manifests import EVENT_SOURCE, EVENT_TYPE, manifest_event
from cfm_core.tenancy.participant_profiles.model import (
    NEW,
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    VirtualParticipantAgent,
)
from cfm_core.tenancy.participant_profiles.service import Decide, Patience, Resent
from cfm_core.tenancy.participant_profiles.v1alpha1 import stored_vpa
from cfm_core.tenancy.query_indexes.model import IndexedEntity
from cfm_core.tenancy.query_indexes.ready import ReadyIndexes
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId

SQL = Queries("cfm_core.tenancy.participant_profiles")

FIELDS = Fields(
    {
        "id": Column("t.id", Kind.UUID),
        "version": Column("t.version", Kind.INTEGER),
        "identifier": Column("t.identifier"),
        "tenantId": Column("t.tenant_id", Kind.UUID),
        "dataspaceProfileIds": JsonArray("t.dataspace_profile_ids"),
        "participantRoles": Json("t.participant_roles"),
        "vpas": JsonArray("t.vpas"),
        "properties": Json("t.properties"),
        "error": Column("t.error", Kind.BOOLEAN),
        "errorDetail": Column("t.error_detail"),
    }
)

_REMEMBERED = 64
"""For so many choices of dataspace profiles it is remembered what deployments to them rest on."""

LISTING = Listing("tenant_manager.participant_profiles", "tenant_manager.participant_profile_json(t)", "(t).bytes")


class PostgresParticipantProfiles:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexes = ReadyIndexes(database, IndexedEntity.PARTICIPANT_PROFILES)
        self._bases: dict[tuple[str, ...], DeploymentBasis] = {}

    def find(self, tenant_id: TenantId, profile_id: ParticipantProfileId, bounds: Bounds = ALL) -> JsonEntity | None:
        within, bound = condition_of(bounds)
        sql = SQL["find"].replace("<<within>>", within)
        row = self._database.row(sql, id=profile_id, tenant_id=tenant_id, **bound)
        return JsonEntity(*row) if row else None

    def declared(self) -> Collection[DeclaredPath]:
        """The paths whose declared index is ready."""
        return self._indexes.paths()

    def select(
        self, predicate: Predicate, page: Page, tenant_id: TenantId | None = None, bounds: Bounds = ALL
    ) -> JsonPage:
        condition, params = both(condition_of(bounds), to_sql(predicate, FIELDS, self.declared()))
        if tenant_id is not None:
            condition, params = f"t.tenant_id = :tenant_id::uuid AND ({condition})", params | {"tenant_id": tenant_id}
        return paging.select(self._database, LISTING, page, condition, params)

    def basis(
        self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str], *, remembered: bool = False
    ) -> DeploymentBasis:
        key = tuple(dataspace_profile_ids)
        known = self._bases.get(key) if remembered else None
        if known is None:
            known = _basis(self._database, tenant_id, dataspace_profile_ids)
            if known.tenant_exists:
                if len(self._bases) >= _REMEMBERED:
                    self._bases.clear()
                self._bases[key] = known
        return known

    def insert(
        self,
        profile: ParticipantProfile,
        manifest: OrchestrationManifest,
        basis: DeploymentBasis,
        due: timedelta,
        *,
        remembered: bool = False,
    ) -> JsonEntity | None:
        belongs_to = trace.headers()
        event = manifest_event(manifest, belongs_to)
        text = json.dumps(event)
        lease = outbox.lease_for(text, hands_over=self._database.hands_over)
        row = self._database.row(
            SQL["insert"],
            **_params(profile),
            identifier=profile.identifier,
            tenant_id=profile.tenant_id,
            manifest_id=manifest.id,
            event=text,
            trace=trace.text_of(belongs_to),
            due=due,
            subject=MANIFESTS,
            lease=lease,
            basis_changes=basis.changes if remembered else None,
        )
        if row is None:
            return None
        version, shown, row_id = row
        self._database.announce(OutboxRow(row_id, MANIFESTS, [event]) if lease else None)
        return JsonEntity(version, shown)

    def change(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        decide: Decide,
        due: timedelta,
        bounds: Bounds = ALL,
    ) -> JsonEntity | None:
        with self._database.transaction() as transaction:
            row = _lock(transaction, tenant_id, profile_id, bounds)
            if row is None:
                return None
            before = _profile_from(tenant_id, profile_id, row)
            change = decide(before, functools.partial(_basis, transaction, tenant_id))
            if change is None:
                sql = SQL["find"].replace("<<within>>", "true")
                ((version, text),) = transaction.rows(sql, id=profile_id, tenant_id=tenant_id)
                return JsonEntity(version, text)
            manifest, belongs_to = change.manifest, trace.headers()
            ((version, text),) = transaction.rows(
                SQL["change"],
                **_params(change.profile),
                failed_manifest_id=change.profile.failed_manifest_id,
                state=change.state,
                manifest_id=manifest.id if manifest else None,
                manifest=json.dumps(manifest.to_json()) if manifest else None,
                trace=trace.text_of(belongs_to),
                due=due,
            )
            if manifest is not None:
                outbox.put(transaction, MANIFESTS, [manifest_event(manifest, belongs_to)])
        return JsonEntity(version, text)

    def purge(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        check: Callable[[ParticipantProfile], None],
        bounds: Bounds = ALL,
    ) -> bool:
        with self._database.transaction() as transaction:
            row = _lock(transaction, tenant_id, profile_id, bounds)
            if row is None:
                return False
            check(_profile_from(tenant_id, profile_id, row))
            transaction.rows(SQL["purge"], id=profile_id)
        return True

    def apply(self, responses: Sequence[Response], due: timedelta) -> list[Verdict]:
        documents = [
            {
                "n": number,
                "profile_id": response.profile_id,
                "manifest_id": response.manifest_id,
                "deploys": response.orchestration_type == DEPLOY,
                "success": response.success,
                "detail": response.error_detail,
                "properties": response.properties,
                "retried": response.retries > 0,
            }
            for number, response in enumerate(responses)
        ]
        rows = self._database.rows(
            SQL["apply"],
            responses=json.dumps(documents),
            vpa_state=VPA_STATE,
            compensation_suffix=compensation_id(""),
            due=due,
        )
        verdicts = {number: Verdict(verdict) for number, verdict in rows}
        return [verdicts[number] for number in range(len(responses))]

    def resend(self, patience: Patience) -> Resent:
        ((given_up, row_id, events),) = self._database.rows(
            SQL["resend"],
            batch=patience.batch,
            sends=patience.sends,
            first=patience.first,
            longest=patience.longest,
            lease=outbox.LEASE,
            subject=MANIFESTS,
            source=EVENT_SOURCE,
            type=EVENT_TYPE,
        )
        rows = [] if row_id is None else [OutboxRow(row_id, MANIFESTS, json.loads(events))]
        return Resent(rows, tuple(map(ParticipantProfileId, given_up)))


def condition_of(bounds: Bounds) -> Condition:
    """The condition that a participant profile ``t`` belongs to ``bounds``; see ``bounds.belongs``."""
    if bounds.unlimited:
        return EVERYTHING
    parts, params = list[str](), dict[str, Any]()
    if tenants := bounds.tenants():
        parts.append("t.tenant_id = ANY (:within_tenants::uuid[])")
        params["within_tenants"] = tenants
    if profiles := bounds.participant_profiles():
        parts.append("t.id = ANY (:within_profiles::uuid[])")
        params["within_profiles"] = profiles
    if others := bounds.others():
        each = SQL["each_vpa_within"]
        params |= {
            "within_tenant": [one.tenant_id for one in others],
            "within_profile": [one.participant_profile_id for one in others],
            "within_vpa": [one.vpa_id for one in others],
            "within_cell": [one.cell_id for one in others],
        }
        named = [{name: key for name, key in (("id", one.vpa_id), ("cellId", one.cell_id)) if key} for one in others]
        if all(named):
            each = f"{SQL['some_vpa_within']} AND {each}"
            params["within_vpas"] = json.dumps(named)
        parts.append(each)
    return f"({' OR '.join(parts) or 'false'})", params


def _lock(
    transaction: Transaction, tenant_id: TenantId, profile_id: ParticipantProfileId, bounds: Bounds
) -> Row | None:
    """The row of a profile of a tenant, if it is within ``bounds``; nobody else can change it until the transaction ends."""
    within, bound = condition_of(bounds)
    return transaction.row(SQL["lock"].replace("<<within>>", within), id=profile_id, tenant_id=tenant_id, **bound)


def _basis(
    database: Database | Transaction, tenant_id: TenantId, dataspace_profile_ids: Sequence[str]
) -> DeploymentBasis:
    ((tenant_exists, cells, profiles, changes),) = database.rows(
        SQL["basis"],
        tenant_id=tenant_id,
        all=not dataspace_profile_ids,
        ids=json.dumps([name for name in dataspace_profile_ids if is_id(name)]),
    )
    return DeploymentBasis(
        tenant_exists,
        tuple(
            CellOption(id_, external_id, DeploymentState(state), load)
            for id_, external_id, state, load in json.loads(cells)
        ),
        tuple(
            DataspaceProfileOption(
                DataspaceProfileId(profile["id"]),
                tuple(CredentialSpec(**spec) for spec in profile["credentialSpecs"] or ()),
                frozenset(map(CellId, profile["cellIds"])),
                tuple(profile["artifacts"]),
            )
            for profile in json.loads(profiles)
        ),
        changes,
    )


def _params(profile: ParticipantProfile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "dataspace_profile_ids": json.dumps(profile.dataspace_profile_ids),
        "names_dataspaces": profile.names_dataspaces,
        "participant_roles": json.dumps(profile.participant_roles),
        "vpas": json.dumps([_kept(vpa) for vpa in profile.vpas]),
        "properties": json.dumps(profile.properties),
    }


def _kept(vpa: VirtualParticipantAgent) -> dict[str, Any]:
    """``vpa`` for the database, which adds state, time and version to one that is new."""
    document = stored_vpa(vpa)
    if vpa.version == NEW:
        for name in ("version", "state", "stateTimestamp"):
            del document[name]
    return document


def _profile_from(tenant_id: TenantId, profile_id: ParticipantProfileId, row: Row) -> ParticipantProfile:
    version, identifier, dataspaces, names, roles, vpas, properties, state, live, failed, error, detail, last, sent = (
        row
    )
    return ParticipantProfile(
        id=profile_id,
        identifier=identifier,
        tenant_id=tenant_id,
        dataspace_profile_ids=tuple(map(DataspaceProfileId, json.loads(dataspaces))),
        names_dataspaces=names,
        participant_roles=json.loads(roles),
        vpas=tuple(
            VirtualParticipantAgent(
                id=vpa["id"],
                type=vpa["type"],
                cell_id=CellId(vpa["cellId"]),
                external_cell_id=vpa["externalCellId"],
                properties=vpa.get("properties", {}),
                state=DeploymentState(vpa["state"]),
                state_at=read_instant(vpa["stateTimestamp"]),
                version=vpa["version"],
            )
            for vpa in json.loads(vpas)
        ),
        properties=json.loads(properties),
        manifest_id=last,
        sent_manifest_ids=tuple(sent),
        state=DeploymentState(state),
        live=live,
        failed_manifest_id=failed,
        error=error,
        error_detail=detail,
        version=version,
    )
