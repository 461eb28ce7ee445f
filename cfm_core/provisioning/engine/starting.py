"""Orchestrations that the Provision Manager starts by itself, in the transaction of what makes it do so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.engine.store import SQL
from cfm_core.store import outbox
from cfm_core.store.database import Transaction


def start(tx: Transaction, manifests: Sequence[Mapping[str, Any]]) -> tuple[list[OutboxRow], set[str]]:
    """Start those of ``manifests``, rows as ``manifest_row`` makes them, whose id no orchestration has.

    Returns:
        The rows of the outbox, leased to whoever called, and the ids that orchestrations have now. The others are of types
        that nobody defines.
    """
    if not manifests:
        return [], set()
    written = tx.rows(SQL["start"], manifests=json.dumps(manifests), lease=outbox.LEASE, answers=False)
    known = tx.rows(SQL["known"], ids=[one["id"] for one in manifests])
    return [OutboxRow(*row) for row in written], {id_ for (id_,) in known}
