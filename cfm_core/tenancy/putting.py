"""PUT: an entity whose id the caller chooses, created or replaced."""

from __future__ import annotations

from collections.abc import Callable

from cfm_core.entities import JsonEntity
from cfm_core.errors import RecoverableError
from cfm_core.versions import Expected

_ATTEMPTS = 3


def created_or_replaced(
    what: str,
    expected: Expected,
    replace: Callable[[], JsonEntity | None],
    create: Callable[[], JsonEntity | None],
) -> tuple[bool, JsonEntity]:
    """What ``replace`` or ``create`` gives, and whether it is new.

    Args:
        what: names the entity in errors.
        replace: None where there is nothing to replace.
        create: None where the id is taken.

    Raises:
        PreconditionFailedError: it is not there, and has to be.
        RecoverableError: it comes and goes too fast.
    """
    for _ in range(_ATTEMPTS):
        if (after := replace()) is not None:
            return False, after
        expected.check(what, None)
        if (new := create()) is not None:
            return True, new
    raise RecoverableError(f"{what} is coming and going just now")
