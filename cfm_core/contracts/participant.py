"""What earlier activities found out about a participant, wherever the orchestration's data have it.

Source: dataspace service contracts, section 1.2.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cfm_core.contracts.orchestration import VPA_STATE, compensated_id

CONTEXT_ID = "participantContextId"
HOLDER_PID = "holderPid"
"""The id of its first request for credentials."""

_NAMESPACE = uuid.UUID("5d9a7f0e-3d5b-5d0b-9a3a-6f6d2b7a5c11")


def recorded(values: Mapping[str, Any], key: str) -> str | None:
    """The text that a deploy recorded under ``key``, or None.

    While it runs, and when it is compensated, it stands among the values; when a user disposes of the participant, it
    stands among the outputs of the deploy, which are one value.
    """
    state = values.get(VPA_STATE)
    for place in (values, state if isinstance(state, Mapping) else {}):
        value = place.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def context_id(values: Mapping[str, Any], orchestration_id: str) -> str:
    """The participant context's id: the recorded one, else derived from the deploy, so that each attempt finds the same."""
    return recorded(values, CONTEXT_ID) or uuid.uuid5(_NAMESPACE, compensated_id(orchestration_id)).hex
