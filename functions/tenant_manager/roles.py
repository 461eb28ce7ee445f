"""The endpoints of roles."""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import ROLES
from cfm_core.tenancy.roles.service import Roles
from cfm_core.tenancy.roles.v1alpha1 import NewRole, RoleDiff, RoleDocument
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/roles"
ROLE = PATH + "/{role_id}"


@http_function("GET", PATH, scope=TM_READ, rights=["read role"], requires=[ROLES], lists=RoleDocument)
def list_roles(request: Request, roles: Roles, asked: Asked) -> Response:
    """A page of all roles, or of those that a predicate holds for."""
    return answers.page(request, asked, roles.select(asked.predicate, asked.page))


@http_function("POST", PATH + "/query", scope=TM_READ, rights=["read role"], requires=[ROLES], lists=RoleDocument)
def query_roles(request: Request, roles: Roles, asked: Asked) -> Response:
    """A page of the roles that a predicate holds for."""
    return answers.page(request, asked, roles.select(asked.predicate, asked.page))


@http_function(
    "POST", PATH, scope=TM_WRITE, rights=["create role"], requires=[ROLES], body=NewRole, gives={201: RoleDocument}
)
def create_role(request: Request, roles: Roles, new: NewRole) -> Response:
    """Create a role."""
    role_id, role = roles.create(new)
    return answers.created(request, role, f"{PATH}/{role_id}")


@http_function("GET", ROLE, scope=TM_READ, rights=["read role"], requires=[ROLES], gives={200: RoleDocument})
def get_role(request: Request, roles: Roles, role_id: str) -> Response:
    """One role."""
    return answers.entity(request, roles.get(role_id))


@http_function(
    "PUT",
    ROLE,
    scope=TM_WRITE,
    rights=["update role"],
    requires=[ROLES],
    body=NewRole,
    gives={200: RoleDocument, 201: RoleDocument},
)
def put_role(request: Request, roles: Roles, new: NewRole, role_id: str) -> Response:
    """Create a role with an id of the caller's, or replace it."""
    is_new, role = roles.put(role_id, new, expected(request))
    return answers.created(request, role, f"{PATH}/{role_id}") if is_new else answers.entity(request, role)


@http_function(
    "PATCH", ROLE, scope=TM_WRITE, rights=["update role"], requires=[ROLES], body=RoleDiff, gives={200: RoleDocument}
)
def change_role(request: Request, roles: Roles, diff: RoleDiff, role_id: str) -> Response:
    """Change name, description, rights or properties of a role, for all who have it."""
    return answers.entity(request, roles.change(role_id, diff, expected(request)))


@http_function("DELETE", ROLE, scope=TM_WRITE, rights=["delete role"], requires=[ROLES])
def delete_role(request: Request, roles: Roles, role_id: str) -> Response:
    """Delete a role that no user has."""
    roles.delete(role_id, expected(request))
    return answers.empty()
