"""What the Tenant Manager's stores in memory share: all that Postgres does for them, until the process ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cfm_core import trace
from cfm_core.access.model import Bound
from cfm_core.audit.memory import MemoryAudit
from cfm_core.clock import Clock, system_clock
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.contracts.subjects import MANIFESTS
from cfm_core.store.constraints import error_for
from cfm_core.tenancy.cells import v1alpha1 as cells
from cfm_core.tenancy.cells.model import Cell, CellId, CellOption
from cfm_core.tenancy.dataspace_profiles import v1alpha1 as dataspace_profiles
from cfm_core.tenancy.dataspace_profiles.model import DataspaceProfile, DataspaceProfileId
from cfm_core.tenancy.feed.memory import MemoryFeed, Recorded
from cfm_core.tenancy.feed.model import Kind
from cfm_core.tenancy.participant_profiles import v1alpha1 as participant_profiles
from cfm_core.tenancy.participant_profiles.model import ParticipantProfile, ParticipantProfileId
from cfm_core.tenancy.query_indexes.model import QueryIndex, QueryIndexId
from cfm_core.tenancy.roles import v1alpha1 as roles
from cfm_core.tenancy.roles.model import Role, RoleId
from cfm_core.tenancy.states import DeploymentState
from cfm_core.tenancy.tenants import v1alpha1 as tenants
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.users import v1alpha1 as users
from cfm_core.tenancy.users.model import User, UserId


@dataclass(slots=True)
class Awaited:
    """A manifest whose response has not come yet."""

    manifest: OrchestrationManifest
    belongs_to: trace.Context
    sends: int
    due_at: datetime


@dataclass(slots=True)
class Fabric:
    """What the stores share. Whoever reads or writes holds ``lock``."""

    clock: Clock = system_clock
    audit: MemoryAudit = field(default_factory=MemoryAudit)
    lock: threading.Lock = field(default_factory=threading.Lock)
    feed: MemoryFeed = field(init=False)
    tenants: MutableMapping[TenantId, Tenant] = field(init=False)
    cells: MutableMapping[CellId, Cell] = field(init=False)
    dataspace_profiles: MutableMapping[DataspaceProfileId, DataspaceProfile] = field(init=False)
    participant_profiles: MutableMapping[ParticipantProfileId, ParticipantProfile] = field(init=False)
    roles: MutableMapping[RoleId, Role] = field(init=False)
    users: MutableMapping[UserId, User] = field(init=False)
    query_indexes: dict[QueryIndexId, QueryIndex] = field(default_factory=dict)
    awaited: dict[ParticipantProfileId, Awaited] = field(default_factory=dict)
    outbox: list[OutboxRow] = field(default_factory=list)
    former_users: set[tuple[str, str]] = field(default_factory=set)
    """Issuer and subject of those who were users."""
    access_version: int = 0
    """Rises with every change of users and roles."""

    def __post_init__(self) -> None:
        self.feed = MemoryFeed(self.clock, lambda key: self.participant_profiles.get(ParticipantProfileId(key)))
        self.tenants = Recorded(Kind.TENANTS, self.feed, self.audit, tenants.shown, lambda one: Bound(one.id))
        self.cells = Recorded(Kind.CELLS, self.feed, self.audit, cells.shown)
        self.dataspace_profiles = Recorded(Kind.DATASPACE_PROFILES, self.feed, self.audit, _without_deployments)
        self.participant_profiles = Recorded(
            Kind.PARTICIPANT_PROFILES,
            self.feed,
            self.audit,
            participant_profiles.shown,
            lambda one: Bound(one.tenant_id, one.id),
        )
        self.roles = Recorded(Kind.ROLES, self.feed, self.audit, roles.shown)
        self.users = Recorded(Kind.USERS, self.feed, self.audit, users.shown)

    def announce(self, events: Sequence[EventDict]) -> OutboxRow:
        row = OutboxRow(len(self.outbox) + 1, MANIFESTS, list(events))
        self.outbox.append(row)
        return row

    def cell_options(self) -> tuple[CellOption, ...]:
        loads = Counter(cell for one in self.deployed_participants() for cell in {vpa.cell_id for vpa in one.vpas})
        return tuple(
            CellOption(cell.id, cell.external_id, cell.state, loads[cell.id]) for _, cell in sorted(self.cells.items())
        )

    def deployed_participants(self) -> list[ParticipantProfile]:
        return [profile for profile in self.participant_profiles.values() if profile.state != DeploymentState.DISPOSED]

    def users_of(self, cell: CellId | None, dataspace: DataspaceProfileId | None) -> list[tuple[str, str]]:
        """Participant profiles with a VPA on a cell and in a dataspace, kind and id; None stands for any."""
        return [
            ("participantProfile", profile.id)
            for profile in self.deployed_participants()
            if cell is None or any(vpa.cell_id == cell for vpa in profile.vpas)
            if dataspace is None or dataspace in profile.dataspace_profile_ids
        ]


def violated(constraint: str) -> Exception:
    """The error that Postgres would have led to."""
    return error_for(constraint) or AssertionError(constraint)


def _without_deployments(profile: DataspaceProfile) -> dict[str, Any]:
    """A dataspace profile as the audit trail tells it: its deployments have entries of their own."""
    return dataspace_profiles.shown(replace(profile, deployments=()), str)
