"""Provides what callers may do. Where entities are in memory, the Tenant Manager's assembly provides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly import InitContext, ServiceAssembly, ServiceType
from cfm_core.assembly.database import DATABASE
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.access.service import Accesses

ACCESSES: ServiceType[Accesses] = ServiceType("accesses")


class PostgresAccessAssembly(ServiceAssembly):
    """The rights of users and roles in Postgres, for both managers."""

    name = "access-postgres"
    provides = (ACCESSES,)
    requires = (DATABASE,)

    def init(self, context: InitContext) -> None:
        from cfm_core.access.service import Accesses
        from cfm_core.access.store import PostgresRights

        settings = context.settings
        context.registry.register(
            ACCESSES,
            Accesses(
                PostgresRights(context.registry.resolve(DATABASE)),
                user_claim=settings.auth_user_claim,
                roles_claim=settings.auth_roles_claim,
            ),
        )


def access_assemblies(settings: Settings) -> tuple[ServiceAssembly, ...]:
    """The assembly for ``CFM_STORE``; none for ``memory``, where users are the Tenant Manager's own."""
    return () if settings.store == "memory" else (PostgresAccessAssembly(),)
