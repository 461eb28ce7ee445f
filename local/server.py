"""Serves declared functions under granian: ``python -m local.server ROLE --port N``.

    gateway     the HTTP functions of both managers, each at its route
    proxy       the same routes, each handed on to the process that ``--upstreams`` names for its function
    events      the event functions of the managers, each at /<name>
    agents      the agents' functions, each at /<name>
    file        the functions of one file, given by ``--source``, each at /<name>
    function    one function, given by ``--source`` and ``--name``, at every path
    list        serves nothing: prints what there is, as JSON

Every function is a functions-framework app of its own. All but the gateway and the proxy are internal, and answer
``GET /-/functions`` with what they serve.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    import flask

    from cfm_core.declaration import Declaration, HttpFunction
    from cfm_core.web.router import Router

INTERNAL = "/-/functions"

GATEWAY_THREADS = 3
"""How many of a gateway's requests are worked on at a time."""
_PLACES = {"gateway": GATEWAY_THREADS, "proxy": 16}
"""The same for each role that faces clients, who may be slow."""
_LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers: a token has at most 8 KiB, an encoded predicate 12. The server takes 100 headers."""
_CONNECTIONS = 512
"""How many clients such a process takes; each may hold a thread until its request has arrived."""
_THREADS = {"agents": 16, "file": 16}
_DEFAULT_THREADS = 4
_ENDING = {signal.SIGTERM, signal.SIGINT}

Body = Iterable[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a process serves, and where."""

    role: str
    host: str = "127.0.0.1"
    port: int = 0
    source: Path | None = None
    name: str = ""
    upstreams: Path | None = None
    patience: float = 30.0
    """Seconds that a client has to send a request, or to take anything of an answer."""
    own_port: int = 0
    """Where this process alone answers, beside others at the same ``port``; 0: nowhere."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class FunctionApps:
    """The functions-framework app of each function, made at its first request."""

    def __init__(self) -> None:
        self._apps: dict[str, WSGIApplication] = {}
        self._lock = threading.Lock()

    def of(self, function: Declaration) -> WSGIApplication:
        """The app that serves ``function``."""
        app = self._apps.get(function.name)
        if app is None:
            import functions_framework

            with self._lock:
                if (app := self._apps.get(function.name)) is None:
                    create: Callable[[str, str], WSGIApplication] = functions_framework.create_app
                    app = self._apps[function.name] = Identified(create(function.name, str(function.source)))
        return app


class Identified:
    """``app`` with an id for each execution: functions-framework would make one of its own, with a dear generator."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ.setdefault("HTTP_FUNCTION_EXECUTION_ID", uuid.uuid4().hex)
        return self.app(environ, start_response)


class Gateway:
    """Hands each request to the function of its route.

    Args:
        app_of: gives what serves a function.
    """

    def __init__(self, router: Router, app_of: Callable[[HttpFunction], WSGIApplication]) -> None:
        from cfm_core.web.edge import PATH_VARIABLES

        self._router = router
        self._app_of = app_of
        self._path_variables = PATH_VARIABLES

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        found = self._router.match(environ["REQUEST_METHOD"], path)
        if found.function is None:
            return unmatched(environ, found.allowed)(environ, start_response)
        environ[self._path_variables] = found.variables
        # Nothing here speaks another protocol, and Flask would say so in its own way.
        environ.pop("HTTP_UPGRADE", None)
        return self._app_of(found.function)(environ, start_response)


def unmatched(environ: WSGIEnvironment, allowed: Sequence[str]) -> flask.Response:
    """What a request is told that no function answers."""
    import flask

    from cfm_core.web import edge

    return edge.unmatched(flask.Request(environ), allowed)


class Named:
    """Serves each function at ``/<name>``, for callers inside the stack."""

    def __init__(self, functions: Iterable[Declaration], url: str) -> None:
        self._functions = {f"/{function.name}": function for function in functions}
        self._apps = FunctionApps()
        self._description = description(self._functions.values(), lambda function: f"{url}/{function.name}")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        function = self._functions.get(environ["PATH_INFO"])
        if function is not None:
            return self._apps.of(function)(environ, start_response)
        return _internal(self._description, environ, start_response)


class Alone:
    """Serves one function at every path."""

    def __init__(self, function: Declaration, url: str) -> None:
        self._app = FunctionApps().of(function)
        self._description = description([function], lambda _: url)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        if environ["PATH_INFO"] == INTERNAL:
            return _internal(self._description, environ, start_response)
        return self._app(environ, start_response)


def _internal(document: str, environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    from werkzeug.datastructures import Headers

    from cfm_core.web.headers import protect

    found = environ["PATH_INFO"] == INTERNAL
    headers = Headers([("Content-Type", "application/json" if found else "text/plain; charset=utf-8")])
    protect(headers, "no-store")
    start_response("200 OK" if found else "404 Not Found", headers.to_wsgi_list())
    return [document.encode() if found else b"404 page not found\n"]


def description(functions: Iterable[Declaration], url_of: Callable[[Declaration], str]) -> str:
    """The functions as JSON: name, file, whether HTTP or events, and an event function's target for the trigger."""
    from cfm_core.declaration import EventFunction
    from cfm_core.eventing import targets

    return json.dumps(
        [
            {
                "name": function.name,
                "source": str(function.source),
                "agent": isinstance(function, EventFunction) and function.of_agent,
                "target": json.loads(targets.dump([targets.target_of(function, url_of(function))]))["targets"][0]
                if isinstance(function, EventFunction)
                else None,
            }
            for function in functions
        ]
    )


def managers() -> tuple[Declaration, ...]:
    """Everything that both managers and the orchestrator declare."""
    import functions.managers
    import functions.orchestrator
    import functions.provision_manager
    import functions.tenant_manager
    from cfm_core.declaration import discover

    return (
        *discover(functions.managers),
        *discover(functions.tenant_manager),
        *discover(functions.provision_manager),
        *discover(functions.orchestrator),
    )


def agents() -> tuple[Declaration, ...]:
    """Every agent of the project."""
    import functions.agents
    from cfm_core.declaration import discover

    return discover(functions.agents)


def functions_of(source: Path) -> tuple[Declaration, ...]:
    """Everything that a file declares, in its order.

    Raises:
        FatalError: it declares nothing, or its name is that of a standard module, which it would replace.
    """
    import importlib.util

    from cfm_core.declaration import declared
    from cfm_core.errors import FatalError

    source = source.resolve()
    if source.stem in sys.stdlib_module_names:
        raise FatalError(f"{source} is named like Python's own module {source.stem!r}; rename it")
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise FatalError(f"{source} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    sys.path.append(str(source.parent))
    spec.loader.exec_module(module)
    found = tuple(function for function in declared() if function.source == source)
    if not found:
        raise FatalError(f"{source} declares no function; an agent is a class decorated with @activity(...)")
    return found


def application(options: Options) -> WSGIApplication:
    """Make what a process serves."""
    from cfm_core import deployment
    from cfm_core.assembly.telemetry import TELEMETRY
    from cfm_core.declaration import EventFunction

    deployment.services((TELEMETRY,))
    match options.role:
        case "gateway":
            return Gateway(_routes(), FunctionApps().of)
        case "proxy":
            from local.proxy import Upstreams

            assert options.upstreams is not None
            upstreams = Upstreams(json.loads(options.upstreams.read_text()))
            return Gateway(_routes(), upstreams.of)
        case "events":
            return Named((one for one in managers() if isinstance(one, EventFunction)), options.url)
        case "agents":
            return Named(agents(), options.url)
        case "file":
            assert options.source is not None
            return Named(functions_of(options.source), options.url)
        case "function":
            assert options.source is not None
            (function,) = (one for one in functions_of(options.source) if one.name == options.name)
            return Alone(function, options.url)
        case other:
            raise ValueError(f"no role {other!r}")


def _routes() -> Router:
    """The route table of both managers."""
    from cfm_core import deployment
    from cfm_core.assembly.router import ROUTER

    managers()
    (router,) = deployment.services((ROUTER,))
    found: Router = router
    return found


def serve(options: Options, make: Callable[[Options], WSGIApplication] = application) -> None:
    """Serve what ``make`` makes until SIGTERM or SIGINT; requests in hand are answered first."""
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import MTServer

    class OneProcess(MTServer):
        """Granian with its worker as a thread of this process, which saves the memory of a process that only waits.

        Its makers offer that for Pythons without a global lock; with one it serves as fast as with a process of its own.
        """

        def _check_gil(self) -> None:
            return

    if (places := _PLACES.get(options.role)) is not None:
        load = partial(_admitting, options, make, places)
        limits: dict[str, Any] = {
            "blocking_threads": _CONNECTIONS,
            "backpressure": _CONNECTIONS,
            # Counts for a connection at rest, too.
            "http1_settings": HTTP1Settings(
                header_read_timeout=round(options.patience * 1000), max_buffer_size=_LARGEST_HEAD
            ),
        }
    else:
        load = partial(make, options)
        limits = {"blocking_threads": _THREADS.get(options.role, _DEFAULT_THREADS)}
    server = OneProcess(
        "local.server",
        address=options.host,
        port=options.port,
        interface=Interfaces.WSGI,
        workers=1,
        http=HTTPModes.http1,
        websockets=False,
        log_access=False,
        log_level=LogLevels.info,
        **limits,
    )
    # Waited for and not handled: a handler that interrupts another, or the wait itself, would wait for a lock of its own.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    threading.Thread(target=_end_when_told, args=[server], daemon=True).start()
    server.serve(target_loader=load, wrap_loader=False)


def _end_when_told(server: Any) -> None:
    signal.sigwait(_ENDING)
    server.signal_handler_interrupt()


def _admitting(options: Options, make: Callable[[Options], WSGIApplication], places: int) -> WSGIApplication:
    from local import own_address
    from local.admission import Admission
    from local.connections import Connections

    connections = Connections(options.port, options.patience)
    connections.watch()
    app = Admission(make(options), places, connections)
    if options.own_port:
        own_address.answer(app, options.own_port, beside=options.port)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m local.server")
    roles = ["gateway", "proxy", "events", "agents", "file", "function", "list"]
    parser.add_argument("role", choices=roles)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--name", default="")
    parser.add_argument("--upstreams", type=Path)
    parser.add_argument("--own-port", type=int, default=0)
    given: dict[str, Any] = vars(parser.parse_args(argv))
    options = Options(**given)
    if options.role == "list":
        everything = (*managers(), *agents()) if options.source is None else functions_of(options.source)
        print(description(everything, lambda _: "http://127.0.0.1:0"))
    else:
        _check_host(options)
        serve(options)


def _check_host(options: Options) -> None:
    """End the process that asks for no tokens where other machines would reach it."""
    from cfm_core.assembly.listeners import is_loopback
    from cfm_core.settings import Settings

    if Settings.from_environ().auth == "off" and not is_loopback(options.host):
        sys.exit(f"CFM_AUTH=off is for loopback, and others reach {options.host}: set CFM_AUTH=jwt")


if __name__ == "__main__":
    main()
