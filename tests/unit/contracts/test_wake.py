"""A row of the outbox travels in a datagram, and only those who have a manager's secret are believed."""

from __future__ import annotations

import pytest

from cfm_core.contracts import wake
from cfm_core.contracts.reply import OutboxRow

KEY = wake.key_of("the manager's")
ROW = OutboxRow(17, "event.cfm-orchestration", [{"id": "m-1", "data": {"name": "Jürgen"}}])


def test_a_row_arrives_as_it_was_sent() -> None:
    assert wake.opened(wake.sealed(ROW, KEY), KEY) == ROW


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"x",
        bytes(32),
        bytes(32) + b'{"id":1,"subject":"s","events":[]}',
        wake.sealed(ROW, wake.key_of("guessed")),
        wake.sealed(ROW, KEY)[:-1],
        wake.sealed(ROW, KEY).replace(b"m-1", b"m-2"),
    ],
)
def test_whatever_was_not_sealed_with_the_key_holds_no_row(datagram: bytes) -> None:
    assert wake.opened(datagram, KEY) is None
