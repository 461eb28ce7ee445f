"""Participant profiles in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cfm_core import trace
from cfm_core.access.model import ALL, Bounds
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict
from cfm_core.entities import JsonEntity, json_of
from cfm_core.errors import RefusedError
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.constraints import BrokenRuleError
from cfm_core.store.memory import page_of
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfileOption
from cfm_core.tenancy.memory import Awaited, Fabric, violated
from cfm_core.tenancy.participant_profiles.bounds import belongs
from cfm_core.tenancy.participant_profiles.manifests import manifest_event
from cfm_core.tenancy.participant_profiles.model import (
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    given_up,
    in_state,
    respond,
    vpas_in,
)
from cfm_core.tenancy.participant_profiles.planning import Placement, select_dataspace_profiles
from cfm_core.tenancy.participant_profiles.selection import spread_by_load
from cfm_core.tenancy.participant_profiles.service import Decide, Patience, Resent
from cfm_core.tenancy.participant_profiles.store import FIELDS
from cfm_core.tenancy.participant_profiles.v1alpha1 import shown, stored
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId


class MemoryParticipantProfiles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def find(self, tenant_id: TenantId, profile_id: ParticipantProfileId, bounds: Bounds = ALL) -> JsonEntity | None:
        with self._fabric.lock:
            profile = self._of(tenant_id, profile_id, bounds)
            return _entity(profile) if profile else None

    def select(
        self, predicate: Predicate, page: Page, tenant_id: TenantId | None = None, bounds: Bounds = ALL
    ) -> JsonPage:
        with self._fabric.lock:
            profiles = {
                key: profile
                for key, profile in self._fabric.participant_profiles.items()
                if tenant_id in (None, profile.tenant_id) and belongs(profile, bounds)
            }
        return page_of(profiles, predicate, FIELDS, page, stored, shown)

    def basis(
        self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str], *, remembered: bool = False
    ) -> DeploymentBasis:
        with self._fabric.lock:
            return self._basis(tenant_id, dataspace_profile_ids)

    def insert(
        self,
        profile: ParticipantProfile,
        manifest: OrchestrationManifest,
        basis: DeploymentBasis,
        due: timedelta,
        *,
        remembered: bool = False,
    ) -> JsonEntity | None:
        fabric = self._fabric
        with fabric.lock:
            named = profile.dataspace_profile_ids if profile.names_dataspaces else ()
            now = self._basis(profile.tenant_id, named)
            # Nothing else holds the rules of the model here, so what has just been read is held against it as well.
            if not now.tenant_exists or _without_loads(now) != _without_loads(basis):
                return None
            vpas = vpas_in(profile.vpas, DeploymentState.PENDING, fabric.clock())
            return self._keep(replace(profile, vpas=vpas), manifest, due)

    def change(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        decide: Decide,
        due: timedelta,
        bounds: Bounds = ALL,
    ) -> JsonEntity | None:
        fabric = self._fabric
        with fabric.lock:
            profile = self._of(tenant_id, profile_id, bounds)
            if profile is None:
                return None
            change = decide(profile, functools.partial(self._basis, tenant_id))
            if change is None:
                return _entity(profile)
            if change.state is None:
                return self._keep(replace(change.profile, version=profile.version + 1), change.manifest, due)
            return self._keep(in_state(change.profile, change.state, fabric.clock()), change.manifest, due)

    def purge(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        check: Callable[[ParticipantProfile], None],
        bounds: Bounds = ALL,
    ) -> bool:
        with self._fabric.lock:
            profile = self._of(tenant_id, profile_id, bounds)
            if profile is None:
                return False
            check(profile)
            del self._fabric.participant_profiles[profile_id]
        return True

    def apply(self, responses: Sequence[Response], due: timedelta) -> list[Verdict]:
        with self._fabric.lock:
            return [self._apply(response, due) for response in responses]

    def resend(self, patience: Patience) -> Resent:
        fabric = self._fabric
        with fabric.lock:
            now = fabric.clock()
            overdue = sorted(
                (awaited.due_at, profile_id) for profile_id, awaited in fabric.awaited.items() if awaited.due_at <= now
            )
            events: list[EventDict] = []
            hopeless: list[ParticipantProfileId] = []
            for _, profile_id in overdue[: patience.batch]:
                awaited = fabric.awaited[profile_id]
                if awaited.sends >= patience.sends:
                    if self._give_up(profile_id, now):
                        hopeless.append(profile_id)
                    continue
                awaited.due_at = now + min(patience.first * 2 ** min(awaited.sends, 10), patience.longest)
                awaited.sends += 1
                event = manifest_event(awaited.manifest, awaited.belongs_to)
                events.append(event | {"id": f"{awaited.manifest.id}/{awaited.sends}"})
            rows = [fabric.announce(events)] if events else []
        return Resent(rows, tuple(hopeless))

    def _of(self, tenant_id: TenantId, profile_id: ParticipantProfileId, bounds: Bounds) -> ParticipantProfile | None:
        profile = self._fabric.participant_profiles.get(profile_id)
        is_there = profile is not None and profile.tenant_id == tenant_id and belongs(profile, bounds)
        return profile if is_there else None

    def _basis(self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str]) -> DeploymentBasis:
        fabric = self._fabric
        return DeploymentBasis(
            tenant_id in fabric.tenants,
            fabric.cell_options(),
            tuple(
                DataspaceProfileOption(
                    profile.id,
                    profile.credential_specs,
                    frozenset(deployment.cell_id for deployment in profile.deployments),
                    profile.artifacts,
                )
                for _, profile in sorted(fabric.dataspace_profiles.items())
                if not dataspace_profile_ids or profile.id in dataspace_profile_ids
            ),
        )

    def _keep(self, profile: ParticipantProfile, manifest: OrchestrationManifest | None, due: timedelta) -> JsonEntity:
        fabric = self._fabric
        if manifest is not None and profile.state == DeploymentState.PENDING:
            self._check(profile)
        if profile.state != DeploymentState.DISPOSED and any(
            profile.identifier == one.identifier and profile.id != one.id for one in fabric.deployed_participants()
        ):
            raise violated("participant_profiles_identifier_key")
        if manifest is not None:
            sent = (*profile.sent_manifest_ids, manifest.id)
            profile = replace(profile, manifest_id=manifest.id, sent_manifest_ids=sent)
            belongs_to = trace.headers()
            fabric.awaited[profile.id] = Awaited(manifest, belongs_to, 1, fabric.clock() + due)
            fabric.announce([manifest_event(manifest, belongs_to)])
        fabric.participant_profiles[profile.id] = profile
        return _entity(profile)

    def _check(self, profile: ParticipantProfile) -> None:
        """What the database's ``check_deployment`` does."""
        basis = self._basis(profile.tenant_id, profile.dataspace_profile_ids)
        try:
            selected = select_dataspace_profiles(
                basis.dataspace_profiles, profile.dataspace_profile_ids, profile.participant_roles
            )
            placement = Placement(basis.cells, selected, spread_by_load, needs_all=profile.names_dataspaces)
            for index, vpa in enumerate(profile.vpas):
                placement.named(vpa.cell_id, f"/vpas/{index}/cellId")
        except RefusedError as error:
            raise BrokenRuleError(str(error), error.errors) from None

    def _apply(self, response: Response, due: timedelta) -> Verdict:
        profile_id = ParticipantProfileId(response.profile_id)
        profile = self._fabric.participant_profiles.get(profile_id)
        if profile is None:
            return Verdict.UNKNOWN
        verdict, after = respond(profile, response, self._fabric.clock())
        if verdict is Verdict.APPLIED:
            self._fabric.participant_profiles[profile_id] = after
            awaited = self._fabric.awaited.pop(profile_id, None)
            if awaited is not None and after.state is DeploymentState.ERROR and profile.state is not after.state:
                # What has failed may be undone, or succeed after all; who asks again is told.
                self._fabric.awaited[profile_id] = replace(awaited, sends=1, due_at=self._fabric.clock() + due)
        return verdict

    def _give_up(self, profile_id: ParticipantProfileId, now: datetime) -> bool:
        """Whether it was still waiting for an end."""
        awaited = self._fabric.awaited.pop(profile_id)
        profile = self._fabric.participant_profiles[profile_id]
        if profile.state is DeploymentState.ERROR:
            return False
        self._fabric.participant_profiles[profile_id] = given_up(profile, awaited.sends, now)
        return True


def _entity(profile: ParticipantProfile) -> JsonEntity:
    return JsonEntity(profile.version, json_of(shown(profile)))


def _without_loads(basis: DeploymentBasis) -> DeploymentBasis:
    return replace(basis, cells=tuple(replace(cell, load=0) for cell in basis.cells))
