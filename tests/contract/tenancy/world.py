"""The Tenant Manager's use cases over one store, and what a test has to know beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cfm_core.access.model import Access, Right
from cfm_core.access.service import RightStore
from cfm_core.access.store import PostgresRights
from cfm_core.audit.memory import MemoryAudit
from cfm_core.audit.service import Audit
from cfm_core.audit.store import PostgresAudit
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, OrchestrationResponse
from cfm_core.query import Page
from cfm_core.store.database import Database
from cfm_core.tenancy.cells.memory import MemoryCells
from cfm_core.tenancy.cells.service import Cells
from cfm_core.tenancy.cells.store import PostgresCells
from cfm_core.tenancy.cells.v1alpha1 import NewCell
from cfm_core.tenancy.dataspace_profiles.memory import MemoryDataspaceProfiles
from cfm_core.tenancy.dataspace_profiles.service import DataspaceProfiles
from cfm_core.tenancy.dataspace_profiles.store import PostgresDataspaceProfiles
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from cfm_core.tenancy.feed.service import Feed
from cfm_core.tenancy.feed.store import PostgresFeed
from cfm_core.tenancy.memory import Fabric
from cfm_core.tenancy.participant_profiles.memory import MemoryParticipantProfiles
from cfm_core.tenancy.participant_profiles.model import Verdict
from cfm_core.tenancy.participant_profiles.selection import CellSelection
from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles, ParticipantProfileStore, Patience
from cfm_core.tenancy.participant_profiles.store import PostgresParticipantProfiles
from cfm_core.tenancy.participant_profiles.v1alpha1 import (
    NewParticipantProfileDeployment,
    ParticipantProfileDiff,
)
from cfm_core.tenancy.query_indexes.memory import MemoryQueryIndexes
from cfm_core.tenancy.query_indexes.service import QueryIndexes
from cfm_core.tenancy.query_indexes.store import PostgresQueryIndexes
from cfm_core.tenancy.roles.memory import MemoryRoles
from cfm_core.tenancy.roles.service import Roles
from cfm_core.tenancy.roles.store import PostgresRoles
from cfm_core.tenancy.roles.v1alpha1 import NewRole
from cfm_core.tenancy.tenants.memory import MemoryTenants
from cfm_core.tenancy.tenants.service import Tenants
from cfm_core.tenancy.tenants.store import PostgresTenants
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant
from cfm_core.tenancy.users.memory import MemoryUsers
from cfm_core.tenancy.users.memory_rights import MemoryRights
from cfm_core.tenancy.users.service import Users
from cfm_core.tenancy.users.store import PostgresUsers
from cfm_core.tenancy.users.v1alpha1 import NewUser
from tests.support.feed import settle

ALL = Page()
ABSENT = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class World:
    tenants: Tenants
    cells: Cells
    dataspace_profiles: DataspaceProfiles
    participant_profiles: ParticipantProfiles
    participant_profile_store: ParticipantProfileStore
    query_indexes: QueryIndexes
    roles: Roles
    users: Users
    feed: Feed
    rights: RightStore
    audit: Audit
    settle: Callable[[], None]
    """Waits until readers of the feed get all that has happened."""
    sent: Callable[[], list[dict[str, Any]]]
    """The events in the outbox, in the order of their rows."""

    def seen_by(self, *rights: Right) -> World:
        """The same world for somebody who has these rights."""
        access = Access(rights)
        return replace(
            self,
            tenants=self.tenants.within(access),
            cells=self.cells.within(access),
            dataspace_profiles=self.dataspace_profiles.within(access),
            participant_profiles=self.participant_profiles.within(access),
            roles=self.roles.within(access),
            users=self.users.within(access),
            feed=self.feed.within(access),
        )

    def patient(self, patience: Patience) -> ParticipantProfiles:
        """The use cases with another patience."""
        return ParticipantProfiles(self.participant_profile_store, patience)

    def selecting(self, selection: CellSelection) -> ParticipantProfiles:
        """The use cases with another selection of cells."""
        return ParticipantProfiles(self.participant_profile_store, selection=selection)

    def manifests(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.sent()]

    def tenant(self, **properties: Any) -> str:
        return self.tenants.create(NewTenant(properties=properties))[0]

    def events(self, subject: str = "") -> list[dict[str, Any]]:
        """Every event so far, read in small batches."""
        self.settle()
        found: list[dict[str, Any]] = []
        last = ""
        while True:
            batch = self.feed.read(last, subject, 7)
            if not (events := json.loads(batch.text)):
                return found
            assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
            assert not last or last < events[0]["sequence"]
            assert batch.last == events[-1]["sequence"]
            found += events
            last = batch.last

    def role(self, name: str, **fields: Any) -> str:
        return self.roles.create(NewRole.model_validate({"name": name} | fields))[0]

    def user(self, subject: str, **fields: Any) -> str:
        return self.users.create(NewUser.model_validate({"subject": subject} | fields))[0]

    def cell(self, state: str = "active", external_id: str = "") -> str:
        return self.cells.create(NewCell.model_validate({"state": state, "externalId": external_id}))[0]

    def dataspace(
        self, *cells: str, credentials: list[dict[str, str]] | None = None, artifacts: list[str] | None = None
    ) -> str:
        document = {
            "dataspaceSpec": {"protocolStack": ["dsp"], "credentialSpecs": credentials or []},
            "artifacts": artifacts or [],
        }
        profile_id, _ = self.dataspace_profiles.create(NewDataspaceProfile.model_validate(document))
        for cell in cells:
            self.dataspace_profiles.deploy(profile_id, NewDataspaceProfileDeployment(cell_id=cell))
        return profile_id

    def deploy(self, tenant: str, identifier: str = "did:web:foo", **fields: Any) -> dict[str, Any]:
        document = {"identifier": identifier} | fields
        _, answer = self.participant_profiles.deploy(tenant, NewParticipantProfileDeployment.model_validate(document))
        return dict(json.loads(answer.text))

    def deploy_again(self, tenant: str, profile: str, **fields: Any) -> dict[str, Any]:
        diff = ParticipantProfileDiff.model_validate(fields)
        _, answer = self.participant_profiles.deploy_again(tenant, profile, diff)
        return dict(json.loads(answer.text))

    def change(self, tenant: str, profile: str, **fields: Any) -> dict[str, Any]:
        """The answer names an orchestration where one has been started."""
        diff = ParticipantProfileDiff.model_validate(fields)
        _, answer = self.participant_profiles.change(tenant, profile, diff)
        return dict(json.loads(answer.text))

    def live_participant(self, **fields: Any) -> tuple[str, str]:
        """An active participant profile whose deployment has left ``context``: the ids of its tenant and itself."""
        tenant = self.tenant()
        profile = self.deploy(tenant, **fields)
        self.respond(deployed(profile["id"], profile["orchestrationId"], context="pc-1"))
        return tenant, profile["id"]

    def dispose(self, tenant: str, profile: str) -> None:
        """Dispose a participant profile, with success."""
        manifest, _ = self.participant_profiles.dispose(tenant, profile)
        self.respond(disposed(profile, manifest))

    def participant(self) -> tuple[str, str, str]:
        """A pending participant profile: the ids of its tenant, itself and its deploy manifest."""
        tenant = self.tenant()
        self.dataspace(self.cell())
        profile = self.deploy(tenant)
        return tenant, profile["id"], profile["orchestrationId"]

    def profile(self, tenant: str, profile: str) -> dict[str, Any]:
        return dict(json.loads(self.participant_profiles.get(tenant, profile).text))

    def state(self, tenant: str, profile: str) -> str:
        """The state that all VPAs have."""
        (state,) = {vpa["state"] for vpa in self.profile(tenant, profile)["vpas"]}
        return str(state)

    def respond(self, *responses: OrchestrationResponse) -> list[Verdict]:
        return self.participant_profiles.apply(responses)


def deployed(profile: str, manifest: str, **outputs: Any) -> OrchestrationResponse:
    return _response(profile, manifest, DEPLOY, True, "", outputs)


def deploy_failed(profile: str, manifest: str, detail: str = "no space") -> OrchestrationResponse:
    return _response(profile, manifest, DEPLOY, False, detail, {})


def disposed(profile: str, manifest: str) -> OrchestrationResponse:
    return _response(profile, manifest, DISPOSE, True, "", {})


def dispose_failed(profile: str, manifest: str, detail: str = "stuck") -> OrchestrationResponse:
    return _response(profile, manifest, DISPOSE, False, detail, {})


def _response(
    profile: str, manifest: str, kind: str, success: bool, detail: str, outputs: dict[str, Any]
) -> OrchestrationResponse:
    return OrchestrationResponse(
        id=f"response to {manifest}",
        manifest_id=manifest,
        correlation_id=profile,
        orchestration_type=kind,
        success=success,
        error_detail=detail,
        properties=outputs,
    )


def in_memory(trail: MemoryAudit | None = None) -> World:
    fabric = Fabric(audit=trail or MemoryAudit())
    store = MemoryParticipantProfiles(fabric)
    return World(
        Tenants(MemoryTenants(fabric)),
        Cells(MemoryCells(fabric)),
        DataspaceProfiles(MemoryDataspaceProfiles(fabric)),
        ParticipantProfiles(store),
        store,
        QueryIndexes(MemoryQueryIndexes(fabric)),
        Roles(MemoryRoles(fabric)),
        Users(MemoryUsers(fabric)),
        Feed(fabric.feed),
        MemoryRights(fabric),
        Audit(fabric.audit),
        lambda: None,
        lambda: [event for row in fabric.outbox for event in row.events],
    )


def in_postgres(database: Database) -> World:
    def sent() -> list[dict[str, Any]]:
        rows = database.rows("SELECT events::text FROM eventing.outbox ORDER BY id")
        return [event for (events,) in rows for event in json.loads(events)]

    store = PostgresParticipantProfiles(database)
    return World(
        Tenants(PostgresTenants(database)),
        Cells(PostgresCells(database)),
        DataspaceProfiles(PostgresDataspaceProfiles(database)),
        ParticipantProfiles(store),
        store,
        QueryIndexes(PostgresQueryIndexes(database)),
        Roles(PostgresRoles(database)),
        Users(PostgresUsers(database)),
        Feed(PostgresFeed(database)),
        PostgresRights(database),
        Audit(PostgresAudit(database)),
        lambda: settle(database),
        sent,
    )


EAGER = Patience(first=timedelta(0), longest=timedelta(0), sends=3)
"""Every response is overdue at once; after three sends it is given up."""
