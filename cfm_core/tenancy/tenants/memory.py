"""Tenants in memory."""

from __future__ import annotations

from typing import Any

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

    def find(self, tenant_id: TenantId) -> JsonEntity | None:
        with self._fabric.lock:
            tenant = self._fabric.tenants.get(tenant_id)
            return _entity(tenant) if tenant else None

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        with self._fabric.lock:
            tenants = dict(self._fabric.tenants)
        return page_of(tenants, predicate, FIELDS, page, _stored, shown)

    def change(self, tenant_id: TenantId, diff: TenantPropertiesDiff, expected: Expected) -> JsonEntity | None:
        with self._fabric.lock:
            tenant = self._fabric.tenants.get(tenant_id)
            if tenant is None or not expected.allows(tenant.version):
                return None
            self._fabric.tenants[tenant_id] = after = changed(tenant, diff.properties, diff.removed)
            return _entity(after)

    def delete(self, tenant_id: TenantId, expected: Expected) -> bool:
        with self._fabric.lock:
            tenant = self._fabric.tenants.get(tenant_id)
            if tenant is None or not expected.allows(tenant.version):
                return False
            if any(profile.tenant_id == tenant_id for profile in self._fabric.participant_profiles.values()):
                raise violated("participant_profiles_tenant_id_fkey")
            del self._fabric.tenants[tenant_id]
            return True


def _entity(tenant: Tenant) -> JsonEntity:
    return JsonEntity(tenant.version, json_of(shown(tenant)))


def _stored(tenant: Tenant) -> dict[str, Any]:
    return {"id": tenant.id, "version": tenant.version, "properties": tenant.properties}
