"""Who may do what at NATS follows from what is declared."""

from __future__ import annotations

import re

import pytest

import functions
from cfm_core.contracts import subjects
from cfm_core.declaration import EventFunction, discover
from cfm_core.errors import FatalError
from cfm_core.eventing.permissions import ACCOUNT, Identity, accounts, identities, joined, render

DECLARED = [one for one in discover(functions) if isinstance(one, EventFunction)]
LISTENERS = {one.subject: one.source.stem for one in DECLARED if subjects.is_foreign(one.subject)}
FOUND = {one.name: one for one in identities((one.subject for one in DECLARED), LISTENERS)}


@pytest.mark.parametrize("function", [one for one in DECLARED if one.subject], ids=lambda one: one.name)
def test_the_events_of_a_function_are_one_identitys(function: EventFunction) -> None:
    (owner,) = (one.name for one in FOUND.values() if function.subject in one.handles)
    expected = {"tenant_manager": "tenant-manager", "orchestrator": "provision-manager"}
    if subjects.is_foreign(function.subject):
        assert owner == f"listener-{function.source.stem}"
    elif function.activity is not None:
        assert owner == f"agent-{function.activity.activity_type}"
    else:
        assert owner == expected[function.source.parent.name]


def test_what_one_handles_another_announces() -> None:
    for handler in FOUND.values():
        for subject in handler.handles:
            if subjects.is_foreign(subject):
                continue
            patterns = [pattern for one in FOUND.values() for pattern in one.announces]
            assert any(subjects.covers(one, subject) or subjects.covers(subject, one) for one in patterns), subject


def test_an_agents_identity_announces_outcomes_and_its_type_and_handles_its_own_activities_alone() -> None:
    (dns,) = (one for one in identities(["event.cfm.activity.acme.dns"]) if one.handles)
    assert dns == Identity(
        "agent-acme=dns",
        ("event.cfm.activity.acme.dns",),
        (
            "event.cfm.result",
            "event.cfm.activity-types.acme.dns",
            "event.cfm.dead-letter.cfm=activity=acme=dns",
        ),
        makes_streams=False,
    )
    assert dns.inbox_prefix == "_INBOX.agent-acme=dns"


def test_a_listener_takes_in_what_others_publish_and_announces_nothing_but_letters() -> None:
    keys = FOUND["listener-keys"]
    assert {*keys.handles} == {
        *(subjects.KEY_PAIR_EVENTS, subjects.PARTICIPANT_CONTEXT_DELETED),
        *("event.cfm.again.cfm-events=keypair", "event.cfm.again.cfm-events=participantcontext=deleted"),
    }
    assert {*keys.announces} == {
        "event.cfm.dead-letter.cfm-events=keypair",
        "event.cfm.dead-letter.cfm-events=participantcontext=deleted",
    }
    allowed = keys.publishes(edc_stream="theirs")
    assert "$JS.API.CONSUMER.CREATE.theirs.cfm-events=keypair.events.keypair.>" in allowed
    assert not [one for one in allowed if "STREAM.CREATE" in one]


def test_letters_are_about_what_their_sender_handles_and_there_is_none_about_a_letter() -> None:
    for one in FOUND.values():
        filed = {subject for subject in one.announces if subjects.covers(subjects.DEAD_LETTERS, subject)}
        # What was sent again and is not taken in has a letter like what came at first.
        about = {subject for subject in one.handles if not subjects.covers(subjects.AGAIN, subject)}
        assert filed == {subjects.dead_letter(handled) for handled in about - {subjects.DEAD_LETTERS}}


def test_no_two_identities_but_the_engines_say_the_same() -> None:
    others = [one for one in FOUND.values() if one.name != "provision-manager"]
    said = [subject for one in others for subject in one.announces if subject != subjects.RESULTS]
    assert len(set(said)) == len(said)


def test_identities_have_inboxes_of_their_own() -> None:
    prefixes = [one.inbox_prefix for one in FOUND.values()]
    assert len(set(prefixes)) == len(prefixes)
    assert not [one for one in prefixes for other in prefixes if one != other and other.startswith(f"{one}.")]


def test_one_trigger_for_all_may_do_what_each_may() -> None:
    everything = joined("trigger", FOUND.values())
    declared = {one.subject for one in DECLARED if one.subject}
    assert {*everything.handles} == declared | {subjects.again(subject) for subject in declared}
    assert everything.makes_streams
    assert everything.inbox_prefix == "_INBOX.trigger"


def test_another_contract_stream_is_named_in_the_permissions() -> None:
    allowed = FOUND["tenant-manager"].publishes("their-stream")
    assert "$JS.API.STREAM.INFO.their-stream" in allowed
    assert not [one for one in allowed if "cfm-stream" in one]


def test_who_is_no_manager_is_in_an_account_of_its_own_and_imports_what_it_publishes_and_nothing_else() -> None:
    found = accounts(FOUND.values(), lambda one: f"password of {one.name}", "their-stream", "theirs")
    managers = found.pop(ACCOUNT)
    assert [one["user"] for one in managers["users"]] == ["tenant-manager", "provision-manager"]
    assert {*found} == {*FOUND} - {"tenant-manager", "provision-manager"}
    exported = {(one["service"], name) for one in managers["exports"] for name in one["accounts"]}
    imported = set()
    for name, account in found.items():
        (user,) = account["users"]
        assert (user["user"], user["password"], "jetstream" in account) == (name, f"password of {name}", False)
        assert user["permissions"]["subscribe"]["allow"] == [f"_INBOX.{name}.>"]
        assert user["permissions"]["publish"]["allow"] == [one["to"] for one in account["imports"]]
        assert {one["service"]["account"] for one in account["imports"]} == {ACCOUNT}
        subjects_of_it = [one["service"]["subject"] for one in account["imports"]]
        assert subjects_of_it == FOUND[name].publishes("their-stream", "theirs")
        imported |= {(subject, name) for subject in subjects_of_it}
    assert exported == imported
    many = {one["service"] for one in managers["exports"] if one.get("response_type") == "stream"}
    assert many == {subject for subject, _ in exported if ".MSG.NEXT." in subject}


def test_the_text_for_a_server_holds_no_password_but_the_names_of_variables() -> None:
    variables = re.findall(r'"password": (\S+),', render(FOUND.values()))
    assert len(variables) == len(FOUND)
    assert variables[:2] == ["$CFM_NATS_PASSWORD_TENANT_MANAGER", "$CFM_NATS_PASSWORD_PROVISION_MANAGER"]
    assert len(set(variables)) == len(FOUND)


def test_two_identities_do_not_share_a_password_unnoticed() -> None:
    alike = identities(["event.cfm.activity.acme.dns", "event.cfm.activity.acme-dns"])
    with pytest.raises(FatalError, match=r"agent-acme-dns and agent-acme=dns .* \$CFM_NATS_PASSWORD_AGENT_ACME_DNS"):
        render(alike)
