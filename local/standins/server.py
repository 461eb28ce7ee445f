"""The one process of all stand-ins: an HTTP server of the standard library, a thread a connection."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from local.standins import account_of, keycloak
from local.standins.control_plane import ControlPlane
from local.standins.events import Emit, dropped
from local.standins.faults import Fault, FaultError, Faults
from local.standins.http import Answer, Request, Service
from local.standins.identity_hub import IdentityHub
from local.standins.issuer_service import IssuerService
from local.standins.jwtlet import Jwtlet
from local.standins.rehearsals import Rehearsals
from local.standins.siglet import Siglet
from local.standins.tokens import TokenSigner
from local.standins.vault import Vault

log = logging.getLogger(__name__)

CONTROL = "/_control"
_TRACE = ("traceparent", "tracestate", "baggage")
_MOST_TRACES = 100
_LONGEST_BODY = 1 << 20


class StandIns:
    """All stand-ins, listening on ``host:port``.

    Args:
        token: what the control surface and the vault take, and what service account tokens are made with.
        port: 0 picks a free one.
        issue_delay: seconds that the issue of credentials takes.
        key_delay: seconds until a new key is active.
        token_lifetime: of jwtlet's tokens, in seconds.
        clock: monotonic seconds.
        emit: is given the events that the IdentityHub publishes.
    """

    def __init__(
        self,
        token: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        issue_delay: float = 1.0,
        key_delay: float = 0.0,
        token_lifetime: int = 3600,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = dropped,
    ) -> None:
        self._token = token
        self._signer = TokenSigner()
        self._ahead = timedelta(0)
        issuer = IssuerService(self._signer, lambda: datetime.now(UTC) + self._ahead)
        keycloak_signer = TokenSigner(keycloak.ISSUER)
        issuers = {
            "/.well-known/jwks.json": self._signer,
            f"/realms/{keycloak.REALM}/protocol/openid-connect/certs": keycloak_signer,
        }
        self.vault = Vault(token, issuers, partial(account_of, token), clock)
        self._services: list[Service] = [
            Jwtlet(self._signer, token, token_lifetime),
            ControlPlane(self._signer),
            IdentityHub(self._signer, issuer, issue_delay, key_delay, clock, emit),
            issuer,
            Siglet(self._signer),
            keycloak.Keycloak(keycloak_signer, keycloak.admin_password(token), clock),
            self.vault,
        ]
        self._faults = Faults()
        self._rehearsals = Rehearsals()
        self._calls = {service.name: 0 for service in self._services}
        self._traces: dict[str, list[dict[str, str]]] = {service.name: [] for service in self._services}
        self._state = threading.Lock()
        self._http = _Server((host, port), _handler_for(self))
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    def serve(self) -> None:
        """Answer requests until ``stop`` is called by another thread."""
        self._http.serve_forever(poll_interval=0.05)

    def start(self) -> None:
        """Answer requests in a thread of its own."""
        self._thread = threading.Thread(target=self.serve, daemon=True, name="standins")
        self._thread.start()

    def stop(self) -> None:
        """Stop answering; what hangs is let go."""
        self._faults.clear()
        self._http.shutdown()
        self._http.server_close()
        if self._thread is not None:
            self._thread.join()

    def state(self) -> dict[str, Any]:
        """All that the stand-ins hold, as JSON; no secrets."""
        with self._state:
            return {service.name: service.state() for service in self._services}

    def answer(self, path: str, request: Request) -> Answer | None:
        """Answer a request for the whole path; None where there shall be no answer."""
        if path == "/health":
            return Answer(200, {"status": "up"})
        if path == CONTROL or path.startswith(CONTROL + "/"):
            return self._control(path.removeprefix(CONTROL), request)
        for service in self._services:
            if path.startswith(service.prefix + "/"):
                below = Request(
                    request.method, path.removeprefix(service.prefix), request.query, request.headers, request.body
                )
                return self._of(service, below)
        return Answer(404, "not found")

    def _of(self, service: Service, request: Request) -> Answer | None:
        fault = self._faults.take(service.name, request)
        with self._state:
            self._calls[service.name] += 1
            self._note_trace(service, request)
            if fault is None:
                fault = self._rehearsals.fault_for(service.name, request)
                if fault is None:
                    return service.answer(request)
        return self._faulty(fault, service, request)

    def _note_trace(self, service: Service, request: Request) -> None:
        seen = self._traces[service.name]
        context = {name: request.headers[name] for name in _TRACE if name in request.headers}
        if context not in seen:
            seen.append(context)
            del seen[:-_MOST_TRACES]

    def _faulty(self, fault: Fault, service: Service, request: Request) -> Answer | None:
        answer = None
        if fault.after_effect:
            with self._state:
                answer = service.answer(request)
        if fault.delay_seconds:
            fault.lifted.wait(fault.delay_seconds)
        if fault.hang:
            fault.lifted.wait()
            return None
        if fault.drop:
            return None
        if fault.status:
            headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return Answer(fault.status, "a fault that was asked for", headers)
        if answer is None:
            with self._state:
                answer = service.answer(request)
        return answer

    def _control(self, path: str, request: Request) -> Answer:
        if not hmac.compare_digest(request.bearer.encode(), self._token.encode()):
            return Answer(401, {"error": "the control surface takes its own token only"})
        match request.method, path:
            case "GET", "/state":
                return Answer(200, self.state())
            case "GET", "/secrets":
                with self._state:
                    return Answer(200, sorted({one for service in self._services for one in service.secrets()}))
            case "GET", "/calls":
                with self._state:
                    return Answer(200, self._calls.copy())
            case "GET", "/traces":
                with self._state:
                    return Answer(200, {name: seen.copy() for name, seen in self._traces.items()})
            case "GET", "/faults":
                return Answer(200, self._faults.listed())
            case "POST", "/faults":
                try:
                    fault = Fault.from_json(json.loads(request.body), {service.name for service in self._services})
                except (ValueError, FaultError) as error:
                    return Answer(400, {"error": str(error)})
                self._faults.add(fault)
                return Answer(201, fault.to_json())
            case "DELETE", "/faults":
                self._faults.clear()
                return Answer(204)
            case "POST", "/calendar":
                try:
                    ahead = timedelta(seconds=float(json.loads(request.body)["aheadSeconds"]))
                except (ValueError, TypeError, KeyError, OverflowError) as error:
                    return Answer(400, {"error": f"not an object with the number aheadSeconds: {error!r}"})
                with self._state:
                    self._ahead = ahead
                return Answer(204)
            case "POST", "/keys":
                with self._state:
                    self._signer.rotate()
                return Answer(204)
        return Answer(404, {"error": "not found"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # Without the parent's look-up of the host's name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def _handler_for(standins: StandIns) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            begun = time.perf_counter()
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            if length > _LONGEST_BODY:
                self.send_error(413)
                self.close_connection = True
                return
            request = Request(
                self.command,
                path,
                dict(parse_qsl(query)),
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            answer = standins.answer(path, request)
            if answer is None:
                self.close_connection = True
                log.info("%s %s: no answer", self.command, path)
                return
            self._send(answer)
            log.info("%s %s %d %.1f ms", self.command, path, answer.status, (time.perf_counter() - begun) * 1000)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = _answer

        def _send(self, answer: Answer) -> None:
            body, content_type = answer.encoded()
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if content_type:
                self.send_header("Content-Type", content_type)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(body)))
            # Head and body in one packet: two small ones would wait for each other.
            self._headers_buffer: Any
            self._headers_buffer.append(b"\r\n")
            head = b"".join(self._headers_buffer)
            self._headers_buffer = []
            try:
                self.wfile.write(head + (b"" if answer.status == 204 else body))
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            log.warning(format, *args)

    return Handler
