"""The IdentityHub client's operations on key pairs, and Siglet's, each repeated, interrupted and refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from cfm_core.clients.assembly import IDENTITY_HUB, SIGLET
from cfm_core.clients.identity_hub import IdentityHub, KeyState, NewKeyPair
from cfm_core.clients.siglet import KeyMapping, Siglet
from cfm_core.errors import FatalError, RecoverableError
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.jwtlet.jwtlet import JwtletActivity
from tests.integration.agents.conftest import DID, World

NEW = NewKeyPair(f"{DID}#key2", "beta", usage=("sign_token",), resource_id="second")
KEY = KeyMapping("participant_pc_a", f"{DID}#key1")
PULL = {"pull": {"transferType": "HttpData-PULL", "endpointType": "HTTP"}}


def hub(world: World) -> IdentityHub:
    return world.assembler.ensure([IDENTITY_HUB]).resolve(IDENTITY_HUB)


def siglet(world: World) -> Siglet:
    return world.assembler.ensure([SIGLET]).resolve(SIGLET)


def participant(world: World) -> str:
    """The context of a participant at the IdentityHub, whose key is active."""
    return str(world.deployed(IdentityhubActivity).values["participantContextId"])


def mapped(world: World) -> str:
    """The context of a participant that has a mapping only."""
    return str(world.deployed(JwtletActivity).values["participantContextId"])


def states(world: World, context: str) -> dict[str, KeyState]:
    return {pair.key_id.partition("#")[2]: pair.state for pair in hub(world).key_pairs(context)}


def test_a_key_pair_is_read_with_all_that_matters(world: World) -> None:
    context = participant(world)
    (pair,) = hub(world).key_pairs(context)
    assert (pair.key_id, pair.state, pair.signs_tokens) == (f"{DID}#key1", KeyState.ACTIVATED, True)
    assert pair.alias.startswith(f"participant_{context}_")
    assert pair.timestamp > 0
    assert hub(world).find_key_pair(context, pair.id) == pair
    assert hub(world).find_key_pair(context, "unknown") is None


def test_adding_a_key_pair_twice_is_adding_it_once(world: World) -> None:
    context = participant(world)
    for _ in range(2):
        hub(world).add_key_pair(context, NEW)
    assert states(world, context) == {"key1": KeyState.ACTIVATED, "key2": KeyState.ACTIVATED}


def test_an_id_that_another_key_has_is_a_conflict(world: World) -> None:
    context = participant(world)
    hub(world).add_key_pair(context, NEW)
    with pytest.raises(FatalError, match="answered 409"):
        hub(world).add_key_pair(context, NewKeyPair(f"{DID}#key3", "gamma", resource_id="second"))


@pytest.mark.parametrize(
    ("move", "state"),
    [
        (lambda hub, context: hub.activate_key_pair(context, "second"), KeyState.ACTIVATED),
        (
            lambda hub, context: hub.rotate_key_pair(context, "second", for_another=timedelta(seconds=5)),
            KeyState.ROTATED,
        ),
        (lambda hub, context: hub.revoke_key_pair(context, "second"), KeyState.REVOKED),
    ],
    ids=["activate", "rotate", "revoke"],
)
def test_moving_a_key_pair_may_be_repeated(
    world: World, move: Callable[[IdentityHub, str], None], state: KeyState
) -> None:
    context = participant(world)
    active = state is KeyState.ROTATED
    hub(world).add_key_pair(context, NewKeyPair(f"{DID}#key2", "beta", active=active, resource_id="second"))
    world.fault("identityhub", method="POST", path="/second/", times=1, drop=True, afterEffect=True)
    with pytest.raises(RecoverableError):
        move(hub(world), context)
    for _ in range(2):
        move(hub(world), context)
    assert states(world, context)["key2"] is state


def test_a_state_that_forbids_it_is_fatal_with_the_servers_words(world: World) -> None:
    context = participant(world)
    hub(world).add_key_pair(context, NEW)
    hub(world).revoke_key_pair(context, "second")
    with pytest.raises(FatalError, match="wrong state: 400"):
        hub(world).activate_key_pair(context, "second")


def test_a_successor_is_made_with_the_revocation(world: World) -> None:
    context = participant(world)
    (old,) = hub(world).key_pairs(context)
    hub(world).revoke_key_pair(context, old.id, NEW)
    assert states(world, context) == {"key1": KeyState.REVOKED, "key2": KeyState.ACTIVATED}


def test_all_pages_of_key_pairs_are_read(world: World) -> None:
    context = participant(world)
    for number in range(120):
        hub(world).add_key_pair(context, NewKeyPair(f"{DID}#k{number}", f"a{number}"))
    assert len(hub(world).key_pairs(context)) == 121


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_mapping_is_written_however_often_an_answer_is_lost(world: World, method: str) -> None:
    context = mapped(world)
    world.fault("siglet", method=method, path="/key-mappings", times=1, drop=True, afterEffect=True)
    with pytest.raises(RecoverableError):
        siglet(world).put_key(context, KEY)
    for _ in range(2):
        siglet(world).put_key(context, KEY)
        assert siglet(world).find_key(context) == KEY


def test_a_mapping_that_somebody_else_creates_meanwhile_is_replaced(world: World) -> None:
    context = mapped(world)
    siglet(world).put_key(context, KeyMapping("other", "other"))
    world.fault("siglet", method="PUT", path="/key-mappings", times=1, status=404)
    siglet(world).put_key(context, KEY)
    assert siglet(world).find_key(context) == KEY


def test_a_mapping_that_comes_and_goes_is_tried_later(world: World) -> None:
    context = mapped(world)
    world.fault("siglet", method="PUT", path="/key-mappings", status=404)
    world.fault("siglet", method="POST", path="/key-mappings", status=409)
    with pytest.raises(RecoverableError, match="comes and goes"):
        siglet(world).put_key(context, KEY)


def test_transfer_types_and_keys_are_read_replaced_and_deleted(world: World) -> None:
    context = mapped(world)
    assert siglet(world).find_transfer_types(context) is None
    assert siglet(world).find_key(context) is None
    siglet(world).put_transfer_types(context, PULL)
    assert list(siglet(world).find_transfer_types(context) or {}) == ["pull"]
    for _ in range(2):
        siglet(world).delete_transfer_types(context)
        siglet(world).delete_key(context)
    assert world.state()["siglet"] == {"transferTypes": {}, "keys": {}}


def test_an_address_at_which_no_siglet_is_does_not_look_as_if_nothing_were_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = mapped(world)
    monkeypatch.setenv("CFM_SIGLET_MANAGEMENT_URL", f"{world.standins.url}/siglet/wrong")
    world.give_up_after(timedelta(seconds=5))
    with pytest.raises(FatalError, match="check CFM_SIGLET_MANAGEMENT_URL"):
        siglet(world).delete_key(context)
