"""Provides the Tenant Manager's use cases, over Postgres or over the memory of the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cfm_core.access.assembly import ACCESSES
from cfm_core.assembly import InitContext, ServiceAssembly, ServiceType
from cfm_core.assembly.database import MAINTENANCE_DATABASE, TENANT_MANAGER_DATABASE
from cfm_core.audit.assembly import MEMORY_AUDIT
from cfm_core.errors import FatalError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.tenancy.cells.service import Cells
    from cfm_core.tenancy.dataspace_profiles.service import DataspaceProfiles
    from cfm_core.tenancy.feed.service import Feed
    from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles
    from cfm_core.tenancy.query_indexes.service import QueryIndexes
    from cfm_core.tenancy.roles.service import Roles
    from cfm_core.tenancy.tenants.service import Tenants
    from cfm_core.tenancy.users.service import Users

TENANTS: ServiceType[Tenants] = ServiceType("tenants")
CELLS: ServiceType[Cells] = ServiceType("cells")
DATASPACE_PROFILES: ServiceType[DataspaceProfiles] = ServiceType("dataspace-profiles")
PARTICIPANT_PROFILES: ServiceType[ParticipantProfiles] = ServiceType("participant-profiles")
QUERY_INDEXES: ServiceType[QueryIndexes] = ServiceType("query-indexes")
QUERY_INDEX_BUILDS: ServiceType[QueryIndexes] = ServiceType("query-index-builds")
"""The same for whoever makes the declared indexes true, which takes the role that owns the tables."""
ROLES: ServiceType[Roles] = ServiceType("roles")
USERS: ServiceType[Users] = ServiceType("users")
FEED: ServiceType[Feed] = ServiceType("events-feed")

_KEYS = (TENANTS, CELLS, DATASPACE_PROFILES, PARTICIPANT_PROFILES, QUERY_INDEXES, ROLES, USERS, FEED)


class PostgresTenancyAssembly(ServiceAssembly):
    """The Tenant Manager's entities in Postgres."""

    name = "tenancy-postgres"
    provides = _KEYS
    requires = (TENANT_MANAGER_DATABASE, ACCESSES)

    def init(self, context: InitContext) -> None:
        from cfm_core.tenancy.cells.service import Cells
        from cfm_core.tenancy.cells.store import PostgresCells
        from cfm_core.tenancy.dataspace_profiles.service import DataspaceProfiles
        from cfm_core.tenancy.dataspace_profiles.store import PostgresDataspaceProfiles
        from cfm_core.tenancy.feed.service import Feed
        from cfm_core.tenancy.feed.store import PostgresFeed
        from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles
        from cfm_core.tenancy.participant_profiles.store import PostgresParticipantProfiles
        from cfm_core.tenancy.query_indexes.service import QueryIndexes
        from cfm_core.tenancy.query_indexes.store import PostgresQueryIndexes
        from cfm_core.tenancy.roles.service import Roles
        from cfm_core.tenancy.roles.store import PostgresRoles
        from cfm_core.tenancy.tenants.service import Tenants
        from cfm_core.tenancy.tenants.store import PostgresTenants
        from cfm_core.tenancy.users.service import Users
        from cfm_core.tenancy.users.store import PostgresUsers

        database = context.registry.resolve(TENANT_MANAGER_DATABASE)
        context.registry.register(TENANTS, Tenants(PostgresTenants(database)))
        context.registry.register(CELLS, Cells(PostgresCells(database)))
        context.registry.register(DATASPACE_PROFILES, DataspaceProfiles(PostgresDataspaceProfiles(database)))
        context.registry.register(PARTICIPANT_PROFILES, ParticipantProfiles(PostgresParticipantProfiles(database)))
        context.registry.register(QUERY_INDEXES, QueryIndexes(PostgresQueryIndexes(database)))
        accesses = context.registry.resolve(ACCESSES)
        context.registry.register(ROLES, Roles(PostgresRoles(database), accesses.forget))
        context.registry.register(USERS, Users(PostgresUsers(database), accesses.forget))
        context.registry.register(FEED, Feed(PostgresFeed(database)))


class PostgresQueryIndexBuildsAssembly(ServiceAssembly):
    """The building of declared indexes in Postgres."""

    name = "query-index-builds-postgres"
    provides = (QUERY_INDEX_BUILDS,)
    requires = (MAINTENANCE_DATABASE,)

    def init(self, context: InitContext) -> None:
        from cfm_core.tenancy.query_indexes.service import QueryIndexes
        from cfm_core.tenancy.query_indexes.store import PostgresQueryIndexes

        database = context.registry.resolve(MAINTENANCE_DATABASE)
        context.registry.register(QUERY_INDEX_BUILDS, QueryIndexes(PostgresQueryIndexes(database)))


class MemoryTenancyAssembly(ServiceAssembly):
    """The Tenant Manager's entities in memory; they end with the process."""

    name = "tenancy-memory"
    provides = (*_KEYS, ACCESSES, QUERY_INDEX_BUILDS)
    requires = (MEMORY_AUDIT,)

    def init(self, context: InitContext) -> None:
        from cfm_core.access.service import Accesses
        from cfm_core.tenancy.cells.memory import MemoryCells
        from cfm_core.tenancy.cells.service import Cells
        from cfm_core.tenancy.dataspace_profiles.memory import MemoryDataspaceProfiles
        from cfm_core.tenancy.dataspace_profiles.service import DataspaceProfiles
        from cfm_core.tenancy.feed.service import Feed
        from cfm_core.tenancy.memory import Fabric
        from cfm_core.tenancy.participant_profiles.memory import MemoryParticipantProfiles
        from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles
        from cfm_core.tenancy.query_indexes.memory import MemoryQueryIndexes
        from cfm_core.tenancy.query_indexes.service import QueryIndexes
        from cfm_core.tenancy.roles.memory import MemoryRoles
        from cfm_core.tenancy.roles.service import Roles
        from cfm_core.tenancy.tenants.memory import MemoryTenants
        from cfm_core.tenancy.tenants.service import Tenants
        from cfm_core.tenancy.users.memory import MemoryUsers
        from cfm_core.tenancy.users.memory_rights import MemoryRights
        from cfm_core.tenancy.users.service import Users

        fabric = Fabric(audit=context.registry.resolve(MEMORY_AUDIT))
        context.registry.register(TENANTS, Tenants(MemoryTenants(fabric)))
        context.registry.register(CELLS, Cells(MemoryCells(fabric)))
        context.registry.register(DATASPACE_PROFILES, DataspaceProfiles(MemoryDataspaceProfiles(fabric)))
        context.registry.register(PARTICIPANT_PROFILES, ParticipantProfiles(MemoryParticipantProfiles(fabric)))
        indexes = QueryIndexes(MemoryQueryIndexes(fabric))
        context.registry.register(QUERY_INDEXES, indexes)
        context.registry.register(QUERY_INDEX_BUILDS, indexes)
        settings = context.settings
        accesses = Accesses(
            MemoryRights(fabric), user_claim=settings.auth_user_claim, roles_claim=settings.auth_roles_claim
        )
        context.registry.register(ACCESSES, accesses)
        context.registry.register(ROLES, Roles(MemoryRoles(fabric), accesses.forget))
        context.registry.register(USERS, Users(MemoryUsers(fabric), accesses.forget))
        context.registry.register(FEED, Feed(fabric.feed))


def tenancy_assemblies(settings: Settings) -> Sequence[ServiceAssembly]:
    """The assemblies for ``CFM_STORE``.

    Raises:
        FatalError: it is neither ``postgres`` nor ``memory``.
    """
    match settings.store:
        case "postgres":
            return PostgresTenancyAssembly(), PostgresQueryIndexBuildsAssembly()
        case "memory":
            return (MemoryTenancyAssembly(),)
        case other:
            raise FatalError(f"CFM_STORE is {other!r}; it must be postgres or memory")
