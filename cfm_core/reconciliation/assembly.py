"""Provides what holds the services against our records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.clients.assembly import (
    CONTROL_PLANE,
    DATASPACE_SETTINGS,
    IDENTITY_HUB,
    ISSUER_SERVICE,
    RESOURCE_MAPPINGS,
    SIGLET,
    TENANT_MANAGER,
)
from cfm_core.clock import Clock, system_clock

if TYPE_CHECKING:
    from cfm_core.reconciliation.service import Reconciliation

RECONCILIATION: ServiceType[Reconciliation] = ServiceType("reconciliation")


class ReconciliationAssembly(ServiceAssembly):
    """Our records at the Tenant Manager, and the services."""

    name = "reconciliation"
    provides = (RECONCILIATION,)
    requires = (
        TENANT_MANAGER,
        CONTROL_PLANE,
        IDENTITY_HUB,
        ISSUER_SERVICE,
        SIGLET,
        RESOURCE_MAPPINGS,
        DATASPACE_SETTINGS,
    )

    def __init__(self, clock: Clock = system_clock) -> None:
        self._clock = clock

    def init(self, context: InitContext) -> None:
        from cfm_core.reconciliation.missing import Expectations
        from cfm_core.reconciliation.renewal import Renewals
        from cfm_core.reconciliation.service import Reconciliation
        from cfm_core.reconciliation.superfluous import Strays

        resolve, clock = context.registry.resolve, self._clock
        settings = resolve(DATASPACE_SETTINGS)
        accounts = (settings.agents_account, settings.account("controlplane"), settings.account("identityhub"))
        tenants, control_plane, hub = resolve(TENANT_MANAGER), resolve(CONTROL_PLANE), resolve(IDENTITY_HUB)
        issuer, before = resolve(ISSUER_SERVICE), settings.renew_before
        context.registry.register(
            RECONCILIATION,
            Reconciliation(
                tenants,
                resolve(RESOURCE_MAPPINGS),
                Renewals(tenants, hub, issuer, before=before, clock=clock),
                Expectations(
                    control_plane, hub, issuer, resolve(SIGLET), accounts=accounts, before=before, clock=clock
                ),
                Strays(tenants, control_plane, hub, issuer, issuer_id=settings.issuer_id, accounts=accounts),
                accounts=accounts,
                clock=clock,
            ),
        )
