"""Requests that contradict each other, sent at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.integration.http.api import Fabric


def test_a_tenant_goes_or_gets_a_participant_and_never_both(fabric: Fabric) -> None:
    api = fabric.api
    with ThreadPoolExecutor(2) as pool:
        for round in range(20):
            tenant = f"/tenants/{api.post('/tenants', {}).json['id']}"
            document = {"identifier": f"did:web:race-{round}"}
            path = f"{tenant}/participant-profiles"
            if round % 2:
                deployed = pool.submit(api.post, path, document)
                deleted = pool.submit(api.delete, tenant)
            else:
                deleted = pool.submit(api.delete, tenant)
                deployed = pool.submit(api.post, path, document)
            outcome = (deployed.result(30).status, deleted.result(30).status)
            assert outcome in {(202, 400), (404, 200)}
            assert api.get(tenant).status == (200 if outcome[0] == 202 else 404)
            assert api.get(path).headers["X-Total-Count"] == ("1" if outcome[0] == 202 else "0")


def test_of_two_deploys_of_one_identifier_one_is_accepted(fabric: Fabric) -> None:
    document = {"identifier": "did:web:twice"}
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(lambda _: fabric.api.post(fabric.profiles, document).status, range(4)))
    assert statuses == [202, 409, 409, 409]
    assert fabric.api.get(f"{fabric.profiles}?q=identifier='did:web:twice'").headers["X-Total-Count"] == "1"
