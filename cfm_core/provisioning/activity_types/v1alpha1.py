"""Activity types as JSON of API version v1alpha1."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.entities import JsonEntity, json_of
from cfm_core.provisioning.activity_types.model import ActivityType
from cfm_core.provisioning.orchestrations.v1alpha1 import Instant, instant


class CountsDocument(Document):
    """How many activities of a type and tenant are in which state, beside those that are blocked or have ended."""

    tenant_id: str = ""
    """Left out for runs that name no tenant."""
    states: dict[str, int]


class ActivityTypeDocument(Document):
    """An activity type as an operator sees it; limits and times are left out where there are none."""

    type: str
    version: int
    status: str
    """``paused`` by an operator, ``closed`` by failures, ``no-agent``, or ``open``."""
    concurrency: int | None = None
    concurrency_per_tenant: int | None = None
    failures: int
    """How many its agents have reported since the last success."""
    probe_at: Instant | None = None
    """When one activity is sent although its failures have closed it."""
    counts: list[CountsDocument] = Field(default_factory=list)


def to_json(one: ActivityType) -> dict[str, Any]:
    document = {
        "type": one.type,
        "version": one.version,
        "status": _status(one),
        "concurrency": one.concurrency,
        "concurrencyPerTenant": one.concurrency_per_tenant,
        "failures": one.failures,
        "probeAt": one.probe_at and instant(one.probe_at),
        "counts": [
            ({"tenantId": tenant} if tenant else {}) | {"states": {state.lower(): n for state, n in of_tenant.items()}}
            for tenant, of_tenant in sorted(one.counts.items())
        ],
    }
    return {name: value for name, value in document.items() if value is not None}


def to_entity(one: ActivityType) -> JsonEntity:
    return JsonEntity(one.version, json_of(to_json(one)))


def _status(one: ActivityType) -> str:
    if one.paused:
        return "paused"
    if one.probe_at is not None:
        return "closed"
    return "open" if one.has_agent else "no-agent"
