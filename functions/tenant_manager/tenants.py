"""The endpoints of tenants.

Source: CFM wire contract, section 3.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import TENANTS
from cfm_core.tenancy.tenants.service import Tenants
from cfm_core.tenancy.tenants.v1alpha1 import NewTenant, TenantPropertiesDiff
from cfm_core.web import answers, body, paging
from cfm_core.web.auth import TM_READ, TM_WRITE

PATH = "/api/v1alpha1/tenants"


@http_function("GET", PATH, scope=TM_READ, requires=[TENANTS])
def list_tenants(request: Request, tenants: Tenants) -> Response:
    """A page of all tenants."""
    page = paging.page_of(request)
    return answers.page(request, page, tenants.select("true", page))


@http_function("POST", PATH, scope=TM_WRITE, requires=[TENANTS])
def create_tenant(request: Request, tenants: Tenants) -> Response:
    """Create a tenant."""
    tenant_id, text = tenants.create(body.read(request, NewTenant))
    return answers.created(text, f"{PATH}/{tenant_id}")


@http_function("POST", PATH + "/query", scope=TM_READ, requires=[TENANTS])
def query_tenants(request: Request, tenants: Tenants) -> Response:
    """A page of the tenants that a predicate holds for."""
    query = body.read(request, paging.QueryRequest)
    page = query.page()
    return answers.page(request, page, tenants.select(query.predicate, page))


@http_function("GET", PATH + "/{tenant_id}", scope=TM_READ, requires=[TENANTS])
def get_tenant(request: Request, tenants: Tenants, tenant_id: str) -> Response:
    """One tenant."""
    return answers.json_text(tenants.get(tenant_id))


@http_function("PATCH", PATH + "/{tenant_id}", scope=TM_WRITE, requires=[TENANTS])
def change_tenant(request: Request, tenants: Tenants, tenant_id: str) -> Response:
    """Set and remove properties of a tenant. Repeated, it has the same effect."""
    return answers.json_text(tenants.change(tenant_id, body.read(request, TenantPropertiesDiff)))


@http_function("DELETE", PATH + "/{tenant_id}", scope=TM_WRITE, requires=[TENANTS])
def delete_tenant(request: Request, tenants: Tenants, tenant_id: str) -> Response:
    """Delete a tenant that has no participant profiles."""
    tenants.delete(tenant_id)
    return answers.empty()
