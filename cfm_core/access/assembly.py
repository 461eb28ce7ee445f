"""Provides what callers may do. Where entities are in memory, the Tenant Manager's assembly provides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly import InitContext, ServiceAssembly, ServiceType
from cfm_core.assembly.database import PROVISION_MANAGER_DATABASE, TENANT_MANAGER_DATABASE
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.access.service import Accesses
    from cfm_core.store.database import Database

ACCESSES: ServiceType[Accesses] = ServiceType("accesses")


class PostgresAccessAssembly(ServiceAssembly):
    """The rights of users and roles in Postgres, as either manager may ask for them."""

    name = "access-postgres"
    provides = (ACCESSES,)

    def __init__(self, database: ServiceType[Database]) -> None:
        self.requires = (database,)

    def init(self, context: InitContext) -> None:
        from cfm_core.access.service import Accesses
        from cfm_core.access.store import PostgresRights

        settings = context.settings
        (database,) = self.requires
        context.registry.register(
            ACCESSES,
            Accesses(
                PostgresRights(context.registry.resolve(database)),
                user_claim=settings.auth_user_claim,
                roles_claim=settings.auth_roles_claim,
            ),
        )


def access_assemblies(settings: Settings) -> tuple[ServiceAssembly, ...]:
    """The assembly for ``CFM_STORE``; none for ``memory``, where users are the Tenant Manager's own.

    A process asks once for both managers, as the Tenant Manager unless it connects as the Provision Manager only.
    """
    if settings.store == "memory":
        return ()
    alone = settings.provision_manager_database_url and not settings.tenant_manager_database_url
    return (PostgresAccessAssembly(PROVISION_MANAGER_DATABASE if alone else TENANT_MANAGER_DATABASE),)
