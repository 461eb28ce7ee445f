"""Faults that the stand-ins are told to have."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from local.standins.http import Request


class FaultError(Exception):
    """A fault is described in a way that makes no sense."""


@dataclass(slots=True)
class Fault:
    """What goes wrong with requests that fit; ``times`` None for ever.

    With ``flapping`` it comes and goes: so many of them meet it, so many after them do not, and so on.
    """

    service: str
    method: str = ""
    path: str = ""
    status: int = 0
    times: int | None = None
    delay_seconds: float = 0.0
    retry_after: float | None = None
    hang: bool = False
    drop: bool = False
    after_effect: bool = False
    flapping: tuple[int, int] | None = None
    seen: int = 0
    lifted: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def from_json(cls, document: Any, services: set[str]) -> Fault:
        """Read a fault.

        Raises:
            FaultError: it is not one.
        """
        if not isinstance(document, dict):
            raise FaultError("a fault is an object")
        names = {
            "service",
            "method",
            "path",
            "status",
            "times",
            "delaySeconds",
            "retryAfter",
            "hang",
            "drop",
            "afterEffect",
            "flapping",
        }
        if unknown := set(document) - names:
            raise FaultError(f"unknown: {', '.join(sorted(unknown))}")
        try:
            fault = cls(
                service=str(document["service"]),
                method=str(document.get("method", "")).upper(),
                path=str(document.get("path", "")),
                status=int(document.get("status", 0)),
                times=None if document.get("times") is None else int(document["times"]),
                delay_seconds=float(document.get("delaySeconds", 0)),
                retry_after=None if document.get("retryAfter") is None else float(document["retryAfter"]),
                hang=bool(document.get("hang", False)),
                drop=bool(document.get("drop", False)),
                after_effect=bool(document.get("afterEffect", False)),
                flapping=_flapping(document.get("flapping")),
            )
            re.compile(fault.path)
        except (KeyError, ValueError, TypeError, re.error) as error:
            raise FaultError(f"not a fault: {error!r}") from None
        if fault.service not in services:
            raise FaultError(f"service must be one of {', '.join(sorted(services))}")
        if not (fault.status or fault.delay_seconds or fault.hang or fault.drop):
            raise FaultError("a fault needs a status, delaySeconds, hang or drop")
        return fault

    def to_json(self) -> dict[str, Any]:
        return {
            "service": self.service,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "times": self.times,
            "delaySeconds": self.delay_seconds,
            "hang": self.hang,
            "drop": self.drop,
            "afterEffect": self.after_effect,
            "flapping": None if self.flapping is None else list(self.flapping),
        }

    def meets(self) -> bool:
        """Whether it is there for a request that fits; counts the request."""
        if self.times == 0:
            return False
        self.seen += 1
        if self.flapping is not None and (self.seen - 1) % sum(self.flapping) >= self.flapping[0]:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The faults in force, the oldest first; safe to share between threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Lift all faults; what hangs goes on."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.lifted.set()

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.to_json() for fault in self._faults]

    def take(self, service: str, request: Request) -> Fault | None:
        """The fault that this request meets, if any; counts it."""
        with self._lock:
            for fault in self._faults:
                if (
                    fault.service == service
                    and fault.method in {"", request.method}
                    and re.search(fault.path, request.path)
                    and fault.meets()
                ):
                    return fault
        return None


def _flapping(described: Any) -> tuple[int, int] | None:
    if described is None:
        return None
    there, gone = described
    if not (isinstance(there, int) and isinstance(gone, int) and there > 0 and gone > 0):
        raise ValueError("flapping is two counts of requests, both at least 1")
    return there, gone
