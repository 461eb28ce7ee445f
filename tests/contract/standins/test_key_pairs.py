"""Key pairs of the stand-in IdentityHub, and its events, against sections 6.6, 11.8 and 12 of the contracts."""

from __future__ import annotations

from typing import Any

import pytest

from local.standins.events import envelope
from tests.contract.standins.conftest import Platform
from tests.contract.standins.test_edc import DID, HUB, PARTICIPANT

PAIRS = f"{HUB}/pc/keypairs"
NEW = {
    "resourceId": "second",
    "keyId": f"{DID}#key2",
    "privateKeyAlias": "beta",
    "keyGeneratorParams": {"algorithm": "EDDSA"},
    "active": True,
    "usage": ["sign_token"],
}


def participant(platform: Platform) -> str:
    """A participant whose first key is active; gives an administrator's token."""
    token = platform.token("pc", "identity-api:admin")
    platform.call("POST", HUB, PARTICIPANT, bearer=token)
    platform.now = 1
    pairs(platform, token)
    return token


def pairs(platform: Platform, token: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = platform.call("GET", PAIRS, bearer=token).json()
    return found


def states(platform: Platform, token: str) -> dict[str, int]:
    return {one["keyId"].partition("#")[2]: one["state"] for one in pairs(platform, token)}


def about(platform: Platform) -> list[str]:
    return [name for name, _ in platform.events]


def test_a_key_pair_shows_what_the_contract_lists(platform: Platform) -> None:
    token = participant(platform)
    (pair,) = pairs(platform, token)
    assert set(pair) == {
        *("id", "participantContextId", "keyId", "keyContext", "groupName", "defaultPair", "useDuration"),
        *("rotationDuration", "serializedPublicKey", "privateKeyAlias", "state", "timestamp", "usage"),
    }
    assert pair["usage"] == ["sign_credentials", "sign_presentation", "sign_token"]
    assert (pair["defaultPair"], pair["useDuration"]) == (True, 15_552_000_000)
    assert platform.call("GET", f"{PAIRS}/{pair['id']}", bearer=token).json() == pair
    assert platform.call("GET", f"{PAIRS}/unknown", bearer=token).status_code == 404
    assert platform.call("GET", f"{HUB}/other/keypairs/{pair['id']}", bearer=token).status_code == 404


def test_another_key_pair_becomes_active_late_and_the_default_at_once(platform: Platform) -> None:
    token = participant(platform)
    assert platform.call("PUT", f"{PAIRS}?makeDefault=true", NEW, bearer=token).status_code == 204
    assert states(platform, token) == {"key1": 200, "key2": 100}
    assert [one["defaultPair"] for one in pairs(platform, token)] == [False, True]
    platform.now = 2
    assert states(platform, token) == {"key1": 200, "key2": 200}
    first, second = pairs(platform, token)
    assert first["timestamp"] < second["timestamp"]
    assert (second["id"], second["privateKeyAlias"]) == ("second", "participant_pc_beta")


def test_a_key_id_or_resource_id_that_is_taken_is_409(platform: Platform) -> None:
    token = participant(platform)
    platform.call("PUT", PAIRS, NEW, bearer=token)
    for body in (NEW | {"resourceId": "third"}, NEW | {"keyId": f"{DID}#key3"}):
        answer = platform.call("PUT", PAIRS, body, bearer=token)
        assert (answer.status_code, answer.json()[0]["type"]) == (409, "ObjectConflict")


def test_a_key_pair_that_is_not_active_waits_to_be_activated_once(platform: Platform) -> None:
    token = participant(platform)
    platform.call("PUT", PAIRS, NEW | {"active": False}, bearer=token)
    platform.now = 9
    assert states(platform, token)["key2"] == 100
    assert platform.call("POST", f"{PAIRS}/second/activate", bearer=token).status_code == 204
    assert states(platform, token)["key2"] == 200
    answer = platform.call("POST", f"{PAIRS}/second/activate", bearer=token)
    assert (answer.status_code, answer.json()[0]["type"]) == (400, "InvalidRequest")


def test_rotating_makes_a_new_version_under_the_same_name(platform: Platform) -> None:
    token = participant(platform)
    (old,) = pairs(platform, token)
    assert platform.call("POST", f"{PAIRS}/{old['id']}/rotate?duration=5000", bearer=token).status_code == 204
    platform.now = 2
    assert states(platform, token) == {"key1": 300, "key1-v2": 200}
    first, second = pairs(platform, token)
    assert (first["rotationDuration"], first["privateKeyAlias"]) == (5000, second["privateKeyAlias"])
    assert platform.call("POST", f"{PAIRS}/{old['id']}/rotate", bearer=token).status_code == 400
    assert about(platform) == [
        *("participantcontext.created", "keypair.added", "keypair.activated"),
        *("keypair.rotated", "keypair.added", "keypair.activated"),
    ]


def test_revoking_a_key_pair_says_no_more_than_that(platform: Platform) -> None:
    token = participant(platform)
    (old,) = pairs(platform, token)
    platform.events.clear()
    assert platform.call("POST", f"{PAIRS}/{old['id']}/revoke", bearer=token).status_code == 204
    assert platform.call("POST", f"{PAIRS}/{old['id']}/revoke", bearer=token).status_code == 400
    assert states(platform, token) == {"key1": 400}
    assert about(platform) == ["keypair.revoked"]


def test_revoking_with_a_successor_makes_that_too(platform: Platform) -> None:
    token = participant(platform)
    (old,) = pairs(platform, token)
    platform.events.clear()
    assert platform.call("POST", f"{PAIRS}/{old['id']}/revoke", NEW, bearer=token).status_code == 204
    platform.now = 2
    assert states(platform, token) == {"key1": 400, "key2": 200}
    assert about(platform) == ["keypair.revoked", "keypair.added", "keypair.activated"]
    assert platform.events[0][1]["newKeyDescriptor"] == NEW


@pytest.mark.parametrize("action", ["activate", "rotate", "revoke"])
def test_a_key_pair_that_is_unknown_is_404(platform: Platform, action: str) -> None:
    token = participant(platform)
    assert platform.call("POST", f"{PAIRS}/unknown/{action}", bearer=token).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"keyId": ""},
        {"privateKeyAlias": "under_score"},
        {"publicKeyPem": "x"},
        {"keyGeneratorParams": None, "publicKeyPem": "x"},
        {"usage": []},
        {"usage": ["sign_cheques"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["add", "rotate", "revoke"])
def test_a_new_key_pair_needs_its_fields(platform: Platform, how: str, change: dict[str, Any]) -> None:
    token = participant(platform)
    (old,) = pairs(platform, token)
    body = NEW | change
    if how == "add":
        answer = platform.call("PUT", PAIRS, body, bearer=token)
    else:
        answer = platform.call("POST", f"{PAIRS}/{old['id']}/{how}", body, bearer=token)
    assert (answer.status_code, answer.json()[0]["type"]) == (400, "ValidationFailure")
    assert states(platform, token) == {"key1": 200}


def test_reading_needs_one_scope_and_writing_another(platform: Platform) -> None:
    token = participant(platform)
    (old,) = pairs(platform, token)
    reader, writer = platform.token("pc", "read"), platform.token("pc", "write")
    assert platform.call("GET", PAIRS, bearer=reader).status_code == 200
    assert platform.call("PUT", PAIRS, NEW, bearer=reader).status_code == 403
    for action in ("activate", "rotate", "revoke"):
        assert platform.call("POST", f"{PAIRS}/{old['id']}/{action}", bearer=reader).status_code == 403
    assert platform.call("PUT", PAIRS, NEW, bearer=writer).status_code == 204


def test_key_pairs_are_paged(platform: Platform) -> None:
    token = participant(platform)
    for number in range(60):
        body = NEW | {"resourceId": f"r{number}", "keyId": f"{DID}#k{number}"}
        assert platform.call("PUT", PAIRS, body, bearer=token).status_code == 204
    assert len(pairs(platform, token)) == 50
    assert len(platform.call("GET", f"{PAIRS}?offset=50&limit=50", bearer=token).json()) == 11


def test_a_participants_end_revokes_its_keys_and_is_announced_last(platform: Platform) -> None:
    token = participant(platform)
    platform.events.clear()
    platform.call("DELETE", f"{HUB}/pc", bearer=token)
    assert about(platform) == ["participantcontext.deleting", "keypair.revoked", "participantcontext.deleted"]
    assert platform.events[-1][1] == {"participantContextId": "pc"}


def test_an_event_shows_the_key_pair_as_it_was_then(platform: Platform) -> None:
    participant(platform)
    (_, added), (_, activated) = platform.events[1:3]
    for data in (added, activated):
        assert (data["participantContextId"], data["keyId"]) == ("pc", f"{DID}#key1")
        assert data["publicKeySerialized"] == data["keyPairResource"]["serializedPublicKey"]
    assert (added["keyPairResource"]["state"], activated["keyPairResource"]["state"]) == (100, 200)
    assert ("type" in added, "keyType" in added) == (True, False)
    assert ("type" in activated, "keyType" in activated) == (False, True)


def test_the_envelope_is_a_cloud_event_whose_type_is_a_class() -> None:
    one = envelope("keypair.activated", {"participantContextId": "pc"})
    assert one["type"] == "org.eclipse.edc.identityhub.spi.keypair.events.KeyPairActivated"
    assert (one["specversion"], one["datacontenttype"]) == ("1.0", "application/json")
    assert one["time"].endswith("Z")
    assert envelope("participantcontext.deleted", {})["type"].endswith(".ParticipantContextDeleted")
