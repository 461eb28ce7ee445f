"""What can be done with participant profiles."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bound, Bounds, Resource, refused
from cfm_core.contracts.orchestration import (
    DEPLOY,
    DISPOSE,
    VPA_STATE,
    OrchestrationManifest,
    OrchestrationResponse,
)
from cfm_core.contracts.reply import OutboxRow
from cfm_core.entities import JsonEntity
from cfm_core.errors import CfmError, ClientError, NotFoundError, RecoverableError, RefusedError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.store.constraints import BrokenRuleError
from cfm_core.tenancy.ids import check_key, is_id
from cfm_core.tenancy.participant_profiles.bounds import belongs, cells_within, creates_in
from cfm_core.tenancy.participant_profiles.changes import (
    BasisOf,
    concerns_services,
    planned,
    revised,
    with_properties,
)
from cfm_core.tenancy.participant_profiles.manifests import deploy_manifest, dispose_manifest
from cfm_core.tenancy.participant_profiles.model import Action as ProfileAction
from cfm_core.tenancy.participant_profiles.model import (
    Change,
    DeploymentBasis,
    ParticipantProfile,
    ParticipantProfileId,
    Response,
    Verdict,
    check_allowed,
)
from cfm_core.tenancy.participant_profiles.planning import UndeployableError
from cfm_core.tenancy.participant_profiles.selection import CellSelection, spread_by_load
from cfm_core.tenancy.participant_profiles.v1alpha1 import (
    NewParticipantProfileDeployment,
    ParticipantProfileDiff,
)
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants.model import TenantId
from cfm_core.tenancy.texts import storable
from cfm_core.versions import ANY, Expected

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id that is never given."""

Decide = Callable[[ParticipantProfile, BasisOf], Change | None]


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
    """Keeps participant profiles, and gives them as the API shows them. What is not within the bounds is not there."""

    def find(
        self, tenant_id: TenantId, profile_id: ParticipantProfileId, bounds: Bounds = ALL
    ) -> JsonEntity | None: ...

    def select(
        self, predicate: Predicate, page: Page, tenant_id: TenantId | None = None, bounds: Bounds = ALL
    ) -> JsonPage:
        """Those of all tenants, or of one.

        Raises:
            ValidationError: participant profiles have no field that the predicate names.
        """
        ...

    def basis(
        self, tenant_id: TenantId, dataspace_profile_ids: Sequence[str], *, remembered: bool = False
    ) -> DeploymentBasis:
        """What a deployment to these dataspace profiles, or to all where none is named, rests on.

        Args:
            remembered: what was read for another tenant or a while ago will do; then the loads of cells say nothing, and
                whether anything has changed since is seen by ``insert``.
        """
        ...

    def insert(
        self,
        profile: ParticipantProfile,
        manifest: OrchestrationManifest,
        basis: DeploymentBasis,
        due: timedelta,
        *,
        remembered: bool = False,
    ) -> JsonEntity | None:
        """Keep a new profile and announce its manifest, both or nothing.

        Args:
            remembered: ``basis`` was remembered. One that has just been read may change in between: what is kept is what a
                request a moment earlier would have left, as long as the rules of the model hold.

        Returns:
            None where its tenant has gone, or a remembered basis has changed.

        Raises:
            BrokenRuleError: a rule of the model does not hold any more.
            ConflictError: another profile that is not disposed has the same identifier.
        """
        ...

    def change(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        decide: Decide,
        due: timedelta,
        bounds: Bounds = ALL,
    ) -> JsonEntity | None:
        """Change a profile and announce the manifest, both or nothing. None where the tenant has no such profile.

        ``decide`` is asked while nobody else can change the profile; what it raises ends the matter. It gives None where
        nothing is to be changed.

        Raises:
            BrokenRuleError, ConflictError: as for ``insert``.
        """
        ...

    def purge(
        self,
        tenant_id: TenantId,
        profile_id: ParticipantProfileId,
        check: Callable[[ParticipantProfile], None],
        bounds: Bounds = ALL,
    ) -> bool:
        """Delete a profile; False where the tenant has no such profile.

        ``check`` is asked while nobody else can change the profile; what it raises ends the matter.
        """
        ...

    def apply(self, responses: Sequence[Response], due: timedelta) -> list[Verdict]:
        """Bring profiles up to date; at most one response for each. See ``model.respond``.

        Whether what has failed has been undone since, or has succeeded after all, is asked for after ``due``.
        """
        ...

    def resend(self, patience: Patience) -> Resent:
        """Send the manifests of overdue responses again, and give up those sent too often; in error they stay as they are."""
        ...


class ParticipantProfiles:
    """The use cases of participant profiles, for somebody who has ``access``.

    An id that is none is unknown like any other; see ``Tenants``. Nobody brings VPAs to cells where they are not allowed to:
    those are not there for them.
    """

    def __init__(
        self,
        store: ParticipantProfileStore,
        patience: Patience | None = None,
        selection: CellSelection = spread_by_load,
        access: Access = EVERYTHING,
    ) -> None:
        self._store = store
        self._patience = patience or Patience()
        self._selection = selection
        self._access = access

    def within(self, access: Access) -> ParticipantProfiles:
        """See ``Bounded``."""
        return ParticipantProfiles(self._store, self._patience, self._selection, access)

    def get(self, tenant_id: str, profile_id: str) -> JsonEntity:
        """Raises NotFoundError: the tenant has no such profile; that of another tenant counts as none."""
        bounds = self._access.require(Action.READ, Resource.PARTICIPANT_PROFILE)
        found = self._find(tenant_id, profile_id, bounds)
        if found is None:
            raise NotFoundError("participant profile", profile_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those of all tenants that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        bounds = self._access.require(Action.READ, Resource.PARTICIPANT_PROFILE)
        check_key(page)
        return self._store.select(parse(predicate), page, None, bounds)

    def select_of(self, tenant_id: str, predicate: str, page: Page) -> JsonPage:
        """Like ``select``, of one tenant; none for an unknown tenant."""
        bounds = self._access.require(Action.READ, Resource.PARTICIPANT_PROFILE)
        check_key(page)
        # An id that is none is compared like any other: no profile has it.
        known_id = TenantId(tenant_id if is_id(tenant_id) else _NOBODY)
        return self._store.select(parse(predicate), page, known_id, bounds)

    def deploy(self, tenant_id: str, new: NewParticipantProfileDeployment) -> tuple[str, JsonEntity]:
        """Keep a new profile with its VPAs pending, and ask for their deployment.

        Returns:
            The id of the orchestration to follow, and the profile, which names it as well.

        Raises:
            NotFoundError: there is no such tenant.
            RefusedError: the dataspace profiles or the cells do not allow it.
            ConflictError: another profile that is not disposed has the same identifier.
        """
        bounds = self._access.require(Action.CREATE, Resource.PARTICIPANT_PROFILE)
        is_seen = self._access.bounds(Action.READ, Resource.TENANT).allow(Bound(tenant_id))
        if not creates_in(bounds, tenant_id, is_seen=is_seen):
            # Whether there is such a tenant is not looked at: whoever may see it knows, and nobody else learns it.
            if is_seen:
                raise refused(Action.CREATE, Resource.PARTICIPANT_PROFILE)
            raise NotFoundError("tenant", tenant_id)
        named = tuple(dict.fromkeys(new.dataspace_profile_ids))
        manifest_id = str(uuid.uuid4())

        def attempt(*, remembered: bool) -> JsonEntity | None:
            if not is_id(tenant_id):
                raise NotFoundError("tenant", tenant_id)
            basis = self._store.basis(TenantId(tenant_id), named, remembered=remembered)
            if not basis.tenant_exists:
                raise NotFoundError("tenant", tenant_id)
            seen = replace(basis, cells=cells_within(bounds, TenantId(tenant_id), None, basis.cells))
            profile, credentials = planned(TenantId(tenant_id), new, named, seen, self._selection)
            manifest = deploy_manifest(profile, manifest_id, credentials)
            return self._store.insert(profile, manifest, basis, self._patience.first, remembered=remembered)

        entity = None
        # Where no cell is chosen for its load, what was read before is mostly still right; and who is refused is looked at again.
        if new.cell_id:
            with contextlib.suppress(RefusedError):
                entity = attempt(remembered=True)
        if entity is None:
            entity = self._in_peace(lambda: attempt(remembered=False))
        return manifest_id, _with_orchestration(entity, manifest_id)

    def deploy_again(
        self, tenant_id: str, profile_id: str, diff: ParticipantProfileDiff, expected: Expected = ANY
    ) -> tuple[str, JsonEntity]:
        """Ask for the deployment of a profile that is in error or disposed, after ``diff``.

        Returns:
            The id of the orchestration to follow, and the profile, which names it as well.

        Raises:
            NotFoundError: the tenant has no such profile; that of another tenant counts as none.
            ConflictError: it is in another state, or its identifier has been taken meanwhile.
            RefusedError: the dataspace profiles or the cells do not allow it.
            PreconditionFailedError: it is not in an expected version.
        """
        manifest_id = str(uuid.uuid4())
        bounds = self._access.require(Action.DEPLOY, Resource.PARTICIPANT_PROFILE)

        def decide(profile: ParticipantProfile, basis_of: BasisOf) -> Change:
            expected.check(f"participant profile {profile_id}", profile.version)
            check_allowed(profile, ProfileAction.DEPLOY)
            if not profile.live:
                # What an earlier deployment has left is history.
                left = {key: value for key, value in profile.properties.items() if key != VPA_STATE}
                profile = replace(profile, properties=left)
            seen = _within(bounds, profile, basis_of)
            after, credentials = revised(with_properties(profile, diff), diff, seen, self._selection, again=True)
            _check_within(after, bounds, Action.DEPLOY)
            manifest = deploy_manifest(after, manifest_id, credentials)
            return Change(replace(after, failed_manifest_id=""), DeploymentState.PENDING, manifest)

        changed = self._change(tenant_id, profile_id, decide, Action.DEPLOY, bounds)
        return manifest_id, _with_orchestration(changed, manifest_id)

    def change(
        self, tenant_id: str, profile_id: str, diff: ParticipantProfileDiff, expected: Expected = ANY
    ) -> tuple[str | None, JsonEntity]:
        """Change a profile, and ask for its deployment where its services have to follow.

        Returns:
            The id of the orchestration to follow, None where no service is concerned; and the profile.

        Raises:
            NotFoundError: the tenant has no such profile; that of another tenant counts as none.
            ConflictError: services are concerned, and it is not active.
            RefusedError: the dataspace profiles or the cells do not allow it.
            PreconditionFailedError: it is not in an expected version.
        """
        manifest_id = str(uuid.uuid4())
        started = False
        bounds = self._access.require(Action.UPDATE, Resource.PARTICIPANT_PROFILE)

        def decide(profile: ParticipantProfile, basis_of: BasisOf) -> Change | None:
            nonlocal started
            expected.check(f"participant profile {profile_id}", profile.version)
            after = plain = with_properties(profile, diff)
            if concerns_services(profile, diff):
                check_allowed(profile, ProfileAction.CHANGE)
                seen = _within(bounds, profile, basis_of)
                after, credentials = revised(plain, diff, seen, self._selection, again=False)
                _check_within(after, bounds, Action.UPDATE)
            if started := after != plain:
                return Change(after, DeploymentState.PENDING, deploy_manifest(after, manifest_id, credentials))
            return None if after == profile else Change(after)

        entity = self._change(tenant_id, profile_id, decide, Action.UPDATE, bounds)
        return (manifest_id, _with_orchestration(entity, manifest_id)) if started else (None, entity)

    def dispose(self, tenant_id: str, profile_id: str, expected: Expected = ANY) -> tuple[str, JsonEntity]:
        """Ask for the disposal of the profile's VPAs; gives the id of the orchestration to follow, and the profile.

        Raises:
            NotFoundError: the tenant has no such profile; that of another tenant counts as none.
            ConflictError: it is neither active nor in error.
            PreconditionFailedError: it is not in an expected version.
        """
        manifest_id = str(uuid.uuid4())
        bounds = self._access.require(Action.DISPOSE, Resource.PARTICIPANT_PROFILE)

        def decide(profile: ParticipantProfile, _: BasisOf) -> Change:
            expected.check(f"participant profile {profile_id}", profile.version)
            check_allowed(profile, ProfileAction.DISPOSE)
            return Change(profile, DeploymentState.DISPOSING, dispose_manifest(profile, manifest_id))

        return manifest_id, self._change(tenant_id, profile_id, decide, Action.DISPOSE, bounds)

    def purge(self, tenant_id: str, profile_id: str, expected: Expected = ANY) -> None:
        """Delete a disposed profile for good.

        Raises:
            NotFoundError: the tenant has no such profile; that of another tenant counts as none.
            ConflictError: it is not disposed.
            PreconditionFailedError: it is not in an expected version.
        """

        bounds = self._access.require(Action.DELETE, Resource.PARTICIPANT_PROFILE)

        def check(profile: ParticipantProfile) -> None:
            expected.check(f"participant profile {profile_id}", profile.version)
            check_allowed(profile, ProfileAction.PURGE)

        if not (
            is_id(tenant_id)
            and is_id(profile_id)
            and self._store.purge(TenantId(tenant_id), ParticipantProfileId(profile_id), check, bounds)
        ):
            raise self._why_not(tenant_id, profile_id, Action.DELETE)

    def _find(self, tenant_id: str, profile_id: str, bounds: Bounds) -> JsonEntity | None:
        if not (is_id(tenant_id) and is_id(profile_id)):
            return None
        return self._store.find(TenantId(tenant_id), ParticipantProfileId(profile_id), bounds)

    def _why_not(self, tenant_id: str, profile_id: str, action: Action) -> ClientError:
        unknown = NotFoundError("participant profile", profile_id)
        return self._access.why_not(
            action,
            Resource.PARTICIPANT_PROFILE,
            unknown,
            lambda reading: self._find(tenant_id, profile_id, reading) is not None,
        )

    def _change(self, tenant_id: str, profile_id: str, decide: Decide, action: Action, bounds: Bounds) -> JsonEntity:
        def attempt() -> JsonEntity:
            changed = None
            if is_id(tenant_id) and is_id(profile_id):
                changed = self._store.change(
                    TenantId(tenant_id), ParticipantProfileId(profile_id), decide, self._patience.first, bounds
                )
            if changed is None:
                raise self._why_not(tenant_id, profile_id, action)
            return changed

        return self._in_peace(attempt)

    def _in_peace(self, attempt: Callable[[], JsonEntity | None]) -> JsonEntity:
        """The same as ``_in_peace``; who may not read all cells and dataspace profiles is not told which there are."""
        try:
            return _in_peace(attempt)
        except (UndeployableError, BrokenRuleError):
            if all(
                self._access.bounds(Action.READ, kind).unlimited for kind in (Resource.CELL, Resource.DATASPACE_PROFILE)
            ):
                raise
            raise RefusedError("it cannot be deployed to these dataspace profiles and cells") from None

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
            verdicts |= zip(batch, self._store.apply(batch, self._patience.first), strict=True)
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


def _within(bounds: Bounds, profile: ParticipantProfile, basis_of: BasisOf) -> BasisOf:
    """What a deployment rests on, with the cells only to which the profile's VPAs may come."""

    def seen(named: Sequence[str]) -> DeploymentBasis:
        basis = basis_of(named)
        return replace(basis, cells=cells_within(bounds, profile.tenant_id, profile, basis.cells))

    return seen


def _check_within(profile: ParticipantProfile, bounds: Bounds, action: Action) -> None:
    """Raises ForbiddenError: with its new VPAs the profile is not within the bounds any more."""
    if not belongs(profile, bounds):
        raise refused(action, Resource.PARTICIPANT_PROFILE)


def _in_peace(attempt: Callable[[], JsonEntity | None]) -> JsonEntity:
    """What ``attempt`` gives, once nobody changes at the same time what it rests on.

    Raises:
        RefusedError: a rule of the model refuses it.
        RecoverableError: it gave nothing, time and again.
    """
    refused: CfmError = RecoverableError("the cells or dataspace profiles are changing just now")
    for _ in range(_ATTEMPTS):
        try:
            if (entity := attempt()) is not None:
                return entity
        except BrokenRuleError as error:
            # Looked at again, the reason is told exactly.
            refused = error
    raise refused


def _with_orchestration(profile: JsonEntity, orchestration_id: str) -> JsonEntity:
    return replace(profile, text=f'{profile.text[:-1]},"orchestrationId":"{orchestration_id}"}}')


def _read(response: OrchestrationResponse) -> Response:
    return Response(
        response.correlation_id,
        storable(response.manifest_id),
        response.orchestration_type,
        response.success,
        storable(response.error_detail),
        storable(response.properties),
        response.retries,
    )
