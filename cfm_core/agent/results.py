"""The five ways in which an attempt at an activity ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

LONGEST_DELAY = timedelta(days=3650)


def _check_delay(name: str, delay: object) -> None:
    if not isinstance(delay, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {delay!r:.100}")
    if not timedelta(0) <= delay <= LONGEST_DELAY:
        raise ValueError(f"{name} must be between 0 and {LONGEST_DELAY.days} days, not {delay}")


def _check_reason(reason: object) -> None:
    if not isinstance(reason, str):
        raise TypeError(f"reason must be text, not {reason!r:.100}")


@dataclass(frozen=True, slots=True)
class Complete:
    """The activity is done; what depends on it may start."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else ends the activity, with the token of ``ctx.completion``; after ``timeout`` it has failed.

    Without one, its definition says how long it waits, or else a day.
    """

    timeout: timedelta | None = None
    reason: str = ""
    """What is waited for."""

    def __post_init__(self) -> None:
        if self.timeout is not None:
            _check_delay("timeout", self.timeout)
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Nothing went wrong: run the activity again ``after`` a pause, for example to look once more."""

    after: timedelta

    def __post_init__(self) -> None:
        _check_delay("after", self.after)


@dataclass(frozen=True, slots=True)
class Retry:
    """This attempt failed, and a later one may not. Without ``after`` the delay grows with each failure."""

    reason: str
    after: timedelta | None = None

    def __post_init__(self) -> None:
        _check_reason(self.reason)
        if self.after is not None:
            _check_delay("after", self.after)


@dataclass(frozen=True, slots=True)
class Fatal:
    """No attempt can succeed; the orchestration fails."""

    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


ActivityResult = Complete | Wait | Schedule | Retry | Fatal
