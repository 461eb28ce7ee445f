"""Where events go: one target for each event function, told to the trigger as a JSON file.

    {"targets": [{"name": "...", "url": "http://...", "subject": "event...", "every": null, "batch": 256, "slots": 2,
                  "timeout": "PT30S", "activity": null, "ofAgent": false}]}

``every`` and ``timeout`` are ISO 8601 durations. ``activity`` is an ``ActivityTypeAnnouncement`` in its JSON form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from cfm_core.declaration import EventFunction

_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One event function as the trigger sees it; the fields mean what they mean in its declaration."""

    name: str
    url: str
    subject: str = ""
    every: timedelta | None = None
    batch: int = 256
    slots: int = 2
    timeout: timedelta = timedelta(seconds=30)
    activity: dict[str, Any] | None = None
    of_agent: bool = False

    @property
    def runs_activities(self) -> bool:
        """Whether its events are dispatched activities, each of which has to be answered with an outcome."""
        return self.activity is not None


def target_of(declaration: EventFunction, url: str) -> Target:
    """The target of a declared function that is served at ``url``."""
    return Target(
        name=declaration.name,
        url=url,
        subject=declaration.subject,
        every=declaration.every,
        batch=declaration.batch,
        slots=declaration.slots,
        timeout=declaration.timeout,
        activity=declaration.activity.to_json() if declaration.activity else None,
        of_agent=declaration.of_agent,
    )


def dump(targets: Iterable[Target]) -> str:
    """The targets as the text of a targets file."""
    items = [
        {
            "name": target.name,
            "url": target.url,
            "subject": target.subject,
            "every": None if target.every is None else _duration_text(target.every),
            "batch": target.batch,
            "slots": target.slots,
            "timeout": _duration_text(target.timeout),
            "activity": target.activity,
            "ofAgent": target.of_agent,
        }
        for target in targets
    ]
    return json.dumps({"targets": items}, indent=1)


def load(text: str) -> tuple[Target, ...]:
    """Read a targets file.

    Raises:
        FatalError: it is not one, or two targets share a name or a subject.
    """
    try:
        targets = tuple(_target(item) for item in json.loads(text)["targets"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FatalError(f"the targets file is not valid: {type(error).__name__}: {error}") from error
    for field in ("name", "subject"):
        seen: set[str] = set()
        for target in targets:
            value: str = getattr(target, field)
            if value and value in seen:
                raise FatalError(f"two targets have the {field} {value!r}")
            seen.add(value)
    return targets


def _target(item: dict[str, Any]) -> Target:
    target = Target(
        name=str(item["name"]),
        url=str(item["url"]),
        subject=str(item.get("subject") or ""),
        every=None if item.get("every") is None else _duration(item["every"]),
        batch=int(item.get("batch", 256)),
        slots=int(item.get("slots", 2)),
        timeout=_duration(item.get("timeout", "PT30S")),
        activity=item.get("activity"),
        of_agent=bool(item.get("ofAgent")),
    )
    if not target.url.startswith(("http://", "https://")):
        raise ValueError(f"{target.name}: {target.url!r} is not an HTTP URL")
    if bool(target.subject) == (target.every is not None):
        raise ValueError(f"{target.name} needs either a subject or an interval")
    if target.batch < 1 or target.slots < 1:
        raise ValueError(f"{target.name}: batch and slots must be at least 1")
    return target


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as PT30S")
    return timedelta(**{unit: float(number) for unit, number in found.groupdict().items() if number})


def _duration_text(duration: timedelta) -> str:
    return f"PT{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "S"
