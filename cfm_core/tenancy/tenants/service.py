"""What can be done with tenants."""

from __future__ import annotations

import uuid
from typing import Protocol

from cfm_core.errors import NotFoundError
from cfm_core.query import Page, Predicate, parse
from cfm_core.tenancy.answers import JsonPage, JsonText
from cfm_core.tenancy.ids import is_id
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff


class TenantStore(Protocol):
    """Keeps tenants, and gives them as the API shows them. An id that no tenant has gives None."""

    def insert(self, tenant: Tenant) -> JsonText: ...

    def find(self, tenant_id: TenantId) -> JsonText | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: tenants have no field that the predicate names."""
        ...

    def change(self, tenant_id: TenantId, diff: TenantPropertiesDiff) -> JsonText | None:
        """Set and remove properties; of two changes at once neither is lost."""
        ...

    def delete(self, tenant_id: TenantId) -> bool:
        """Whether there was such a tenant.

        Raises:
            ValidationError: it has participant profiles, in whatever state.
        """
        ...


class Tenants:
    """The use cases of tenants. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store

    def create(self, new: NewTenant) -> tuple[TenantId, JsonText]:
        tenant_id = TenantId(str(uuid.uuid4()))
        return tenant_id, self._store.insert(Tenant(tenant_id, new.properties))

    def get(self, tenant_id: str) -> JsonText:
        return _known(tenant_id, self._store.find(TenantId(tenant_id)) if is_id(tenant_id) else None)

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate cannot be read.
        """
        return self._store.select(parse(predicate), page)

    def change(self, tenant_id: str, diff: TenantPropertiesDiff) -> JsonText:
        if not diff.properties and not diff.removed:
            return self.get(tenant_id)
        return _known(tenant_id, self._store.change(TenantId(tenant_id), diff) if is_id(tenant_id) else None)

    def delete(self, tenant_id: str) -> None:
        """Raises ValidationError: the tenant has participant profiles, in whatever state."""
        if not is_id(tenant_id) or not self._store.delete(TenantId(tenant_id)):
            raise NotFoundError("tenant", tenant_id)


def _known(tenant_id: str, answer: JsonText | None) -> JsonText:
    if answer is None:
        raise NotFoundError("tenant", tenant_id)
    return answer
