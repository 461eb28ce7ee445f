"""Provides the audit trail, where the managers' entities are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cfm_core.assembly import InitContext, ServiceAssembly, ServiceType
from cfm_core.assembly.database import MAINTENANCE_DATABASE, PROVISION_MANAGER_DATABASE
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.audit.memory import MemoryAudit
    from cfm_core.audit.service import Audit
    from cfm_core.store.database import Database

AUDIT: ServiceType[Audit] = ServiceType("audit")
AUDIT_SEALS: ServiceType[Audit] = ServiceType("audit-seals")
"""The same for whoever seals what the managers have written, which they themselves may not."""
MEMORY_AUDIT: ServiceType[MemoryAudit] = ServiceType("audit in memory")
"""Where what is kept in memory notes its changes."""


class PostgresAuditAssembly(ServiceAssembly):
    """The trail in Postgres, as one role may treat it."""

    def __init__(self, provides: ServiceType[Audit], database: ServiceType[Database]) -> None:
        self.name = f"{provides.name}-postgres"
        self.provides = (provides,)
        self.requires = (database,)

    def init(self, context: InitContext) -> None:
        from cfm_core.audit.service import Audit
        from cfm_core.audit.store import PostgresAudit

        ((key,), (database,)) = self.provides, self.requires
        context.registry.register(key, Audit(PostgresAudit(context.registry.resolve(database))))


class MemoryAuditAssembly(ServiceAssembly):
    """The trail in memory; it ends with the process."""

    name = "audit-memory"
    provides = (AUDIT, AUDIT_SEALS, MEMORY_AUDIT)

    def init(self, context: InitContext) -> None:
        from cfm_core.audit.memory import MemoryAudit
        from cfm_core.audit.service import Audit

        trail = MemoryAudit()
        for key in (AUDIT, AUDIT_SEALS):
            context.registry.register(key, Audit(trail))
        context.registry.register(MEMORY_AUDIT, trail)


def audit_assemblies(settings: Settings) -> Sequence[ServiceAssembly]:
    """The assemblies for ``CFM_STORE``."""
    if settings.store == "memory":
        return (MemoryAuditAssembly(),)
    return (
        PostgresAuditAssembly(AUDIT, PROVISION_MANAGER_DATABASE),
        PostgresAuditAssembly(AUDIT_SEALS, MAINTENANCE_DATABASE),
    )
