"""Ways around the route table, methods that nobody declares, and requests that two servers would read differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.security.attack import Attack, good, request
from tests.security.ground import BASE, EVENTS, Ground
from tests.security.tokens import REQUIRED
from tests.security.wire import Answer

TENANT = f"/{BASE}/tenants/{{tenant_id}}"
NOT_FOUND = "404 page not found"

# What is sent without a token: nothing behind it may be reached.
BELOW_THE_API = {
    "a slash more": f"{TENANT}//",
    "two slashes more": f"{TENANT}///",
    "a dot": f"{TENANT}/.",
    "a part more": f"{TENANT}/x",
    "an encoded slash behind it": f"{TENANT}%2f",
    "a NUL behind it": f"{TENANT}%00",
    "a NUL and a suffix": f"{TENANT}%00.json",
    "a line break behind it": f"{TENANT}%0a",
    "a line break and a header": f"{TENANT}%0d%0aX-Injected:%201",
    "a parameter of the path": f"{TENANT};a=b",
    "a suffix": f"{TENANT}.json",
    "a dot behind it": f"{TENANT}.",
    "a space behind it": f"{TENANT}%20",
    "a fragment": f"{TENANT}%23x",
    "a question mark": f"{TENANT}%3fx",
    "encoded slashes": f"//{BASE[1:].replace('/', '%2F')}%2Ftenants",
    "a step up within": f"/{BASE}/cells/../tenants/{{tenant_id}}",
    "an encoded step up within": f"/{BASE}/cells/%2e%2e/tenants/{{tenant_id}}",
    "a step up by a backslash": f"/{BASE}/cells/..%5ctenants/{{tenant_id}}",
    "encoded letters": f"/{BASE}/%74enants/{{tenant_id}}",
    "two slashes before it": f"//{BASE}/tenants",
    "an overlong dot": f"/{BASE}/%c0%ae%c0%ae/tenants",
    "an overlong slash": f"/{BASE}/tenants%c0%afx",
    "a wide slash": f"/{BASE}/tenants%ef%bc%8fx",
    "no UTF-8": f"/{BASE}/tenants/%ff%fe",
    "half an escape": f"/{BASE}/tenants/%",
    "a wrong escape": f"/{BASE}/tenants/%zz",
    "no such collection": f"/{BASE}/admin",
    "a collection of another spelling": f"/{BASE}/Tenants",
    "the collection with a star": f"/{BASE}/*",
    "the root of the API": f"/{BASE}",
    "the root of the API with a slash": f"/{BASE}/",
    "very many parts": f"/{BASE}" + "/x" * 2000,
    "a very long part": f"/{BASE}/tenants/" + "x" * 30_000,
    "an environment file": f"/{BASE}/.env",
    "a debugger": f"/{BASE}/tenants?__debugger__=yes&cmd=resource&f=debugger.js",
}
# What is no path of the API: there is nothing to protect, and nothing to see.
BESIDE_THE_API = {
    "a step up to the API": f"//x/..{BASE}/tenants/{{tenant_id}}",
    "a step up to the API from the page": f"//docs/..{BASE}/tenants",
    "a dot before it": f"//.{BASE}/tenants",
    "backslashes": f"/{BASE}\\tenants\\x",
    "two slashes within": f"/{BASE.replace('/', '//')}/tenants",
    "double encoding": f"//{BASE[1:].replace('/', '%252f')}%252ftenants",
    "capital letters": f"/{BASE.upper()}/tenants",
    "another version": "//api/v1/tenants",
    "no version": "//api/tenants",
    "a later version": "//api/v1alpha2/tenants",
    "a version that begins alike": "//api/v1alpha10/tenants",
    "no API": "//tenants",
    "the password file": "//../../../../etc/passwd",
    "the password file, encoded": "//%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "the password file, encoded twice": "//%252e%252e/%252e%252e/etc/passwd",
    "the password file as a file of the page": "//docs/../../../../etc/passwd",
    "an encoded path as a file of the page": "//docs/..%2f..%2f..%2fetc%2fpasswd",
    "backslashes as a file of the page": "//docs/..%5c..%5cpyproject.toml",
    "a path from the root as a file of the page": "//docs//etc/passwd",
    "a NUL in a file of the page": "//docs/swagger-ui.css%00.png",
    "another file of the package": "//docs/index.html",
    "a module as a file of the page": "//docs/__init__.pyc",
    "no file of the page": "//docs/%20",
    "a very long file of the page": "//docs/" + "x" * 30_000,
    "no problem": "//problems/nothing",
    "a script as a problem": "//problems/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "a step up from problems": "//problems/..%2fopenapi.json",
    "a template as a problem": "//problems/%7B%7B7*7%7D%7D",
    "the functions that a process serves": "//-/functions",
    "the functions, with a slash": "//-/functions/",
    "the functions, encoded": "//%2d/functions",
    "the trigger's state": "//-/state",
    "numbers": "//metrics",
    "the repository": "//.git/config",
    "the environment": "//.env",
    "the server's own files": "//static/x",
    "robots": "//robots.txt",
    "a console": "//console",
    "a profiler": "//debug/pprof/",
    "an actuator": "//actuator/env",
    "the key set's file": "//issuer/jwks.json",
    "the stack's file": "//stack.json",
    "health of something else": "//health/x",
    "another's configuration": "//.well-known/openid-configuration",
    "a space": "//%20",
    "a NUL": "//%00",
    "no UTF-8": "//%ff",
}

METHODS = ("OPTIONS", "TRACE", "PROPFIND", "MOVE", "LINK", "PURGE", "DEBUG", "PUT", "POST", "get", "G3T", "M" * 200)
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method", "_method")
REWRITES = ("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Path", "X-Forwarded-Uri", "SCRIPT_NAME")


def spellings() -> Iterator[Attack]:
    for name, path in BELOW_THE_API.items():
        yield request(f"no token, {name}", "GET", path, 401, REQUIRED, token=None)
    for name, path in BESIDE_THE_API.items():
        yield request(f"beside the API, {name}", "GET", path, 404, "ot found", token=None)
    for function in EVENTS:
        yield request("an event function at the gateway", "POST", f"//{function.name}", 404, NOT_FOUND, body=b"[]")
        yield request("an event function below the API", "POST", f"/{function.name}", 404, NOT_FOUND, body=b"[]")


def methods() -> Iterator[Attack]:
    for method in METHODS:
        yield request("a method without a token", method, "/tenants/{tenant_id}", 401, REQUIRED, token=None)
        yield request("a method that is not declared", method, "/tenants/{tenant_id}", 405)
    yield request("no look without a token", "HEAD", "/tenants/{tenant_id}", 401, token=None)
    yield request("no look at what is not there", "HEAD", f"/tenants/{'0' * 8}", 404)
    for page in (
        "/openapi.json",
        "/docs",
        "/docs/swagger-ui.css",
        "/problems/not-found",
        "/health",
        "/livez",
        "/readyz",
    ):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            yield request("a page", method, f"/{page}", 405, token=None)
    for header in OVERRIDES:
        for word in ("DELETE", "PATCH"):
            override = [(header, word)]
            yield request(f"{header} {word}", "POST", "/tenants/{tenant_id}", 405, headers=override)
            yield request(
                f"{header} {word}, no token", "GET", "/tenants/{tenant_id}", 401, token=None, headers=override
            )
    yield request("an override in the query", "POST", "/tenants/{tenant_id}?_method=DELETE", 405)
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    yield request("an override in a form", "POST", "/tenants/{tenant_id}", 405, headers=form, body=b"_method=DELETE")
    for header in REWRITES:
        for open_path in ("//health", "//openapi.json"):
            # The page is shown, and nothing else; that is no refusal, so the other way round is tried as well.
            path = "/tenants/{tenant_id}"
            rewrite = [(header, open_path[1:])]
            yield request(f"{header} to {open_path[1:]}", "GET", path, 401, REQUIRED, token=None, headers=rewrite)


def _raw(name: str, text: str | Callable[[Ground], str], status: int, says: str = "") -> Attack:
    """Bytes on a connection of their own; ``\\n`` stands for a line break of HTTP."""

    def send(ground: Ground) -> Answer:
        told = text if isinstance(text, str) else text(ground)
        return ground.api.send(told.replace("\n", "\r\n").encode("latin-1"), fresh=True)

    return Attack(f"framing, {name}", send, status, says)


def framing() -> Iterator[Attack]:
    """A second request hides in the first, for whoever reads its length otherwise."""

    def post(*lines: str, body: str = "{}", version: str = "HTTP/1.1") -> Callable[[Ground], str]:
        def make(ground: Ground) -> str:
            head = [f"POST {BASE}/tenants {version}", "Host: x", f"Authorization: Bearer {good(ground)}", *lines]
            return "\n".join(head) + "\n\n" + body

        return make

    hidden = "0\n\n" + f"DELETE {BASE}/tenants HTTP/1.1\nHost: x\n\n"
    yield _raw("two lengths that differ", post("Content-Length: 2", "Content-Length: 44", body="{}" * 22), 400)
    yield _raw("two lengths in one", post("Content-Length: 2, 44", body="{}" * 22), 400)
    yield _raw("a negative length", post("Content-Length: -1"), 400)
    yield _raw("a length with a sign", post("Content-Length: +2"), 400)
    yield _raw("a length in hexadecimal", post("Content-Length: 0x2"), 400)
    yield _raw("a length with a letter", post("Content-Length: 2a"), 400)
    yield _raw("a length beyond all numbers", post("Content-Length: " + "9" * 40), 400)
    yield _raw("an encoding that nobody knows", post("Transfer-Encoding: cow", body=hidden), 400)
    yield _raw("chunks, then nothing", post("Transfer-Encoding: chunked, identity", body=hidden), 400)
    yield _raw("a space before the colon", post("Transfer-Encoding : chunked", body=hidden), 400)
    yield _raw("a folded header", post("X-Folded: a\n b: c", "Content-Length: 2"), 400)
    yield _raw("a NUL in a header", post("X-Nul: a\0b", "Content-Length: 2"), 400)
    yield _raw("a header without a name", post(": x", "Content-Length: 2"), 400)
    yield _raw("a header without a colon", post("nothing", "Content-Length: 2"), 400)
    yield _raw("a name with a space", post("X Y: x", "Content-Length: 2"), 400)
    yield _raw("a name beyond ASCII", post("X-\xe9: x", "Content-Length: 2"), 400)
    yield _raw("a length and chunks", post("Content-Length: 2", "Transfer-Encoding: chunked", body=hidden), 400)
    yield _raw("a chunk of no size", post("Transfer-Encoding: chunked", body="zz\nabc\n0\n\n"), 400)
    yield _raw("an unknown version", post("Content-Length: 2", version="HTTP/9.9"), 400)
    yield _raw("no version", f"GET {BASE}/tenants\n\n", 400)
    yield _raw("another protocol", "PRI * HTTP/2.0\n\nSM\n\n", 0)
    yield _raw("no protocol", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400)
    yield _raw("a mail", "HELO fabric\n\n", 400)
    yield _raw("a space in the path", f"GET {BASE}/ten ants HTTP/1.1\nHost: x\n\n", 400)
    yield _raw("a NUL in the path", f"GET {BASE}/\0 HTTP/1.1\nHost: x\n\n", 400)
    yield _raw("a star", "GET * HTTP/1.1\nHost: x\n\n", 404)
    yield _raw("somebody else's address", "GET http://evil.example/api HTTP/1.1\nHost: x\n\n", 404)
    yield _raw("the machine's own address", "GET http://169.254.169.254/latest/meta-data HTTP/1.1\nHost: x\n\n", 404)
    yield _raw("a tunnel", "CONNECT 169.254.169.254:80 HTTP/1.1\nHost: x\n\n", 404)
    yield _raw("very many headers", post(*(f"X-{n}: x" for n in range(2000)), "Content-Length: 2"), 431)
    yield _raw("a very large header", post("X-Large: " + "x" * 1_000_000, "Content-Length: 2"), 431)


def attacks() -> Iterator[Attack]:
    yield from spellings()
    yield from methods()
    yield from framing()
