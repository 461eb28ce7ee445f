"""The endpoints of users, and of the roles that they have."""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import USERS
from cfm_core.tenancy.users.service import Users
from cfm_core.tenancy.users.v1alpha1 import NewUser, UserDiff, UserDocument
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/users"
USER = PATH + "/{user_id}"
ASSIGNMENT = USER + "/roles/{role_id}"


@http_function("GET", PATH, scope=TM_READ, rights=["read user"], requires=[USERS], lists=UserDocument)
def list_users(request: Request, users: Users, asked: Asked) -> Response:
    """A page of all users, or of those that a predicate holds for."""
    return answers.page(request, asked, users.select(asked.predicate, asked.page))


@http_function("POST", PATH + "/query", scope=TM_READ, rights=["read user"], requires=[USERS], lists=UserDocument)
def query_users(request: Request, users: Users, asked: Asked) -> Response:
    """A page of the users that a predicate holds for."""
    return answers.page(request, asked, users.select(asked.predicate, asked.page))


@http_function(
    "POST", PATH, scope=TM_WRITE, rights=["create user"], requires=[USERS], body=NewUser, gives={201: UserDocument}
)
def create_user(request: Request, users: Users, new: NewUser) -> Response:
    """Create a user."""
    user_id, user = users.create(new)
    return answers.created(request, user, f"{PATH}/{user_id}")


@http_function("GET", USER, scope=TM_READ, rights=["read user"], requires=[USERS], gives={200: UserDocument})
def get_user(request: Request, users: Users, user_id: str) -> Response:
    """One user."""
    return answers.entity(request, users.get(user_id))


@http_function(
    "PUT",
    USER,
    scope=TM_WRITE,
    rights=["update user"],
    requires=[USERS],
    body=NewUser,
    gives={200: UserDocument, 201: UserDocument},
)
def put_user(request: Request, users: Users, new: NewUser, user_id: str) -> Response:
    """Create a user with an id of the caller's, or replace it."""
    is_new, user = users.put(user_id, new, expected(request))
    return answers.created(request, user, f"{PATH}/{user_id}") if is_new else answers.entity(request, user)


@http_function(
    "PATCH", USER, scope=TM_WRITE, rights=["update user"], requires=[USERS], body=UserDiff, gives={200: UserDocument}
)
def change_user(request: Request, users: Users, diff: UserDiff, user_id: str) -> Response:
    """Change subject, name, roles, rights or properties of a user."""
    return answers.entity(request, users.change(user_id, diff, expected(request)))


@http_function("DELETE", USER, scope=TM_WRITE, rights=["delete user"], requires=[USERS])
def delete_user(request: Request, users: Users, user_id: str) -> Response:
    """Delete a user, who loses all roles."""
    users.delete(user_id, expected(request))
    return answers.empty()


@http_function(
    "PUT", ASSIGNMENT, scope=TM_WRITE, rights=["update user", "read role"], requires=[USERS], gives={200: UserDocument}
)
def assign_role(request: Request, users: Users, user_id: str, role_id: str) -> Response:
    """Give a user a role. Repeated, it has the same effect."""
    return answers.entity(request, users.assign(user_id, role_id, expected(request)))


@http_function(
    "DELETE", ASSIGNMENT, scope=TM_WRITE, rights=["update user"], requires=[USERS], gives={200: UserDocument}
)
def withdraw_role(request: Request, users: Users, user_id: str, role_id: str) -> Response:
    """Take a role from a user. Repeated, it has the same effect."""
    return answers.entity(request, users.withdraw(user_id, role_id, expected(request)))
