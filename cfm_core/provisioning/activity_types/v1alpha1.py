"""Activity types as JSON of API version v1alpha1."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cfm_core.contracts.documents import Document
from cfm_core.contracts.instants import Instant, instant
from cfm_core.entities import JsonEntity, json_of
from cfm_core.provisioning.activity_types.model import ActivityType
from cfm_core.provisioning.definitions.model import Rate
from cfm_core.provisioning.definitions.v1alpha1 import RateDocument


class CountsDocument(Document):
    """How many activities of a type and tenant are in which state, beside those that are blocked or have ended."""

    tenant_id: str = ""
    """Left out for runs that name no tenant."""
    states: dict[str, int]
    rate_opens_at: Instant | None = None
    """When the rates of the type let the tenant's next one through, where what is queued has to wait for that."""


class ActivityTypeDocument(Document):
    """An activity type as an operator sees it; limits and times are left out where there are none."""

    type: str
    version: int
    status: str
    """``paused`` by an operator, ``closed`` by failures, ``no-agent``, ``rate-limited``, or ``open``."""
    status_reason: str = ""
    """Why nothing is sent; left out for one that is open."""
    concurrency: int | None = None
    concurrency_per_tenant: int | None = None
    rate: RateDocument | None = None
    rate_per_tenant: RateDocument | None = None
    rate_opens_at: Instant | None = None
    """When the rate, which is used up, lets the next one through."""
    failures: int
    """How many its agents have reported since the last success."""
    probe_at: Instant | None = None
    """When one activity is sent although its failures have closed it."""
    counts: list[CountsDocument] = Field(default_factory=list)


def to_json(one: ActivityType) -> dict[str, Any]:
    status, reason = _status(one)
    document = {
        "type": one.type,
        "version": one.version,
        "status": status,
        "statusReason": reason or None,
        "concurrency": one.concurrency,
        "concurrencyPerTenant": one.concurrency_per_tenant,
        "rate": _rate(one.rate),
        "ratePerTenant": _rate(one.rate_per_tenant),
        "rateOpensAt": one.rate_opens_at and instant(one.rate_opens_at),
        "failures": one.failures,
        "probeAt": one.probe_at and instant(one.probe_at),
        "counts": [_counts(one, tenant) for tenant in sorted(one.counts)],
    }
    return {name: value for name, value in document.items() if value is not None}


def to_entity(one: ActivityType) -> JsonEntity:
    return JsonEntity(one.version, json_of(to_json(one)))


def _counts(one: ActivityType, tenant: str) -> dict[str, Any]:
    opens_at = one.tenant_rates_open_at.get(tenant)
    return {
        **({"tenantId": tenant} if tenant else {}),
        "states": {state.lower(): n for state, n in one.counts[tenant].items()},
        **({"rateOpensAt": instant(opens_at)} if opens_at else {}),
    }


def _rate(rate: Rate | None) -> dict[str, Any] | None:
    document = RateDocument.of(rate)
    return None if document is None else document.model_dump(mode="json", by_alias=True)


def _status(one: ActivityType) -> tuple[str, str]:
    if one.paused:
        return "paused", "nothing is sent until it is resumed"
    if one.probe_at is not None:
        return "closed", f"{one.failures} failures without a success; one is sent as a probe at {instant(one.probe_at)}"
    if not one.has_agent:
        return "no-agent", "no agent has announced itself"
    if one.rate_opens_at is not None:
        return (
            "rate-limited",
            f"as many as its rate allows were sent; the next one goes out at {instant(one.rate_opens_at)}",
        )
    return "open", ""
