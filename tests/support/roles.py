"""The roles of the tests' databases: those of the template that each of them is copied from."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from cfm_core.settings import Settings
from cfm_core.store.roles import Role

TEMPLATE = "template"
PASSWORDS = {role: f"password-of-{role}" for role in Role}


def as_role(role: Role, url: str) -> str:
    """How ``role`` connects to the database that the administrator reaches by ``url``."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role.called(TEMPLATE)}:{PASSWORDS[role]}@{where}").geturl()


def with_roles(settings: Settings, url: str) -> Settings:
    """The settings of a process that serves both managers and looks after the tables."""
    return replace(
        settings,
        tenant_manager_database_url=as_role(Role.TENANT_MANAGER, url),
        provision_manager_database_url=as_role(Role.PROVISION_MANAGER, url),
        maintenance_database_url=as_role(Role.MAINTENANCE, url),
    )
