"""What can be done with tenants."""

from __future__ import annotations

import uuid
from typing import Protocol

from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bounds, Resource
from cfm_core.entities import JsonEntity
from cfm_core.errors import NotFoundError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.ids import check_key, is_id
from cfm_core.tenancy.tenants.model import Tenant, TenantId
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from cfm_core.versions import ANY, Expected


class TenantStore(Protocol):
    """Keeps tenants, and gives them as the API shows them. An id that no tenant within the bounds has gives None."""

    def insert(self, tenant: Tenant) -> JsonEntity: ...

    def find(self, tenant_id: TenantId, bounds: Bounds = ALL) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        """Raises ValidationError: tenants have no field that the predicate names."""
        ...

    def change(
        self, tenant_id: TenantId, diff: TenantPropertiesDiff, expected: Expected, bounds: Bounds = ALL
    ) -> JsonEntity | None:
        """Set and remove properties; of two changes at once neither is lost. None also for another version."""
        ...

    def delete(self, tenant_id: TenantId, expected: Expected, bounds: Bounds = ALL) -> bool:
        """Whether there was such a tenant in an expected version.

        Raises:
            ValidationError: it has participant profiles, in whatever state.
        """
        ...


class Tenants:
    """The use cases of tenants, for somebody who has ``access``.

    An id that is none is unknown like any other, and so is that of a tenant which one may not see: NotFoundError. What one
    may see and not do is a ForbiddenError, as is what one may do with no tenant at all.
    """

    def __init__(self, store: TenantStore, access: Access = EVERYTHING) -> None:
        self._store = store
        self._access = access

    def within(self, access: Access) -> Tenants:
        """See ``Bounded``."""
        return Tenants(self._store, access)

    def create(self, new: NewTenant) -> tuple[TenantId, JsonEntity]:
        self._access.require_all(Action.CREATE, Resource.TENANT)
        tenant_id = TenantId(str(uuid.uuid4()))
        return tenant_id, self._store.insert(Tenant(tenant_id, new.properties))

    def get(self, tenant_id: str) -> JsonEntity:
        return self._get(tenant_id, Action.READ)

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        bounds = self._access.require(Action.READ, Resource.TENANT)
        check_key(page)
        return self._store.select(parse(predicate), page, bounds)

    def change(self, tenant_id: str, diff: TenantPropertiesDiff, expected: Expected = ANY) -> JsonEntity:
        """Raises PreconditionFailedError: the tenant is not in an expected version."""
        bounds = self._access.require(Action.UPDATE, Resource.TENANT)
        if is_id(tenant_id) and (diff.properties or diff.removed):
            changed = self._store.change(TenantId(tenant_id), diff, expected, bounds)
            if changed is not None:
                return changed
        found = self._get(tenant_id, Action.UPDATE)
        expected.check(f"tenant {tenant_id}", found.version)
        return found

    def delete(self, tenant_id: str, expected: Expected = ANY) -> None:
        """Delete a tenant.

        Raises:
            ValidationError: it has participant profiles, in whatever state.
            PreconditionFailedError: it is not in an expected version.
        """
        bounds = self._access.require(Action.DELETE, Resource.TENANT)
        if not is_id(tenant_id) or not self._store.delete(TenantId(tenant_id), expected, bounds):
            expected.check(f"tenant {tenant_id}", self._get(tenant_id, Action.DELETE).version)

    def _get(self, tenant_id: str, action: Action) -> JsonEntity:
        """The tenant, if one may do ``action`` with it."""
        bounds = self._access.require(action, Resource.TENANT)
        found = self._find(tenant_id, bounds)
        if found is None:
            unknown = NotFoundError("tenant", tenant_id)
            raise self._access.why_not(
                action, Resource.TENANT, unknown, lambda reading: self._find(tenant_id, reading) is not None
            )
        return found

    def _find(self, tenant_id: str, bounds: Bounds) -> JsonEntity | None:
        return self._store.find(TenantId(tenant_id), bounds) if is_id(tenant_id) else None
