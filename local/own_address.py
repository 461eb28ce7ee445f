"""An address at which one process alone answers, where several answer at the same one."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from cfm_core.web.admission import INTERNAL
from local.connections import is_listening

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_HOST = "127.0.0.1"
_SECONDS_BETWEEN_LOOKS = 0.005


def answer(app: WSGIApplication, port: int, beside: int) -> None:
    """Serve ``app`` at ``port`` of loopback, to one client at a time, as soon as this process listens at ``beside``.

    It is for whoever asks how this process is, and ends with it.
    """
    threading.Thread(target=_serve, args=(app, port, beside), name="own-address", daemon=True).start()


def _serve(app: WSGIApplication, port: int, beside: int) -> None:
    never = threading.Event()
    while not is_listening(beside):
        never.wait(_SECONDS_BETWEEN_LOOKS)
    with _Server((_HOST, port), _Handler) as server:
        server.set_app(app)
        server.serve_forever()


class _Server(WSGIServer):
    def server_bind(self) -> None:
        # An HTTP server's own way asks the name service who it is, which may take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.server_address[1]
        self.setup_environ()
        self.base_environ[INTERNAL] = "1"


class _Handler(WSGIRequestHandler):
    timeout = 3

    def log_message(self, format: str, *args: object) -> None:
        return
