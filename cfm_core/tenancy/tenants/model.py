"""A tenant, and how its properties change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NewType

TenantId = NewType("TenantId", str)


@dataclass(frozen=True, slots=True)
class Tenant:
    id: TenantId
    properties: Mapping[str, Any]
    version: int = 0


def changed(tenant: Tenant, properties: Mapping[str, Any], removed: Iterable[str]) -> Tenant:
    """``tenant`` with ``properties`` set key by key, then without the keys ``removed``."""
    gone = frozenset(removed)
    merged = {**tenant.properties, **properties}
    return replace(
        tenant,
        version=tenant.version + 1,
        properties={key: value for key, value in merged.items() if key not in gone},
    )
