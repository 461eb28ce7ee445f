"""When a cron expression comes due in a time zone: the one module that knows the library which reckons it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from cfm_core.errors import FieldError, ValidationError

LONGEST_CRON = 256
_FIELDS = 5


def next_time(cron: str, time_zone: str, after: datetime) -> datetime | None:
    """The first time of ``cron`` behind ``after``, in UTC; None where none comes within fifty years.

    Minutes and hours that are given as such are times of the clock on the wall: one that daylight saving time leaves out comes
    due as soon as the clock has gone on, one that comes twice comes due the first time only. Where minute or hour begins with
    ``*``, what is meant is every so often: nothing is made up for and nothing left out, and the clock decides which hour it is.
    Where day of month and day of week are both given, either is enough; where one of them begins with ``*``, both must fit.

    Raises:
        ValidationError: there is no such time zone, or the expression cannot be read.
    """
    if time_zone not in _time_zones():
        detail = "must be a time zone of the IANA database such as Europe/Berlin"
        raise ValidationError(f"Invalid timeZone: {detail}", [FieldError("/timeZone", detail)])
    if len(cron) > LONGEST_CRON or len(cron.split()) != _FIELDS:
        raise _unreadable("must have five fields: minute, hour, day of month, month, day of week")
    try:
        for found in CronSim(cron, after.astimezone(ZoneInfo(time_zone))):
            # What is reckoned on the wall can lie before an instant in an hour that comes for the second time.
            if (instant := found.astimezone(UTC)) > after:
                return instant
    except CronSimError as error:
        raise _unreadable(str(error)) from None
    return None


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def _unreadable(detail: str) -> ValidationError:
    return ValidationError(f"Invalid cron: {detail}", [FieldError("/cron", detail)])
