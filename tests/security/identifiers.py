"""Ids of nobody, ids of others, versions that are not, and keys of requests that somebody else has made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

from tests.security.attack import Attack, request
from tests.security.bodies import body_of
from tests.security.ground import ABSENT, BASE, GUARDED

IDS = {
    "absent": ABSENT,
    "SQL": quote("' OR '1'='1", safe=""),
    "a NUL": "%00",
    "a step up": "%2e%2e",
    "very long": "9" * 3000,
    "a pattern": "%25",
    "a line break": quote("a\r\nX-Injected: 1", safe=""),
    "braces": quote("{00000000-0000-4000-8000-000000000000}", safe=""),
}
"""Ids of nothing, as they stand in a path."""

HARMLESS = {"withdraw_role"}
"""What nobody has is as good as withdrawn."""


def unknown() -> Iterator[Attack]:
    """Every function that names an entity, with the id of none."""
    for function in GUARDED:
        path = function.path.removeprefix(BASE)
        if not path.endswith("}") or body_of(function) is not None or function.method == "POST":
            continue
        if function.name in HARMLESS:
            continue
        for name, id_ in IDS.items():
            yield request(
                f"{function.name}, id {name}", function.method, f"{path.rpartition('/')[0]}/{id_}", 404, "ot found"
            )


FOREIGN = {
    "a profile of another tenant": "/tenants/{tenant_id}/participant-profiles/{other_profile}",
    "a profile, by another tenant": "/tenants/{other_tenant}/participant-profiles/{profile_id}",
    "a profile of no tenant": f"/tenants/{ABSENT}/participant-profiles/{{profile_id}}",
    "a tenant as a profile": "/tenants/{tenant_id}/participant-profiles/{tenants}",
    "a profile as a tenant": "/tenants/{other_profile}",
    "a tenant as a cell": "/cells/{tenants}",
    "a role as a user": "/users/{roles}",
    "a user as a role": "/roles/{users}",
    "a cell as a tenant": "/tenants/{cells}",
}
"""What is there, and is not there."""


def foreign() -> Iterator[Attack]:
    for name, path in FOREIGN.items():
        for method, body in (("GET", None), ("PATCH", {"properties": {"stolen": True}}), ("DELETE", None)):
            yield request(name, method, path, 404, "Not found", body=b"" if body is None else body)
    profiles = "/tenants/{tenant_id}/participant-profiles/{other_profile}"
    yield request("deploys another's profile", "POST", f"{profiles}/deploy", 404, "Not found", body={})
    yield request("purges another's profile", "DELETE", f"{profiles}?purge=true", 404, "Not found")
    deployment = "/dataspace-profiles/{other_dataspace}/deployments/{deployments}"
    yield request("withdraws another's deployment", "DELETE", deployment, 404, "Not found")
    for name, path in {
        "a role of nobody to a user": f"/users/{{users}}/roles/{ABSENT}",
        "a tenant as a role to a user": "/users/{users}/roles/{tenants}",
        "a role to nobody": f"/users/{ABSENT}/roles/{{roles}}",
    }.items():
        yield request(name, "PUT", path, 404, "Not found")
    yield request("a role from nobody", "DELETE", f"/users/{ABSENT}/roles/{{roles}}", 404, "Not found")
    new = {"identifier": "did:web:stolen.example", "cellId": ABSENT}
    yield request(
        "deploys in no cell",
        *("POST", "/tenants/{tenant_id}/participant-profiles", 422, "there is no cell"),
        body=new,
    )
    new = {"identifier": "did:web:stolen.example"}
    path = f"/tenants/{ABSENT}/participant-profiles"
    yield request("deploys for no tenant", "POST", path, 404, "Not found", body=new)
    for put in ("/cells/x", "/roles/x", "/users/..%2f", "/dataspace-profiles/%00"):
        yield request("an id of its own making", "PUT", put, 400, "", body={})
    yield request(
        "an operator's order for an activity of another run",
        *("POST", "/orchestrations/{ended}/activities/other/retry"),
        404,
        "Not found",
        body={"reason": "r"},
    )


VERSIONS = {
    "an old one": '"99"',
    "a weak one": 'W/"0"',
    "no tag": "0",
    "nothing": "",
    "SQL": "\"0' OR '1'='1\"",
    "a negative one": '"-1"',
    "a very large one": '"' + "9" * 300 + '"',
    "very many": ", ".join(f'"{n}"' for n in range(1000, 1500)),
    "a star among others": '*, "99"',
    "half a tag": '"0',
    "other digits": '"\xb2"',
}


def versions() -> Iterator[Attack]:
    """Changes of a version that nobody has."""
    for name, tag in VERSIONS.items():
        for method, body in (("PATCH", b'{"properties": {"lost": true}}'), ("DELETE", b"")):
            path = "/tenants/{tenant_id}"
            yield request(f"If-Match, {name}", method, path, 412, "", headers=[("If-Match", tag)], body=body)
    exists = [("If-None-Match", "*")]
    yield request("if it does not exist", "PATCH", "/tenants/{tenant_id}", 412, "", headers=exists, body=b"{}")
    for function in GUARDED:
        path = function.path.removeprefix(BASE)
        if function.acts and function.method == "DELETE":
            stale = [("If-Match", '"4711"')]
            yield request(f"{function.name}, an old version", "DELETE", path, 412, "", headers=stale)


KEYS = {
    "nothing": "",
    "a space": "a b",
    "too long": "k" * 256,
    "far too long": "k" * 20_000,
    "beyond ASCII": "k\xe9",
    "a tab": "a\tb",
    "a letter of DEL": "a\x7f",
}


def keys() -> Iterator[Attack]:
    """``Idempotency-Key``: those that are none, and one that belongs to another request."""
    for name, key in KEYS.items():
        shown = [("Idempotency-Key", key)]
        # What no header may hold is refused before, without a word.
        says = "" if "\x7f" in key else "Invalid Idempotency-Key"
        yield request(f"key, {name}", "POST", "/tenants", 400, says, headers=shown, body=b"{}")
    kept = [("Idempotency-Key", "kept")]
    theirs = "this Idempotency-Key belongs to a request with another body"
    body = json.dumps({"properties": {"n": 2}}).encode()
    yield request("key, of another body", "POST", "/tenants", 422, theirs, headers=kept, body=body)
    yield request("key, of another query", "POST", "/tenants?x=1", 422, theirs, headers=kept, body=b"{}")
    yield request("key, and no token", "POST", "/tenants", 401, "", token=None, headers=kept, body=b"{}")
    yield request(
        "key, and no scope",
        *("POST", "/tenants", 403, "required scope"),
        token=lambda ground: ground.token("tenant-manager-api:read"),
        headers=kept,
        body=b'{"properties": {"n": 1}}',
    )


def attacks() -> Iterator[Attack]:
    yield from unknown()
    yield from foreign()
    yield from versions()
    yield from keys()
