"""What can be done with participant profiles."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from cfm_core.clock import Clock, system_clock
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, OrchestrationManifest, OrchestrationResponse
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import NotFoundError, RecoverableError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.answers import JsonEntity
from cfm_core.tenancy.ids import check_key, is_id
from cfm_core.tenancy.participant_profiles.manifests import deploy_manifest, dispose_manifest
from cfm_core.tenancy.participant_profiles.model import (
    VPA_TYPES,
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    VirtualParticipantAgent,
    check_disposable,
    choose_cell,
    needed_credentials,
    select_dataspace_profiles,
)
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId
from cfm_core.tenancy.texts import storable

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id that is never given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a response is waited for. Each wait is twice as long as the one before, up to ``longest``.

    The defaults give up after two days, which is also how long an orchestration may wait for somebody.
    """

    first: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(hours=1)
    sends: int = 54
    """After so many sends without a response the profile is in error."""
    batch: int = 100


@dataclass(frozen=True, slots=True)
class Resent:
    """What a look at the overdue responses has done: manifests sent again, profiles given up."""

    rows: list[OutboxRow] = field(default_factory=list)
    given_up: tuple[ParticipantProfileId, ...] = ()


class ParticipantProfileStore(Protocol):
    """Keeps participant profiles, and gives them as the API shows them."""

    def find(self, tenant_id: TenantId, profile_id: ParticipantProfileId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page, tenant_id: TenantId | None = None) -> JsonPage:
        """Those of all tenants, or of one.

        Raises:
            ValidationError: participant profiles have no field that the predicate names.
        """
        ...

    def basis(self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str]) -> DeploymentBasis:
        """What a deployment to these dataspace profiles, or to all where none is named, rests on."""
        ...

    def insert(self, profile: ParticipantProfile, manifest: OrchestrationManifest, due: timedelta) -> JsonEntity | None:
        """Keep a new profile and announce its manifest, both or nothing; None where something that it rests on has gone.

        Raises:
            ConflictError: another profile that is not disposed has the same identifier.
        """
        ...

    def dispose(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        manifest_for: Callable[[ParticipantProfile], OrchestrationManifest],
        due: timedelta,
    ) -> bool:
        """Begin to dispose a profile and announce the manifest, both or nothing. False where there is no such profile.

        ``manifest_for`` is asked while nobody else can change the profile; what it raises ends the matter.
        """
        ...

    def apply(self, responses: Sequence[Response]) -> list[Verdict]:
        """Bring profiles up to date; at most one response for each. See ``model.respond``."""
        ...

    def resend(self, patience: Patience) -> Resent:
        """Send the manifests of overdue responses again, and give up those sent too often."""
        ...


class ParticipantProfiles:
    """The use cases of participant profiles. An id that is none is unknown like any other."""

    def __init__(
        self, store: ParticipantProfileStore, patience: Patience | None = None, clock: Clock = system_clock
    ) -> None:
        self._store = store
        self._patience = patience or Patience()
        self._clock = clock

    def get(self, tenant_id: str, profile_id: str) -> JsonEntity:
        """Raises NotFoundError: the tenant has no such profile; that of another tenant counts as none."""
        found = None
        if is_id(tenant_id) and is_id(profile_id):
            found = self._store.find(TenantId(tenant_id), ParticipantProfileId(profile_id))
        if found is None:
            raise NotFoundError("participant profile", profile_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those of all tenants that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_key(page)
        return self._store.select(parse(predicate), page)

    def select_of(self, tenant_id: str, predicate: str, page: Page) -> JsonPage:
        """Like ``select``, of one tenant; none for an unknown tenant."""
        check_key(page)
        # An id that is none is compared like any other: no profile has it.
        return self._store.select(parse(predicate), page, TenantId(tenant_id if is_id(tenant_id) else _NOBODY))

    def deploy(self, tenant_id: str, new: NewParticipantProfileDeployment) -> tuple[str, JsonEntity]:
        """Keep a new profile with its VPAs pending, and ask for their deployment.

        Returns:
            The id of the orchestration to follow, and the profile, which names it as well.

        Raises:
            NotFoundError: there is no such tenant.
            RefusedError: the dataspace profiles or the cell do not allow it.
            ConflictError: another profile that is not disposed has the same identifier.
        """
        roles = {key: roles or [] for key, roles in new.participant_roles.items()}
        named = tuple(dict.fromkeys(new.dataspace_profile_ids))
        for _ in range(_ATTEMPTS):
            basis = self._store.basis(TenantId(tenant_id), named) if is_id(tenant_id) else None
            if basis is None or not basis.tenant_exists:
                raise NotFoundError("tenant", tenant_id)
            selected = select_dataspace_profiles(basis.dataspace_profiles, named, roles)
            cell = choose_cell(basis.cells, selected, new.cell_id, needs_all=bool(named))
            manifest_id = str(uuid.uuid4())
            now = self._clock()
            profile = ParticipantProfile(
                id=ParticipantProfileId(str(uuid.uuid4())),
                identifier=new.identifier,
                tenant_id=TenantId(tenant_id),
                dataspace_profile_ids=tuple(option.id for option in selected),
                participant_roles=roles,
                vpas=tuple(
                    VirtualParticipantAgent(
                        id=str(uuid.uuid4()),
                        type=vpa_type,
                        cell_id=cell.id,
                        external_cell_id=cell.external_id,
                        properties=new.vpa_properties.get(vpa_type) or {},
                        state=DeploymentState.PENDING,
                        state_at=now,
                    )
                    for vpa_type in VPA_TYPES
                ),
                properties=new.properties,
                manifest_id=manifest_id,
                sent_manifest_ids=(manifest_id,),
            )
            manifest = deploy_manifest(profile, needed_credentials(selected, roles))
            if (kept := self._store.insert(profile, manifest, self._patience.first)) is not None:
                return manifest_id, replace(kept, text=f'{kept.text[:-1]},"orchestrationId":"{manifest_id}"}}')
        raise RecoverableError("the cells or dataspace profiles are changing just now")

    def dispose(self, tenant_id: str, profile_id: str) -> str:
        """Ask for the disposal of the profile's VPAs; gives the id of the orchestration to follow.

        Raises:
            NotFoundError: the tenant has no such profile; that of another tenant counts as none.
            ConflictError: it is neither active nor in error.
        """
        manifest_id = str(uuid.uuid4())

        def manifest_for(profile: ParticipantProfile) -> OrchestrationManifest:
            check_disposable(profile)
            return dispose_manifest(profile, manifest_id)

        if not (
            is_id(tenant_id)
            and is_id(profile_id)
            and self._store.dispose(
                TenantId(tenant_id), ParticipantProfileId(profile_id), manifest_for, self._patience.first
            )
        ):
            raise NotFoundError("participant profile", profile_id)
        return manifest_id

    def apply(self, responses: Sequence[OrchestrationResponse]) -> list[Verdict]:
        """Bring profiles up to date, and tell for each response what became of it.

        The order of the responses does not matter: a profile's deployment is looked at before its disposal.
        """
        # One statement takes one response for a profile, so those of one profile go one round after the other.
        verdicts: dict[Response, Verdict] = {}
        rounds: dict[int, list[Response]] = {}
        seen: Counter[str] = Counter()
        keys = [_read(response) for response in responses]
        for response in sorted(dict.fromkeys(keys), key=lambda one: one.orchestration_type != DEPLOY):
            if response.orchestration_type not in (DEPLOY, DISPOSE) or not is_id(response.profile_id):
                verdicts[response] = Verdict.UNKNOWN
                continue
            rounds.setdefault(seen[response.profile_id], []).append(response)
            seen[response.profile_id] += 1
        for _, batch in sorted(rounds.items()):
            verdicts |= zip(batch, self._store.apply(batch), strict=True)
        for response, verdict in verdicts.items():
            if verdict is not Verdict.APPLIED:
                log.info("response to manifest %s for %s: %s", response.manifest_id, response.profile_id, verdict)
        return [verdicts[key] for key in keys]

    def resend(self) -> list[OutboxRow]:
        """Ask again for what nobody has answered in time."""
        resent = self._store.resend(self._patience)
        for profile_id in resent.given_up:
            log.error("no response for participant profile %s after %d sends", profile_id, self._patience.sends)
        return resent.rows


def _read(response: OrchestrationResponse) -> Response:
    return Response(
        response.correlation_id,
        storable(response.manifest_id),
        response.orchestration_type,
        response.success,
        storable(response.error_detail),
        storable(response.properties),
    )
