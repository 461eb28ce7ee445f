"""The words for the state of what is deployed.

Source: CFM wire contract, section 6.
"""

from __future__ import annotations

from enum import StrEnum


class DeploymentState(StrEnum):
    """``initial``, ``locked`` and ``offline`` are for cells only; the managers never set them."""

    INITIAL = "initial"
    PENDING = "pending"
    ACTIVE = "active"
    DISPOSING = "disposing"
    DISPOSED = "disposed"
    LOCKED = "locked"
    OFFLINE = "offline"
    ERROR = "error"
