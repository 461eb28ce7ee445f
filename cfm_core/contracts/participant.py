"""What earlier activities found out about a participant, wherever the orchestration's data have it.

Source: dataspace service contracts, section 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfm_core.contracts.orchestration import VPA_STATE

CONTEXT_ID = "participantContextId"


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
