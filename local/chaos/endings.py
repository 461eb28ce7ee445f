"""Those outside who end what waits, with what the agents have noted."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from urllib.parse import urlsplit

from local.chaos.client import Client
from local.chaos.shapes import SHAPES

_LOOK_SECONDS = 0.1

Said = tuple[str, int, int, str, str]
"""An outcome that is told to the engine: orchestration, phase, place, kind, token."""


class Endings:
    """A thread's work: ``run`` until the client is stopped.

    ``said`` tells of each ending before it is asked for.
    """

    def __init__(self, executions: Path, client: Client) -> None:
        self.said: set[Said] = set()
        self.at: dict[tuple[str, int, str], int] = {}
        """When each of these activities (orchestration, phase, name) was first ended, on the clock of the agents' log."""
        self._executions = executions
        self._client = client
        self._read = 0

    def run(self) -> None:
        """End whatever waits."""
        while not self._client.stopped.wait(_LOOK_SECONDS):
            for line in self._new_lines():
                _, _, run, type_, phase, activity, _, token, word, url = line.split("\t")
                if word == "wait":
                    place = (run, int(phase), activity)
                    self.said.add((run, int(phase), list(SHAPES[type_]).index(activity), "complete", token))
                    self.at.setdefault(place, time.monotonic_ns())
                    self._client.later(self._end, urlsplit(url).path, token)

    def _new_lines(self) -> list[str]:
        if not self._executions.exists():
            return []
        with self._executions.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        # A line that is being written is left to the next look.
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode().splitlines()

    def _end(self, path: str, token: str) -> None:
        with contextlib.suppress(TimeoutError):  # the fabric is gone; so are those who wait for it
            # A token that has been superseded meanwhile is refused; the next attempt has another.
            self._client.ask("POST", path, {"token": token})
