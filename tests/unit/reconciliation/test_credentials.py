"""Which credentials are needed, which one counts, and when it is asked for anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cfm_core.clients.identity_hub import HeldCredential
from cfm_core.clients.tenant_manager import NeededCredential, ParticipantRecord
from cfm_core.reconciliation.credentials import Renewal, held_for, needed, renewal_of

DAY = timedelta(days=1)
ISSUED = datetime(2026, 7, 1, tzinfo=UTC)
MEMBER = NeededCredential("member-def", "Member", "VC1_0_JWT", "did:web:issuer")
MAKER = NeededCredential("maker-def", "Maker", "VC1_0_JWT", "did:web:issuer", "maker")
RECORD = ParticipantRecord(
    "p", "t", "did:web:acme", ("a", "b"), {"b": ("maker",)}, (), {"participantContextId": "pc", "holderPid": "first"}
)


def held(
    name: str, days: float | None = 7, kind: NeededCredential = MEMBER, issued: datetime = ISSUED
) -> HeldCredential:
    expires = None if days is None else issued + days * DAY
    return HeldCredential(
        name, f"urn:{name}", kind.issuer_did, ("VerifiableCredential", kind.type), kind.format, issued, expires
    )


def renewal(days: float = 7, before: timedelta | None = None) -> Renewal:
    found = renewal_of(held("c", days), before)
    assert found is not None
    return found


def test_what_is_for_everybody_and_for_its_roles_is_needed_once() -> None:
    plain_maker = replace(MAKER, role="")
    other_role = replace(MAKER, id="other", role="carrier")
    assert needed(RECORD, {"a": [MEMBER, MAKER], "b": [MEMBER, MAKER, other_role], "c": [other_role]}) == (
        MEMBER,
        plain_maker,
    )
    assert needed(RECORD, {}) == ()


def test_the_one_that_ends_last_counts() -> None:
    old, new, endless = held("old", 3), held("new", 7), held("endless", None)
    other = held("other", 9, MAKER)
    foreign = replace(held("foreign", 9), issuer_did="did:web:else")
    assert held_for(MEMBER, [MEMBER], [old, other, new, foreign]) == [new, old]
    assert held_for(MEMBER, [MEMBER], [new, endless, old]) == [endless, new, old]


def test_the_format_counts_only_where_it_tells_two_needs_apart() -> None:
    jose = replace(MEMBER, format="VC2_0_JOSE")
    other_name = replace(held("c"), format="vc11-sl2021/jwt")
    assert held_for(MEMBER, [MEMBER], [other_name]) == [other_name]
    assert held_for(jose, [MEMBER, jose], [held("c")]) == []
    assert held_for(MEMBER, [MEMBER, jose], [held("c")]) == [held("c")]


@pytest.mark.parametrize(
    ("life", "before", "expected"),
    [
        (9, None, 6),
        (9, 2 * DAY, 7),
        (9, 4 * DAY, 5),
        # Never so early that a fresh credential would be asked for anew.
        (9, 30 * DAY, 4.5),
        (0.5, 1 * DAY, 0.25),
    ],
)
def test_a_renewal_begins_before_the_end(life: float, before: timedelta | None, expected: float) -> None:
    assert renewal(life, before).begins_at == ISSUED + expected * DAY


def test_what_never_ends_is_never_renewed() -> None:
    assert renewal_of(held("c", None), None) is None


def test_a_credential_that_ends_before_it_begins_has_a_renewal_all_the_same() -> None:
    assert renewal(-1).attempt(ISSUED) >= 0


def test_attempts_become_seldom_and_go_on_after_the_end() -> None:
    of_week = renewal(96)
    times: dict[int, float] = {}
    for hours in range(-24, 32 * 24 + 64 * 24, 1):
        times.setdefault(of_week.attempt(of_week.begins_at + timedelta(hours=hours)), hours / 24)
    assert times == {-1: -1, 0: 0, 1: 1, 2: 3, 3: 7, 4: 15, 5: 31, 6: 47, 7: 63, 8: 79, 9: 95}


def test_it_is_late_when_half_of_the_time_has_passed() -> None:
    week = renewal(9)
    assert not week.is_late(ISSUED + 7.4 * DAY)
    assert week.is_late(ISSUED + 7.5 * DAY)


def test_a_request_has_the_same_id_whoever_makes_it_and_another_for_each_attempt_credential_and_deployment() -> None:
    one, left = renewal(), {"participantContextId": "pc", "holderPid": "first"}
    assert one.request_id(left, 0) == renewal().request_id(left | {"more": "x"}, 0)
    ids = [
        one.request_id(left, 0),
        one.request_id(left, 1),
        replace(one, credential=held("d")).request_id(left, 0),
        one.request_id(left | {"holderPid": "again"}, 0),
        one.request_id({"participantContextId": "pc"}, 0),
        one.request_id({"participantContextId": "pc2"}, 0),
    ]
    assert len(set(ids)) == len(ids)


def test_the_requests_of_the_last_attempts_are_awaited() -> None:
    of_week = renewal(96)
    assert list(of_week.awaited(of_week.begins_at - DAY)) == []
    assert list(of_week.awaited(of_week.begins_at + 3 * DAY)) == [2, 1, 0]
    assert list(of_week.awaited(of_week.begins_at + 31 * DAY)) == [5, 4, 3, 2]
