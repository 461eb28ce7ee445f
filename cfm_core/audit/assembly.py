"""Provides the audit trail, where the managers' entities are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly import InitContext, ServiceAssembly, ServiceType
from cfm_core.assembly.database import DATABASE
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.audit.memory import MemoryAudit
    from cfm_core.audit.service import Audit

AUDIT: ServiceType[Audit] = ServiceType("audit")
MEMORY_AUDIT: ServiceType[MemoryAudit] = ServiceType("audit in memory")
"""Where what is kept in memory notes its changes."""


class PostgresAuditAssembly(ServiceAssembly):
    """The trail in Postgres."""

    name = "audit-postgres"
    provides = (AUDIT,)
    requires = (DATABASE,)

    def init(self, context: InitContext) -> None:
        from cfm_core.audit.service import Audit
        from cfm_core.audit.store import PostgresAudit

        context.registry.register(AUDIT, Audit(PostgresAudit(context.registry.resolve(DATABASE))))


class MemoryAuditAssembly(ServiceAssembly):
    """The trail in memory; it ends with the process."""

    name = "audit-memory"
    provides = (AUDIT, MEMORY_AUDIT)

    def init(self, context: InitContext) -> None:
        from cfm_core.audit.memory import MemoryAudit
        from cfm_core.audit.service import Audit

        trail = MemoryAudit()
        context.registry.register(AUDIT, Audit(trail))
        context.registry.register(MEMORY_AUDIT, trail)


def audit_assembly(settings: Settings) -> ServiceAssembly:
    """The assembly for ``CFM_STORE``."""
    return MemoryAuditAssembly() if settings.store == "memory" else PostgresAuditAssembly()
