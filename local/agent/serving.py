"""Serves the functions of an agent's file, each a functions-framework app at its name; if wished, anew after each change."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from local.server import Named, Options, functions_of, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_LOOK_SECONDS = 1


def serve_file(file: Path, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    serve(Options(role="file", host=host, port=port, source=file))


def serve_file_reloading(file: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; whenever a module changes, begin again in another process.

    One that cannot be imported is answered for with 503, until it is changed again.
    """
    from werkzeug.serving import is_running_from_reloader, run_simple

    # The first process only looks after the one that serves.
    app = _loaded(file, f"http://{host}:{port}", say) if is_running_from_reloader() else _unavailable("not serving")
    run_simple(
        host,
        port,
        app,
        threaded=True,
        use_reloader=True,
        reloader_type="stat",
        reloader_interval=_LOOK_SECONDS,
        extra_files=[str(file)],
    )


def _loaded(file: Path, url: str, say: Callable[[str], None]) -> WSGIApplication:
    try:
        functions = functions_of(file)
    except Exception as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        say(f"{file} cannot be served until it is changed: {text}")
        return _unavailable(text)
    say(f"{file} is served with {', '.join(f'{url}/{one.name}' for one in functions)}")
    return Named(functions, url)


def _unavailable(reason: str) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{reason}\n".encode()]

    return app
