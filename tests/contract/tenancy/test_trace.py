"""The manifests of a participant profile belong to the trace of whoever asks for them."""

from __future__ import annotations

import json

import pytest

from cfm_core import trace
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment
from tests.contract.tenancy.world import EAGER, World, deploy_failed, deployed, disposed

CONTEXT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "v=1", "baggage": "user=a%20b"}
OTHER = {"traceparent": f"00-{'c' * 32}-{'d' * 16}-00"}


def traces(world: World) -> list[dict[str, str]]:
    """The trace context of each manifest that was sent, in their order."""
    return [{name: event[name] for name in trace.NAMES if name in event} for event in world.sent()]


def test_each_manifest_belongs_to_the_request_that_asks_for_it(world: World) -> None:
    world.dataspace(world.cell())
    with trace.within(CONTEXT):
        tenant, profile = world.live_participant()
    with trace.within(OTHER):
        world.change(tenant, profile, vpaProperties={"cfm.connector": {"a": 1}})
    world.respond(deployed(profile, world.manifests()[-1]["id"]))
    with trace.within(CONTEXT):
        world.dispose(tenant, profile)
    with trace.within(OTHER):
        world.deploy_again(tenant, profile)
    assert traces(world) == [CONTEXT, OTHER, CONTEXT, OTHER]


def test_a_manifest_without_a_context_has_the_attributes_that_it_always_had(world: World) -> None:
    world.participant()
    always = {"specversion", "id", "source", "type", "subject", "datacontenttype", "data"}
    assert [{*event} for event in world.sent()] == [always]


def eager_profile(world: World) -> tuple[str, str, str]:
    tenant = world.tenant()
    world.dataspace(world.cell())
    new = NewParticipantProfileDeployment(identifier="did:web:foo")
    profile = json.loads(world.patient(EAGER).deploy(tenant, new)[1].text)
    return tenant, profile["id"], profile["orchestrationId"]


@pytest.mark.parametrize("context", [{}, CONTEXT])
def test_a_manifest_that_is_sent_again_belongs_to_what_it_did(world: World, context: dict[str, str]) -> None:
    with trace.within(context):
        _, profile, manifest = eager_profile(world)
    with trace.within(OTHER):
        world.patient(EAGER).resend()
    world.patient(EAGER).apply([deploy_failed(profile, manifest)])
    world.patient(EAGER).resend()
    assert traces(world) == [context] * 3


def test_nothing_of_an_earlier_request_is_left_for_the_next_one(world: World) -> None:
    with trace.within(CONTEXT):
        tenant, profile, manifest = eager_profile(world)
    world.respond(deploy_failed(profile, manifest))
    eager = world.patient(EAGER)
    again, _ = eager.dispose(tenant, profile)
    eager.resend()
    world.respond(disposed(profile, again))
    assert traces(world) == [CONTEXT, {}, {}]
