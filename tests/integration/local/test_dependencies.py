"""What is known about packages of the lock, asked over HTTP as OSV answers it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local import dependencies
from local.dependencies import LOCK, Package, audit, locked, main, weaknesses, withdrawn

TWO = (Package("good", "1.0"), Package("weak", "2.0"))
Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


def known(weak: str, *ids: str) -> Answer:
    """As OSV answers: for each query, what is known of that package in that version."""

    def answer(asked: dict[str, Any]) -> tuple[int, bytes]:
        results = []
        for query in asked["queries"]:
            assert query["package"]["ecosystem"] == "PyPI"
            assert query["version"]
            found = [{"id": one, "modified": "2026-01-01T00:00:00Z"} for one in ids]
            results.append({"vulns": found} if query["package"]["name"] == weak else {})
        return 200, json.dumps({"results": results}).encode()

    return answer


@pytest.fixture
def osv() -> Iterator[Callable[[Answer], str]]:
    """Serves answers, and gives the address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = answer(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1/querybatch"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What pip says where nothing is withdrawn."""
    file = tmp_path / "install.log"
    file.write_text("Successfully installed good-1.0\n")
    return file


def test_a_known_weakness_is_named_and_fails(
    osv: Callable[[Answer], str], log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("good==1.0 \\\n    --hash=sha256:aa\nweak==2.0 \\\n    --hash=sha256:bb\n")
    url = osv(known("weak", "PYSEC-2", "GHSA-1"))
    assert main(["--lock", str(lock), "--osv", url, "--log", str(log)]) == 1
    assert capsys.readouterr().out == "weak 2.0 is known to be weak: GHSA-1, PYSEC-2\n"


def test_where_nothing_is_known_it_is_said(
    osv: Callable[[Answer], str], log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--osv", osv(known("nothing")), "--log", str(log)]) == 0
    assert capsys.readouterr().out == f"nothing is known against {len(locked(LOCK.read_text()))} packages\n"


def test_what_is_tolerated_is_not_told(osv: Callable[[Answer], str], log: Path) -> None:
    url = osv(known("weak", "PYSEC-2", "GHSA-1"))
    assert audit(TWO, url, log, {"GHSA-1": "we do not call it"}) == (["weak 2.0 is known to be weak: PYSEC-2"], [])
    assert audit(TWO, url, log, {"GHSA-1": "x", "PYSEC-2": "y"}) == ([], [])


def test_a_withdrawn_version_is_named_and_fails(osv: Callable[[Answer], str], log: Path) -> None:
    log.write_text(
        "WARNING: The candidate selected for download or install is a yanked version: 'weak' candidate (version 2.0 at"
        " https://files.example/weak-2.0-py3-none-any.whl (from https://index.example/weak/))\n"
        "Reason for being yanked: broken\n"
    )
    assert audit(TWO, osv(known("nothing")), log) == (["weak 2.0 is withdrawn from the index"], [])


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: (500, b"{}"),
        lambda _: (200, b"not JSON"),
        lambda _: (200, b"[]"),
        lambda _: (200, b'{"results": [{}]}'),
        lambda _: (200, b'{"results": [{"vulns": [{}]}, {}]}'),
    ],
)
def test_an_answer_of_another_form_is_none(osv: Callable[[Answer], str], answer: Answer) -> None:
    with pytest.raises(dependencies.NotAskedError):
        weaknesses(TWO, osv(answer))


def test_what_cannot_be_asked_is_said_and_fails_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Nobody listens on port 9 of this machine.
    assert main(["--osv", "http://127.0.0.1:9/", "--log", str(tmp_path / "none")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("known weaknesses were NOT looked for: ")
    assert lines[1].startswith("withdrawn versions were NOT looked for: ")


@pytest.mark.parametrize("line", ["good>=1.0", "good", "-r other.txt", "--index-url x", "./good", "good @ file:///x"])
def test_what_is_not_pinned_is_no_lock(line: str) -> None:
    with pytest.raises(ValueError, match="neither a pinned version nor a hash"):
        locked(line)


def test_a_log_without_such_a_warning_names_nothing(log: Path) -> None:
    assert withdrawn(log) == ()
