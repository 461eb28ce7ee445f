"""The endpoints of tenants.

Source: CFM wire contract, section 3.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import TENANTS
from cfm_core.tenancy.tenants.service import Tenants
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantDocument, TenantPropertiesDiff
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/tenants"


@http_function("GET", PATH, scope=TM_READ, rights=["read tenant"], requires=[TENANTS], lists=TenantDocument)
def list_tenants(request: Request, tenants: Tenants, asked: Asked) -> Response:
    """A page of all tenants, or of those that a predicate holds for."""
    return answers.page(request, asked, tenants.select(asked.predicate, asked.page))


@http_function(
    "POST",
    PATH,
    scope=TM_WRITE,
    rights=["create tenant"],
    requires=[TENANTS],
    body=NewTenant,
    gives={201: TenantDocument},
)
def create_tenant(request: Request, tenants: Tenants, new: NewTenant) -> Response:
    """Create a tenant."""
    tenant_id, tenant = tenants.create(new)
    return answers.created(request, tenant, f"{PATH}/{tenant_id}")


@http_function("POST", PATH + "/query", scope=TM_READ, rights=["read tenant"], requires=[TENANTS], lists=TenantDocument)
def query_tenants(request: Request, tenants: Tenants, asked: Asked) -> Response:
    """A page of the tenants that a predicate holds for."""
    return answers.page(request, asked, tenants.select(asked.predicate, asked.page))


@http_function(
    "GET", PATH + "/{tenant_id}", scope=TM_READ, rights=["read tenant"], requires=[TENANTS], gives={200: TenantDocument}
)
def get_tenant(request: Request, tenants: Tenants, tenant_id: str) -> Response:
    """One tenant."""
    return answers.entity(request, tenants.get(tenant_id))


@http_function(
    *("PATCH", PATH + "/{tenant_id}"),
    scope=TM_WRITE,
    rights=["update tenant"],
    requires=[TENANTS],
    body=TenantPropertiesDiff,
    gives={200: TenantDocument},
)
def change_tenant(request: Request, tenants: Tenants, diff: TenantPropertiesDiff, tenant_id: str) -> Response:
    """Set and remove properties of a tenant. Repeated, it has the same effect."""
    return answers.entity(request, tenants.change(tenant_id, diff, expected(request)))


@http_function("DELETE", PATH + "/{tenant_id}", scope=TM_WRITE, rights=["delete tenant"], requires=[TENANTS])
def delete_tenant(request: Request, tenants: Tenants, tenant_id: str) -> Response:
    """Delete a tenant that has no participant profiles."""
    tenants.delete(tenant_id, expected(request))
    return answers.empty()
