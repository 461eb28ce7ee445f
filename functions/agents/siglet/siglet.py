"""The agent of the Siglet data plane.

Source: dataspace service contracts, section 11.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity
from cfm_core.clients.assembly import CONTROL_PLANE, DATASPACE_SETTINGS, SIGLET
from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.edc import TornDownError
from cfm_core.clients.settings import DataspaceSettings
from cfm_core.clients.siglet import Siglet
from cfm_core.contracts.participant import CONTEXT_ID, recorded
from cfm_core.errors import FatalError
from cfm_core.keys.signing import sign_with

DATA_PLANE_VPA = "cfm.dataplane"
TRANSFER_TYPES = "transferTypeMappings"
"""The VPA's property: transfer types by name, as Siglet takes them."""

_TOKEN_SOURCES = ("provider", "client")


class Participant(BaseModel):
    context: str = Field(alias=CONTEXT_ID, min_length=1)


@activity(
    "siglet-activity", requires=[SIGLET, CONTROL_PLANE, DATASPACE_SETTINGS], timeout=timedelta(seconds=45), batch=16
)
class SigletActivity:
    """Makes Siglet the participant's data plane, for the transfer types of its VPA; disposes of that."""

    def __init__(self, siglet: Siglet, control_plane: ControlPlane, settings: DataspaceSettings) -> None:
        self._siglet = siglet
        self._control_plane = control_plane
        self._signaling = settings.required("siglet_signaling_url")

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Tell Siglet the transfer types, then the control plane of Siglet. Safe to repeat."""
        mappings = _transfer_types(ctx)
        if not mappings:
            return Complete()
        context = ctx.read(Participant).context
        self._siglet.put_transfer_types(context, mappings)
        self._control_plane.put_data_plane(
            context, _data_plane_id(context), f"{self._signaling}/api/v1/{context}/dataflows", mappings.keys()
        )
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Let no data flow begin any more, then forget the transfer types and the key. Safe to repeat."""
        context = recorded(ctx.values, CONTEXT_ID)
        if context is None:
            return Complete()
        try:
            self._control_plane.delete_data_plane(context, _data_plane_id(context))
            self._siglet.delete_transfer_types(context)
            # Whoever follows the keys hears of the participant's end when nobody gets a token for it any more.
            sign_with(self._siglet, self._control_plane, context, None)
        except TornDownError as gone:
            ctx.log.warning("nothing to dispose of: %s", gone)
        return Complete()


def _data_plane_id(context: str) -> str:
    return f"{context}-siglet"


def _transfer_types(ctx: ActivityContext) -> dict[str, dict[str, Any]]:
    """The transfer types of the data plane VPA, complete; none where there is no such VPA, or it has none.

    Raises:
        FatalError: they are not what Siglet takes; the text says where.
    """
    given = (ctx.vpa_properties(DATA_PLANE_VPA) or {}).get(TRANSFER_TYPES) or {}
    if not isinstance(given, Mapping):
        raise _wrong("", "is not an object")
    return {name: _transfer_type(name, one) for name, one in given.items()}


def _transfer_type(name: str, given: Any) -> dict[str, Any]:
    """One of them. What Siglet knows beyond the fields that are looked at here goes through as it is."""
    if not isinstance(given, Mapping):
        raise _wrong(f".{name}", "is not an object")
    for camel, snake in (("transferType", "transfer_type"), ("endpointType", "endpoint_type")):
        value = given.get(camel, given.get(snake))
        if not isinstance(value, str) or not value:
            raise _wrong(f".{name}.{camel}", "is missing or no text")
    source = given.get("tokenSource", given.get("token_source", _TOKEN_SOURCES[0]))
    if source not in _TOKEN_SOURCES:
        raise _wrong(f".{name}.tokenSource", f"is none of {', '.join(_TOKEN_SOURCES)}")
    default = {} if "token_source" in given else {"tokenSource": source}
    return {**given, **default}


def _wrong(where: str, what: str) -> FatalError:
    return FatalError(f"VPA {DATA_PLANE_VPA}: property {TRANSFER_TYPES}{where} {what}")
