"""Participant profiles in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.tenancy.answers import JsonEntity, json_of
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfileOption
from cfm_core.tenancy.memory import Awaited, Fabric, page_of, violated
from cfm_core.tenancy.participant_profiles.manifests import manifest_event
from cfm_core.tenancy.participant_profiles.model import (
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    in_error,
    in_state,
    respond,
)
from cfm_core.tenancy.participant_profiles.service import Patience, Resent
from cfm_core.tenancy.participant_profiles.store import FIELDS
from cfm_core.tenancy.participant_profiles.v1alpha1 import shown, stored
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId


class MemoryParticipantProfiles:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def find(self, tenant_id: TenantId, profile_id: ParticipantProfileId) -> JsonEntity | None:
        with self._fabric.lock:
            profile = self._of(tenant_id, profile_id)
            return JsonEntity(profile.version, json_of(shown(profile))) if profile else None

    def select(self, predicate: Predicate, page: Page, tenant_id: TenantId | None = None) -> JsonPage:
        with self._fabric.lock:
            profiles = {
                key: profile
                for key, profile in self._fabric.participant_profiles.items()
                if tenant_id in (None, profile.tenant_id)
            }
        return page_of(profiles, predicate, FIELDS, page, stored, shown)

    def basis(self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str]) -> DeploymentBasis:
        with self._fabric.lock:
            return DeploymentBasis(
                tenant_id in self._fabric.tenants,
                self._fabric.cell_options(),
                tuple(
                    DataspaceProfileOption(
                        profile.id,
                        profile.credential_specs,
                        frozenset(deployment.cell_id for deployment in profile.deployments),
                    )
                    for _, profile in sorted(self._fabric.dataspace_profiles.items())
                    if not dataspace_profile_ids or profile.id in dataspace_profile_ids
                ),
            )

    def insert(self, profile: ParticipantProfile, manifest: OrchestrationManifest, due: timedelta) -> JsonEntity | None:
        fabric = self._fabric
        with fabric.lock:
            cell = fabric.cells.get(profile.vpas[0].cell_id)
            if (
                profile.tenant_id not in fabric.tenants
                or cell is None
                or cell.state != DeploymentState.ACTIVE
                or not fabric.dataspace_profiles.keys() >= set(profile.dataspace_profile_ids)
            ):
                return None
            if any(profile.identifier == one.identifier for one in fabric.deployed_participants()):
                raise violated("participant_profiles_identifier_key")
            fabric.participant_profiles[profile.id] = profile
            fabric.awaited[profile.id] = Awaited(manifest, 1, fabric.clock() + due)
            fabric.announce([manifest_event(manifest)])
            return JsonEntity(profile.version, json_of(shown(profile)))

    def dispose(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        manifest_for: Callable[[ParticipantProfile], OrchestrationManifest],
        due: timedelta,
    ) -> bool:
        fabric = self._fabric
        with fabric.lock:
            profile = self._of(tenant_id, profile_id)
            if profile is None:
                return False
            manifest = manifest_for(profile)
            now = fabric.clock()
            fabric.participant_profiles[profile_id] = replace(
                in_state(profile, DeploymentState.DISPOSING, now),
                manifest_id=manifest.id,
                sent_manifest_ids=(*profile.sent_manifest_ids, manifest.id),
            )
            fabric.awaited[profile_id] = Awaited(manifest, 1, now + due)
            fabric.announce([manifest_event(manifest)])
        return True

    def apply(self, responses: Sequence[Response]) -> list[Verdict]:
        with self._fabric.lock:
            return [self._apply(response) for response in responses]

    def resend(self, patience: Patience) -> Resent:
        fabric = self._fabric
        with fabric.lock:
            now = fabric.clock()
            overdue = sorted(
                (awaited.due_at, profile_id) for profile_id, awaited in fabric.awaited.items() if awaited.due_at <= now
            )
            events: list[EventDict] = []
            given_up: list[ParticipantProfileId] = []
            for _, profile_id in overdue[: patience.batch]:
                awaited = fabric.awaited[profile_id]
                if awaited.sends >= patience.sends:
                    self._give_up(profile_id, now)
                    given_up.append(profile_id)
                    continue
                awaited.due_at = now + min(patience.first * 2 ** min(awaited.sends, 10), patience.longest)
                awaited.sends += 1
                event = manifest_event(awaited.manifest)
                events.append(event | {"id": f"{awaited.manifest.id}/{awaited.sends}"})
            rows = [fabric.announce(events)] if events else []
        return Resent(rows, tuple(given_up))

    def _of(self, tenant_id: TenantId, profile_id: ParticipantProfileId) -> ParticipantProfile | None:
        profile = self._fabric.participant_profiles.get(profile_id)
        return profile if profile is not None and profile.tenant_id == tenant_id else None

    def _apply(self, response: Response) -> Verdict:
        profile_id = ParticipantProfileId(response.profile_id)
        profile = self._fabric.participant_profiles.get(profile_id)
        if profile is None:
            return Verdict.UNKNOWN
        verdict, after = respond(profile, response, self._fabric.clock())
        if verdict is Verdict.APPLIED:
            self._fabric.participant_profiles[profile_id] = after
            self._fabric.awaited.pop(profile_id, None)
        return verdict

    def _give_up(self, profile_id: ParticipantProfileId, now: datetime) -> None:
        awaited = self._fabric.awaited.pop(profile_id)
        profile = self._fabric.participant_profiles[profile_id]
        detail = f"no response to manifest {awaited.manifest.id}, which was sent {awaited.sends} times"
        failed = profile.deploy_failed or profile.state == DeploymentState.PENDING
        self._fabric.participant_profiles[profile_id] = in_error(replace(profile, deploy_failed=failed), detail, now)
