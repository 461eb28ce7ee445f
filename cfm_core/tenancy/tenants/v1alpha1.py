"""Tenants as API version v1alpha1 reads and shows them.

Source: CFM wire contract, section 5.1.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.tenancy.tenants.model import Tenant


class TenantDocument(Document):
    """A tenant as it is shown; ``properties`` are left out where there are none."""

    id: str
    version: int
    properties: dict[str, Any] = Field(default_factory=dict)


class NewTenant(Document):
    properties: dict[str, Any] = Field(default_factory=dict)


class TenantPropertiesDiff(Document):
    """``removed`` wins over ``properties``; a null is a value like any other."""

    properties: dict[str, Any] = Field(default_factory=dict)
    removed: list[str] = Field(default_factory=list)


def shown(tenant: Tenant) -> dict[str, Any]:
    """``tenant`` as the API shows it; the database's ``tenant_json`` gives the same."""
    document: dict[str, Any] = {"id": tenant.id, "version": tenant.version}
    if tenant.properties:
        document["properties"] = dict(tenant.properties)
    return document
