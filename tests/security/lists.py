"""Predicates, pages and cursors that would show more than there is to be seen, or cost more than they may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

from tests.security.attack import Attack, request
from tests.security.ground import ABSENT, BASE, HTTP

LISTING = [one for one in HTTP if one.lists is not None]
PARSING = "parse error: position"

PREDICATES = {
    "always true": "id = 'x' OR 1=1",
    "always true, in quotes": "id = 'x' OR '1'='1'",
    "a second statement": "true; DROP TABLE tenant_manager.tenants",
    "a quote": "id = '",
    "a quote and a second statement": "id = 'x'; DELETE FROM tenant_manager.tenants; --'",
    "a comment": "true -- and so on",
    "a comment within": "true /* and so on */",
    "a union": "true UNION SELECT passwd FROM pg_shadow",
    "a subquery": "id IN (SELECT id FROM tenant_manager.tenants)",
    "a function": "pg_sleep(10) = 1",
    "a function of files": "pg_read_file('/etc/passwd') = 'x'",
    "a cast": "id::text = 'x'",
    "a column of the system": "ctid = '(0,1)'",
    "a column of the table": "tenant_manager.tenants.id = 'x'",
    "a variable": "current_user = 'cfm'",
    "dollars": "id = $$x$$",
    "a parameter": "id = $1",
    "a named parameter": "id = :tenant_id",
    "a percent parameter": "id = %s",
    "an escape string": "id = E'\\x27'",
    "a jsonpath": "properties ? (@.a == 1)",
    "a jsonpath operator": "properties @> '{}'",
    "a backslash": "id = \\'x",
    "double quotes": 'id = "x"',
    "a letter that looks like a quote": "id = \u2019x\u2019",
    "a wide equals sign": "id \uff1d 'x'",
    "nothing but a bracket": "(",
    "brackets that do not end": "(" * 2000,
    "too many brackets": "NOT (" * 40 + "true" + ")" * 40,
    "too many terms": " OR ".join(["id = 'x'"] * 65),
    "too long": "id = '" + "x" * 5000 + "'",
    "a very long key": "properties." + "k" * 4100 + " = 1",
    "no operator": "id",
    "no value": "id =",
    "a field of a text": "id.a = 'x'",
    "a whole object": "properties = 'x'",
    "a field that is nobody's": "password = 'x'",
    "a number without end": "id = 1e99999",
    "a template": "{{7*7}}",
    "JSON": '{"$where": "sleep(1000)"}',
    "nothing but space": " \t\n",
    "a regular expression": "id ~ '(a+)+$'",
}
_EVERYWHERE = ("always true", "a second statement", "too long", "a field that is nobody's")

NUMBERS = ("-1", "x", "1.5", "0x10", "1e3", "9" * 30, "%00", "1%20OR%201=1", "%D9%A3")
CURSORS = {
    "a quote": "'",
    "SQL": "x' OR '1'='1",
    "half an id": ABSENT[:18],
    "an id in capital letters": "00000000-0000-4000-8000-00000000000A",
    "an id and more": ABSENT + "'--",
    "a NUL": "\0",
    "a number": "17",
    "very long": "x" * 20_000,
}
PLACES = {
    "a word": "last",
    "an id": ABSENT,
    "a negative number": "-1",
    "a number": "99999999999999999999",
    "half a place": "0" * 31,
    "a place and more": "0" * 32 + "0",
    "not hexadecimal": "g" * 32,
    "SQL": "0' OR pg_sleep(10) IS NULL--",
    "a NUL": "\0" * 32,
}


def attacks() -> Iterator[Attack]:
    for function in LISTING:
        path = function.path.removeprefix(BASE)
        for name, predicate in PREDICATES.items():
            if function.name not in {"list_tenants", "query_tenants"} and name not in _EVERYWHERE:
                continue
            if function.method == "POST":
                body = json.dumps({"predicate": predicate}).encode()
                yield request(f"{function.name}, predicate, {name}", "POST", path, 400, PARSING, body=body)
            else:
                asked = f"{path}?q={quote(predicate)}"
                yield request(f"{function.name}, predicate, {name}", "GET", asked, 400, PARSING)
        if function.method == "GET":
            yield request(f"{function.name}, limit below zero", "GET", f"{path}?limit=-1", 400, "Invalid limit")
            yield request(f"{function.name}, offset of SQL", "GET", f"{path}?offset=1'--", 400, "Invalid offset")
            after = quote("\0")
            yield request(f"{function.name}, a cursor with a NUL", "GET", f"{path}?after={after}", 400, "Invalid after")
    yield request("predicate with a NUL", "GET", "/tenants?q=id%3D'a%00'", 400, PARSING)
    for parameter in ("limit", "offset"):
        for number in NUMBERS:
            asked = f"/tenants?{parameter}={number}"
            yield request(f"page, {parameter} {number}", "GET", asked, 400, f"Invalid {parameter}")
    for name, after in CURSORS.items():
        asked = f"?after={quote(after)}"
        yield request(f"cursor of tenants, {name}", "GET", "/tenants" + asked, 400, "Invalid after")
        yield request(f"cursor of profiles, {name}", "GET", "/participant-profiles" + asked, 400, "Invalid after")
        yield request(
            f"cursor in a query, {name}",
            "POST",
            "/tenants/query",
            400,
            "after",
            body={"predicate": "true", "after": after},
        )
    yield request("cursor of dead letters, an id", "GET", f"/dead-letters?after={ABSENT}", 400, "Invalid after")
    for name, place in PLACES.items():
        yield request(f"place in the feed, {name}", "GET", f"/events?after={quote(place)}", 400, "Invalid after")
    for subject in ("secrets", "tenants/x", "../tenants", "tenants/'", "users;", "\0"):
        asked = f"/events?subject={quote(subject)}"
        yield request(f"subject of the feed, {subject!r}", "GET", asked, 400, "Invalid subject")
    yield request("limit of the feed", "GET", "/events?limit=x", 400, "Invalid limit")
