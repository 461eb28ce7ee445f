"""Credentials renewed and services held against records: a real Tenant Manager over HTTP, and the stand-ins of the services."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import flask
import functions_framework
import pytest
from werkzeug.serving import make_server

import functions.tenant_manager
from cfm_core import deployment
from cfm_core.agent import ActivityEnvironment, Complete, Schedule
from cfm_core.assembly import ServiceAssembler, ServiceType
from cfm_core.clients.assembly import (
    CONTROL_PLANE,
    IDENTITY_HUB,
    ISSUER_SERVICE,
    RESOURCE_MAPPINGS,
    SIGLET,
    TENANT_MANAGER,
)
from cfm_core.clients.identity_hub import CredentialSpec, IdentityHub
from cfm_core.clients.issuer_service import Holder, IssuerService
from cfm_core.clients.jwtlet import ResourceMapping
from cfm_core.clients.tenant_manager import TenantManager
from cfm_core.declaration import Declaration, HttpFunction, discover
from cfm_core.errors import FatalError, RecoverableError
from cfm_core.eventing.cloudevents import BATCH
from cfm_core.reconciliation.assembly import RECONCILIATION, ReconciliationAssembly
from cfm_core.reconciliation.renewal import Renewals
from cfm_core.reconciliation.service import Reconciliation
from cfm_core.settings import Settings
from cfm_core.web.auth import TM_READ
from cfm_core.web.router import Router
from functions.agents.onboarding.onboarding import OnboardingActivity
from functions.agents.reconciliation import reconciliation as agent
from functions.tenant_manager import responses
from local import seed
from local.server import FunctionApps, Gateway
from local.standins import AGENTS, ISSUER_DID
from tests.integration.agents.conftest import CREDENTIAL, IN_ORDER, World
from tests.integration.tenant_manager.api import Api, Fabric
from tests.support.tokens import Issuer

S = TypeVar("S")

EVERY = timedelta(minutes=5)
WITHIN = timedelta(seconds=30)
DUE = timedelta(days=5)
"""After so long less than a third of a credential's life is left."""
ACME = "did:web:hub%3A7083:acme"
MANUFACTURER = CREDENTIAL | {
    "id": "manufacturer-credential-def",
    "type": "ManufacturerCredential",
    "role": "manufacturer",
}
CONTROL_PLANE_ACCOUNT = "system:serviceaccount:edc-v:controlplane"
MAPPING = f"mapping of {CONTROL_PLANE_ACCOUNT}"
EVENT_TOKEN = "event-token"
TICK = {"specversion": "1.0", "id": "tick", "source": "t", "type": "cfm.tick", "data": None}
GATEWAY = Gateway(
    Router([one for one in discover(functions.tenant_manager) if isinstance(one, HttpFunction)]), FunctionApps().of
)


def wake(function: Declaration, event: dict[str, Any]) -> None:
    """Hand an event to a function, as the trigger does."""
    app: flask.Flask = functions_framework.create_app(function.name, str(function.source))  # type: ignore[no-untyped-call]
    headers = {"Content-Type": BATCH, "Authorization": f"Bearer {EVENT_TOKEN}"}
    answer = app.test_client().post("/", data=json.dumps([event]), headers=headers)
    assert (answer.status_code, answer.json) == (200, {}), answer.text


@dataclass
class Platform:
    """A Tenant Manager, the services, and the agent, with a calendar that goes on when it is told to."""

    world: World
    renewals: Renewals
    records_token: Path
    fabric: Fabric
    dataspace: str
    reconciliation: Reconciliation
    assembler: ServiceAssembler
    passed: list[timedelta]

    def pass_time(self, time: timedelta) -> None:
        """Let so much time pass for issuer and agent."""
        self.passed[0] += time
        ahead = {"aheadSeconds": self.passed[0].total_seconds()}
        self.world.control.post("/_control/calendar", json=ahead).raise_for_status()

    def settle(self) -> None:
        """Let the services do what they have begun; they do it when they are asked for something."""
        self.world.now += 10
        self.world.state()

    def participant(self, did: str = ACME, **asked: Any) -> str:
        """Deploy a participant, in the records and at the services; gives its context."""
        profile = self.begun(did, **asked)
        env = ActivityEnvironment(
            values={
                "cfm.participant.id": did,
                "cfm.vpa.data": [
                    {"id": "1", "vpaType": name, "properties": properties}
                    for name, properties in seed.VPA_PROPERTIES.items()
                ],
                "cfm.vpa.credentials": [CREDENTIAL],
            },
            orchestration_id=profile["orchestrationId"],
        )
        for cls in IN_ORDER:
            while (result := env.run(self.world.agent(cls))) != Complete():
                assert isinstance(result, Schedule), result
                self.world.now += 5
        self.respond(profile, properties=env.outputs)
        return str(env.values["participantContextId"])

    def begun(self, did: str, **asked: Any) -> dict[str, Any]:
        """Record a participant whose deployment has begun."""
        document = {"identifier": did, "vpaProperties": seed.VPA_PROPERTIES, **asked}
        answer = self.fabric.api.post(self.fabric.profiles, document)
        assert answer.status == 202, answer
        return dict(answer.json)

    def respond(self, profile: dict[str, Any], kind: str = "deploy", **fields: Any) -> None:
        data = {
            "id": "r",
            "manifestId": profile["orchestrationId"],
            "correlationId": profile["id"],
            "orchestrationType": f"cfm.orchestration.vpa.{kind}",
            "success": True,
            **fields,
        }
        event = {"specversion": "1.0", "id": "1", "source": "test", "type": "test", "data": data}
        wake(responses.apply_orchestration_responses.declaration, event)

    def profile_of(self, did: str) -> dict[str, Any]:
        query = {"predicate": f"identifier = '{did}'"}
        (found,) = self.fabric.api.post("/participant-profiles/query", query).json
        return dict(found)

    def renew(self) -> int:
        return self.reconciliation.renew(every=EVERY, within=WITHIN).requested

    def held(self, context: str) -> list[dict[str, Any]]:
        return [
            one for one in self.world.state()["identityhub"]["credentials"] if one["participantContextId"] == context
        ]

    def requests(self) -> list[dict[str, Any]]:
        return list(self.world.state()["identityhub"]["credentialRequests"])

    def missing(self) -> list[tuple[str, str]]:
        report = self.reconciliation.report_all()
        assert report.not_looked_at == []
        return [(one.service, one.what) for one in report.missing]

    def superfluous(self) -> list[tuple[str, str, str]]:
        report = self.reconciliation.report_all()
        assert report.not_looked_at == []
        return sorted((one.service, one.what, one.participant_context or one.did) for one in report.superfluous)

    def of(self, service: ServiceType[S]) -> S:
        return self.assembler.ensure([service]).resolve(service)

    @property
    def hub(self) -> IdentityHub:
        return self.of(IDENTITY_HUB)

    @property
    def issuer(self) -> IssuerService:
        return self.of(ISSUER_SERVICE)

    @property
    def records(self) -> TenantManager:
        return self.of(TENANT_MANAGER)

    def deactivate(self, context: str) -> None:
        path = f"/identityhub/api/identity/v1beta/participants/{context}/state?isActive=false"
        bearer = {"Authorization": f"Bearer {self.world.token(context, 'identity-api:admin')}"}
        self.world.control.post(path, headers=bearer).raise_for_status()


@pytest.fixture
def platform(world: World, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    issuer, passed = Issuer(tmp_path), [timedelta(0)]
    server = make_server("127.0.0.1", 0, GATEWAY, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (tmp_path / "records-token").write_text(issuer.token(TM_READ))
    monkeypatch.setenv("CFM_TENANT_MANAGER_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("CFM_TENANT_MANAGER_TOKEN_FILE", str(tmp_path / "records-token"))
    settings = Settings.from_environ(
        {**os.environ, "CFM_DATABASE_URL": database_url, "CFM_EVENT_TOKEN": EVENT_TOKEN, **issuer.environ}
    )
    clocked = ReconciliationAssembly(lambda: datetime.now(UTC) + passed[0])
    assemblies = [clocked if one.name == clocked.name else one for one in deployment.assemblies(settings)]
    assembler = ServiceAssembler(assemblies, settings)
    deployment.use(assembler)
    fabric = Fabric(Api({"Authorization": f"Bearer {issuer.token()}"}))
    dataspace = fabric.api.post(
        "/dataspace-profiles", {"dataspaceSpec": {"credentialSpecs": [CREDENTIAL, MANUFACTURER]}}
    ).json["id"]
    fabric.api.post(f"/dataspace-profiles/{dataspace}/deployments", {"cellId": fabric.cell})
    reconciliation = assembler.ensure([RECONCILIATION]).resolve(RECONCILIATION)
    registry = assembler.ensure([TENANT_MANAGER, IDENTITY_HUB, ISSUER_SERVICE])
    renewals = Renewals(
        registry.resolve(TENANT_MANAGER),
        registry.resolve(IDENTITY_HUB),
        registry.resolve(ISSUER_SERVICE),
        before=None,
        clock=lambda: datetime.now(UTC) + passed[0],
    )
    yield Platform(world, renewals, tmp_path / "records-token", fabric, dataspace, reconciliation, assembler, passed)
    server.shutdown()
    thread.join()
    server.server_close()
    deployment.use(None)
    assembler.stop()


def end_of(held: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(held["verifiableCredential"]["credential"]["expirationDate"])


# Renewal


def test_a_credential_with_much_of_its_life_before_it_is_left_alone(platform: Platform) -> None:
    platform.participant()
    platform.pass_time(timedelta(days=4))
    assert platform.renew() == 0
    assert len(platform.requests()) == 1


def test_a_credential_near_its_end_is_renewed_once_and_the_old_one_is_left_to_expire(platform: Platform) -> None:
    context = platform.participant()
    (old,) = platform.held(context)
    platform.pass_time(DUE)
    assert platform.renew() == 1
    # Repeated: on its way, then there.
    assert platform.renew() == 0
    platform.settle()
    assert platform.renew() == 0
    assert len(platform.requests()) == 2
    held = platform.held(context)
    assert old in held
    assert sorted(end_of(one) - end_of(old) >= DUE for one in held) == [False, True]
    assert {one["status"] for one in platform.world.state()["issuerservice"]["credentials"]} == {"issued"}


def test_it_is_renewed_again_when_its_successor_nears_its_end_and_what_has_expired_is_held_no_more(
    platform: Platform,
) -> None:
    context = platform.participant()
    (first,) = platform.held(context)
    for _ in range(3):
        platform.pass_time(DUE)
        assert platform.renew() == 1
        platform.settle()
    assert platform.renew() == 0
    ids = [one["id"] for one in platform.held(context)]
    assert first["id"] not in ids
    assert len(ids) == 2
    assert len(platform.requests()) == 4


def test_concurrent_rounds_ask_once(platform: Platform) -> None:
    platform.participant()
    platform.pass_time(DUE)
    platform.world.fault("issuerservice", path="/credentials/query", delaySeconds=0.3)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: platform.renew(), range(4)))
    assert len(platform.requests()) == 2
    platform.settle()
    assert len(platform.world.state()["issuerservice"]["credentials"]) == 2


def test_a_lost_answer_does_not_make_a_second_request(platform: Platform) -> None:
    platform.participant()
    platform.pass_time(DUE)
    platform.world.fault("identityhub", method="POST", path="/request$", drop=True, afterEffect=True, times=1)
    with pytest.raises(RecoverableError, match="were not looked at"):
        platform.renew()
    platform.world.no_faults()
    assert platform.renew() == 0
    assert len(platform.requests()) == 2


def test_a_crash_before_the_request_is_made_good_by_the_next_round(platform: Platform) -> None:
    platform.participant()
    platform.pass_time(DUE)
    platform.world.fault("identityhub", method="POST", path="/request$", drop=True, times=1)
    with pytest.raises(RecoverableError):
        platform.renew()
    platform.world.no_faults()
    assert platform.renew() == 1


def test_an_outage_is_told_and_the_next_round_renews(platform: Platform) -> None:
    platform.participant()
    platform.pass_time(DUE)
    for service in ("identityhub", "issuerservice", "jwtlet"):
        platform.world.fault(service, status=503)
        with pytest.raises(RecoverableError, match="503"):
            platform.renew()
        platform.world.no_faults()
    assert platform.renew() == 1


def test_after_a_refusal_it_is_asked_under_another_id_but_not_at_once(platform: Platform) -> None:
    context = platform.participant()
    (holder,) = platform.issuer.find_holders(context, did=ACME)
    platform.issuer.delete_holder(context, holder.id)
    platform.pass_time(DUE)
    assert platform.renew() == 1
    platform.settle()
    assert [one["status"] for one in platform.requests()] == ["ISSUED", "ERROR"]
    assert platform.renew() == 0
    platform.issuer.register_holder(context, holder)
    assert platform.renew() == 0
    platform.pass_time(timedelta(hours=6))
    assert platform.renew() == 1
    platform.settle()
    assert [one["status"] for one in platform.requests()] == ["ISSUED", "ERROR", "ISSUED"]
    assert platform.renew() == 0
    assert len(platform.held(context)) == 2


def test_what_has_expired_while_nobody_looked_is_renewed(platform: Platform) -> None:
    context = platform.participant()
    platform.pass_time(timedelta(days=30))
    assert platform.renew() == 1
    platform.settle()
    assert platform.renew() == 0
    (held,) = platform.held(context)
    assert end_of(held) > datetime.now(UTC) + timedelta(days=30)


def test_a_revoked_credential_is_not_renewed(platform: Platform) -> None:
    context = platform.participant()
    (issued,) = platform.issuer.issued_credentials(context, holder_did=ACME)
    platform.issuer.revoke(context, issued.id)
    platform.pass_time(DUE)
    assert platform.renew() == 0
    assert len(platform.requests()) == 1


def test_a_participant_that_is_being_disposed_gets_nothing_new(platform: Platform) -> None:
    """Also when its disposal begins after the round has read it."""
    platform.participant()
    platform.pass_time(DUE)
    profile = platform.profile_of(ACME)
    records = platform.records.participants()
    path = f"{platform.fabric.profiles}/{profile['id']}"
    assert platform.fabric.api.delete(path).status == 202
    assert platform.renew() == 0
    assert platform.renewals.renew(records, WITHIN).requested == 0
    assert len(platform.requests()) == 1


def test_a_disposal_awaits_what_is_being_renewed_and_revokes_it(platform: Platform) -> None:
    platform.pass_time(-DUE)
    context = platform.participant()
    platform.pass_time(DUE)
    assert platform.renew() == 1
    left = platform.profile_of(ACME)["properties"]["cfm.vpa.state"]
    env = ActivityEnvironment(values={"cfm.participant.id": ACME, "cfm.vpa.state": left}, orchestration_id="disposal")
    offboarding = platform.world.agent(OnboardingActivity)
    assert isinstance(env.dispose(offboarding), Schedule)
    platform.settle()
    assert env.dispose(offboarding) == Complete()
    assert len(platform.held(context)) == 2
    assert [one["status"] for one in platform.world.state()["issuerservice"]["credentials"]] == ["revoked"] * 2


def test_the_trouble_of_one_participant_does_not_keep_the_others_from_being_renewed(platform: Platform) -> None:
    contexts = [platform.participant(f"did:web:p{number}.example") for number in range(3)]
    platform.hub.delete_participant(sorted(contexts)[0])
    platform.pass_time(DUE)
    with pytest.raises(RecoverableError, match="the credentials of 1 participants were not looked at"):
        platform.renew()
    assert len(platform.requests()) == 4


def test_the_needs_of_roles_count(platform: Platform) -> None:
    context = platform.participant(participantRoles={platform.dataspace: ["manufacturer"]})
    assert platform.missing() == [("identityhub", "ManufacturerCredential")]
    spec = CredentialSpec(MANUFACTURER["id"], MANUFACTURER["type"], MANUFACTURER["format"])
    platform.hub.request_credentials(context, ISSUER_DID, "by-hand", [spec])
    platform.settle()
    assert platform.missing() == []
    platform.pass_time(DUE)
    assert platform.renew() == 2


# The report


def test_nothing_differs_after_a_deployment(platform: Platform) -> None:
    platform.participant()
    assert platform.missing() == []
    assert platform.superfluous() == []


@pytest.mark.parametrize(
    ("take_away", "expected"),
    [
        (lambda p, c: p.of(CONTROL_PLANE).delete_participant(c), ("controlplane", "participant context")),
        (lambda p, c: p.hub.delete_participant(c), ("identityhub", "participant")),
        (lambda p, c: p.deactivate(c), ("identityhub", "published DID document")),
        (
            lambda p, c: p.hub.revoke_key_pair(c, p.hub.key_pairs(c)[0].id),
            ("identityhub", "active key"),
        ),
        (lambda p, c: p.hub.delete_credential(c, p.held(c)[0]["id"]), ("identityhub", "MembershipCredential")),
        (lambda p, c: p.issuer.delete_holder(c, c), ("issuerservice", "holder")),
        (lambda p, c: p.of(SIGLET).delete_transfer_types(c), ("siglet", "transfer types")),
        (lambda p, c: p.of(RESOURCE_MAPPINGS).delete(CONTROL_PLANE_ACCOUNT, c), ("jwtlet", MAPPING)),
        (lambda p, c: p.of(RESOURCE_MAPPINGS).delete(AGENTS, c), ("jwtlet", f"mapping of {AGENTS}")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_a_participant_lacks_is_told(
    platform: Platform, take_away: Callable[[Platform, str], Any], expected: tuple[str, str]
) -> None:
    context = platform.participant()
    platform.participant("did:web:beside.example")
    take_away(platform, context)
    assert platform.missing() == [expected]
    before = platform.world.state()
    platform.reconciliation.report_all()
    assert platform.world.state() == before


def test_a_credential_that_is_not_renewed_is_told_with_the_reason(platform: Platform) -> None:
    context = platform.participant()
    platform.issuer.delete_holder(context, context)
    platform.pass_time(DUE)
    platform.renew()
    platform.settle()
    assert platform.missing() == [("issuerservice", "holder")]
    platform.pass_time(timedelta(days=1))
    (_, late) = platform.reconciliation.report_all().missing
    assert late.what == "successor of MembershipCredential"
    platform.renew()
    platform.settle()
    (_, late) = platform.reconciliation.report_all().missing
    assert f"no holder with the DID {ACME}" in late.detail
    platform.pass_time(timedelta(days=2))
    (_, expired) = platform.reconciliation.report_all().missing
    assert expired.what == "MembershipCredential"
    assert expired.detail.startswith("expired at ")


def test_participants_in_the_middle_of_a_deployment_or_a_disposal_are_no_finding(platform: Platform) -> None:
    platform.participant()
    begun = platform.begun("did:web:pending.example")
    env = ActivityEnvironment(
        values={"cfm.participant.id": "did:web:pending.example"}, orchestration_id=begun["orchestrationId"]
    )
    for cls in IN_ORDER[:3]:
        assert platform.missing() == []
        assert platform.superfluous() == []
        env.run(platform.world.agent(cls))
    assert platform.superfluous() == []
    profile = platform.profile_of(ACME)
    platform.fabric.api.delete(f"{platform.fabric.profiles}/{profile['id']}")
    assert platform.missing() == []
    assert platform.superfluous() == []


def test_what_a_failed_deployment_has_left_is_no_finding(platform: Platform) -> None:
    platform.participant()
    begun = platform.begun("did:web:failed.example")
    env = ActivityEnvironment(
        values={"cfm.participant.id": "did:web:failed.example"}, orchestration_id=begun["orchestrationId"]
    )
    for cls in IN_ORDER[:3]:
        env.run(platform.world.agent(cls))
    platform.respond(begun, success=False, errorDetail="no", properties=env.outputs)
    assert platform.missing() == []
    assert platform.superfluous() == []


def test_what_belongs_to_nobody_is_told(platform: Platform) -> None:
    context = platform.participant()
    control_plane, mappings = platform.of(CONTROL_PLANE), platform.of(RESOURCE_MAPPINGS)
    mappings.put(ResourceMapping(AGENTS, "stray", ("management-api:admin",), ("edcv",)))
    control_plane.create_participant("stray", "did:web:nobody.example")
    mappings.put(ResourceMapping(AGENTS, "bare", ("read",), ("edcv",)))
    mappings.put(ResourceMapping(AGENTS, "issuer", ("read",), ("edcv",)))
    mappings.put(ResourceMapping("system:serviceaccount:edc-v:redline", "redline", ("read",), ("edcv",)))
    # A second context for a DID of ours, as a deployment that was given up could have left it.
    mappings.put(ResourceMapping(AGENTS, "second", ("management-api:admin",), ("edcv",)))
    control_plane.create_participant("second", ACME)
    platform.issuer.register_holder(context, Holder("gone", "did:web:gone.example", "Gone"))
    expected = [
        ("controlplane", "participant context", "second"),
        ("controlplane", "participant context", "stray"),
        ("issuerservice", "holder", "did:web:gone.example"),
        ("jwtlet", "mapping", "bare"),
        ("jwtlet", "mapping", "second"),
        ("jwtlet", "mapping", "stray"),
    ]
    assert platform.superfluous() == expected
    # Told, and nothing else.
    assert platform.superfluous() == expected


def test_what_a_disposed_participant_has_left_is_told(platform: Platform) -> None:
    context = platform.participant()
    platform.participant("did:web:beside.example")
    profile = platform.profile_of(ACME)
    answer = platform.fabric.api.delete(f"{platform.fabric.profiles}/{profile['id']}")
    orchestration_id = answer.headers["Link"].split(">")[0].rpartition("/")[2]
    platform.respond(profile | {"orchestrationId": orchestration_id}, "dispose")
    assert platform.superfluous() == [
        ("controlplane", "participant context", context),
        ("identityhub", "participant", context),
        ("issuerservice", "holder", ACME),
        *[("jwtlet", "mapping", context)] * 3,
    ]


def test_what_cannot_be_looked_at_is_said(platform: Platform) -> None:
    assert platform.reconciliation.report_all().not_looked_at == [
        "the lists of the services: there is no participant to have a token for"
    ]
    platform.participant()
    platform.world.fault("siglet", status=503)
    platform.world.fault("issuerservice", method="POST", path="/holders/query", status=500)
    report = platform.reconciliation.report_all()
    assert len(report.not_looked_at) == 2
    assert report.participants == 1
    assert report.missing == []


def test_records_that_do_not_answer_end_the_round(platform: Platform) -> None:
    platform.records_token.write_text("no token")
    for look in (platform.renew, platform.reconciliation.report_all):
        with pytest.raises(FatalError, match="answered 401"):
            look()


def test_the_functions_are_woken_and_tell_in_the_log(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    context = platform.participant()
    platform.issuer.delete_holder(context, context)
    platform.pass_time(DUE)
    with caplog.at_level(logging.INFO):
        wake(agent.renew_credentials.declaration, TICK)
        wake(agent.report_differences.declaration, TICK)
    (asked,) = [one for one in caplog.records if hasattr(one, "holder_pid")]
    assert asked.participant_context == context  # type: ignore[attr-defined]
    (told,) = [one for one in caplog.records if hasattr(one, "finding")]
    assert {name: getattr(told, name) for name in ("finding", "service", "what", "did", "participantContext")} == {
        "finding": "missing",
        "service": "issuerservice",
        "what": "holder",
        "did": ACME,
        "participantContext": context,
    }
