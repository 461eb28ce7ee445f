"""What can be done with tenants."""

from __future__ import annotations

import uuid
from typing import Protocol

from cfm_core.entities import JsonEntity
from cfm_core.errors import NotFoundError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.ids import check_key, is_id
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from cfm_core.versions import ANY, Expected


class TenantStore(Protocol):
    """Keeps tenants, and gives them as the API shows them. An id that no tenant has gives None."""

    def insert(self, tenant: Tenant) -> JsonEntity: ...

    def find(self, tenant_id: TenantId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: tenants have no field that the predicate names."""
        ...

    def change(self, tenant_id: TenantId, diff: TenantPropertiesDiff, expected: Expected) -> JsonEntity | None:
        """Set and remove properties; of two changes at once neither is lost. None also for another version."""
        ...

    def delete(self, tenant_id: TenantId, expected: Expected) -> bool:
        """Whether there was such a tenant in an expected version.

        Raises:
            ValidationError: it has participant profiles, in whatever state.
        """
        ...


class Tenants:
    """The use cases of tenants. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store

    def create(self, new: NewTenant) -> tuple[TenantId, JsonEntity]:
        tenant_id = TenantId(str(uuid.uuid4()))
        return tenant_id, self._store.insert(Tenant(tenant_id, new.properties))

    def get(self, tenant_id: str) -> JsonEntity:
        found = self._store.find(TenantId(tenant_id)) if is_id(tenant_id) else None
        if found is None:
            raise NotFoundError("tenant", tenant_id)
        return found

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_key(page)
        return self._store.select(parse(predicate), page)

    def change(self, tenant_id: str, diff: TenantPropertiesDiff, expected: Expected = ANY) -> JsonEntity:
        """Raises PreconditionFailedError: the tenant is not in an expected version."""
        if is_id(tenant_id) and (diff.properties or diff.removed):
            changed = self._store.change(TenantId(tenant_id), diff, expected)
            if changed is not None:
                return changed
        found = self.get(tenant_id)
        expected.check(f"tenant {tenant_id}", found.version)
        return found

    def delete(self, tenant_id: str, expected: Expected = ANY) -> None:
        """Delete a tenant.

        Raises:
            ValidationError: it has participant profiles, in whatever state.
            PreconditionFailedError: it is not in an expected version.
        """
        if not is_id(tenant_id) or not self._store.delete(TenantId(tenant_id), expected):
            expected.check(f"tenant {tenant_id}", self.get(tenant_id).version)
