"""Tenants in memory."""

from __future__ import annotations

from typing import Any

from cfm_core.access.model import ALL, Bound, Bounds
from cfm_core.entities import JsonEntity, json_of
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.tenancy.memory import Fabric, violated
from cfm_core.tenancy.tenants.model import Tenant, TenantId, changed
from cfm_core.tenancy.tenants.store import FIELDS
from cfm_core.tenancy.tenants.v1alpha1 import TenantPropertiesDiff, shown
from cfm_core.versions import Expected


class MemoryTenants:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def insert(self, tenant: Tenant) -> JsonEntity:
        with self._fabric.lock:
            self._fabric.tenants[tenant.id] = tenant
            return _entity(tenant)

    def find(self, tenant_id: TenantId, bounds: Bounds = ALL) -> JsonEntity | None:
        with self._fabric.lock:
            tenant = self._within(tenant_id, bounds)
            return _entity(tenant) if tenant else None

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        with self._fabric.lock:
            tenants = {key: one for key, one in self._fabric.tenants.items() if bounds.allow(Bound(key))}
        return page_of(tenants, predicate, FIELDS, page, _stored, shown)

    def change(
        self, tenant_id: TenantId, diff: TenantPropertiesDiff, expected: Expected, bounds: Bounds = ALL
    ) -> JsonEntity | None:
        with self._fabric.lock:
            tenant = self._within(tenant_id, bounds)
            if tenant is None or not expected.allows(tenant.version):
                return None
            self._fabric.tenants[tenant_id] = after = changed(tenant, diff.properties, diff.removed)
            return _entity(after)

    def delete(self, tenant_id: TenantId, expected: Expected, bounds: Bounds = ALL) -> bool:
        with self._fabric.lock:
            tenant = self._within(tenant_id, bounds)
            if tenant is None or not expected.allows(tenant.version):
                return False
            if any(profile.tenant_id == tenant_id for profile in self._fabric.participant_profiles.values()):
                raise violated("participant_profiles_tenant_id_fkey")
            del self._fabric.tenants[tenant_id]
            return True

    def _within(self, tenant_id: TenantId, bounds: Bounds) -> Tenant | None:
        return self._fabric.tenants.get(tenant_id) if bounds.allow(Bound(tenant_id)) else None


def _entity(tenant: Tenant) -> JsonEntity:
    return JsonEntity(tenant.version, json_of(shown(tenant)))


def _stored(tenant: Tenant) -> dict[str, Any]:
    return {"id": tenant.id, "version": tenant.version, "properties": tenant.properties}
