"""Participant profiles in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta

from cfm_core.contracts.orchestration import DEPLOY, VPA_STATE, OrchestrationManifest, compensation_id
from cfm_core.contracts.reply import OutboxRow
from cfm_core.contracts.subjects import MANIFESTS
from cfm_core.query import Column, Fields, Json, JsonArray, JsonPage, Kind, Page, Predicate, to_sql
from cfm_core.store import outbox, paging
from cfm_core.store.database import Database, Row
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.tenancy.answers import JsonEntity
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceProfileId, DataspaceProfileOption
from cfm_core.tenancy.ids import is_id
from cfm_core.tenancy.instants import read_instant
from cfm_core.tenancy.participant_profiles.manifests import EVENT_SOURCE, EVENT_TYPE, manifest_event
from cfm_core.tenancy.participant_profiles.model import (
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    VirtualParticipantAgent,
)
from cfm_core.tenancy.participant_profiles.service import Patience, Resent
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

LISTING = Listing("tenant_manager.participant_profiles", "tenant_manager.participant_profile_json(t)", "(t).bytes")


class PostgresParticipantProfiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, tenant_id: TenantId, profile_id: ParticipantProfileId) -> JsonEntity | None:
        row = self._database.row(SQL["find"], id=profile_id, tenant_id=tenant_id)
        return JsonEntity(*row) if row else None

    def select(self, predicate: Predicate, page: Page, tenant_id: TenantId | None = None) -> JsonPage:
        condition, params = to_sql(predicate, FIELDS)
        if tenant_id is not None:
            condition, params = f"t.tenant_id = :tenant_id::uuid AND ({condition})", params | {"tenant_id": tenant_id}
        return paging.select(self._database, LISTING, page, condition, params)

    def basis(self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str]) -> DeploymentBasis:
        ((tenant_exists, cells, profiles),) = self._database.rows(
            SQL["basis"],
            tenant_id=tenant_id,
            all=not dataspace_profile_ids,
            ids=[name for name in dataspace_profile_ids if is_id(name)],
        )
        return DeploymentBasis(
            tenant_exists,
            tuple(
                CellOption(id_, external_id, DeploymentState(state)) for id_, external_id, state in json.loads(cells)
            ),
            tuple(
                DataspaceProfileOption(
                    DataspaceProfileId(profile["id"]),
                    tuple(CredentialSpec(**spec) for spec in profile["credentialSpecs"] or ()),
                    frozenset(map(CellId, profile["cellIds"])),
                )
                for profile in json.loads(profiles)
            ),
        )

    def insert(self, profile: ParticipantProfile, manifest: OrchestrationManifest, due: timedelta) -> JsonEntity | None:
        vpas = [
            {"id": vpa.id, "type": vpa.type, "cellId": vpa.cell_id, "externalCellId": vpa.external_cell_id}
            | ({"properties": vpa.properties} if vpa.properties else {})
            for vpa in profile.vpas
        ]
        row = self._database.row(
            SQL["insert"],
            id=profile.id,
            identifier=profile.identifier,
            tenant_id=profile.tenant_id,
            cell_id=profile.vpas[0].cell_id,
            dataspace_profile_ids=list(profile.dataspace_profile_ids),
            participant_roles=json.dumps(profile.participant_roles),
            vpas=json.dumps(vpas),
            properties=json.dumps(profile.properties),
            manifest_id=manifest.id,
            event=json.dumps(manifest_event(manifest)),
            due=due,
            subject=MANIFESTS,
        )
        if row is None:
            return None
        self._database.announce()
        return JsonEntity(*row)

    def dispose(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        manifest_for: Callable[[ParticipantProfile], OrchestrationManifest],
        due: timedelta,
    ) -> bool:
        with self._database.transaction() as transaction:
            row = transaction.row(SQL["lock"], id=profile_id, tenant_id=tenant_id)
            if row is None:
                return False
            manifest = manifest_for(_profile_from(tenant_id, profile_id, row))
            transaction.rows(
                SQL["dispose"],
                id=profile_id,
                manifest_id=manifest.id,
                manifest=json.dumps(manifest.to_json()),
                due=due,
            )
            outbox.put(transaction, MANIFESTS, [manifest_event(manifest)])
        return True

    def apply(self, responses: Sequence[Response]) -> list[Verdict]:
        documents = [
            {
                "n": number,
                "profile_id": response.profile_id,
                "manifest_id": response.manifest_id,
                "deploys": response.orchestration_type == DEPLOY,
                "success": response.success,
                "detail": response.error_detail,
                "properties": response.properties,
            }
            for number, response in enumerate(responses)
        ]
        rows = self._database.rows(
            SQL["apply"],
            responses=json.dumps(documents),
            vpa_state=VPA_STATE,
            compensation_suffix=compensation_id(""),
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


def _profile_from(tenant_id: TenantId, profile_id: ParticipantProfileId, row: Row) -> ParticipantProfile:
    version, identifier, dataspaces, roles, vpas, properties, state, deploy_failed, error, detail, manifest_id, sent = (
        row
    )
    return ParticipantProfile(
        id=profile_id,
        identifier=identifier,
        tenant_id=tenant_id,
        dataspace_profile_ids=tuple(map(DataspaceProfileId, json.loads(dataspaces))),
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
        manifest_id=manifest_id,
        sent_manifest_ids=tuple(sent),
        state=DeploymentState(state),
        deploy_failed=deploy_failed,
        error=error,
        error_detail=detail,
        version=version,
    )
