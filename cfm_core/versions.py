"""Which version of an entity a caller has in mind, so that nobody overwrites what they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cfm_core.errors import PreconditionFailedError


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to be true of an entity for a change to happen.

    Args:
        versions: one of these is its version; None stands for any.
        exists: True where it has to be there already, False where it must not be, None where that is no matter.
    """

    versions: frozenset[int] | None = None
    exists: bool | None = None

    @property
    def as_array(self) -> Sequence[int] | None:
        """The versions for a statement; None for any."""
        return None if self.versions is None else sorted(self.versions)

    def allows(self, version: int) -> bool:
        """Whether an entity in ``version`` is as expected."""
        return self.exists is not False and (self.versions is None or version in self.versions)

    def check(self, what: str, version: int | None) -> None:
        """Raises PreconditionFailedError where ``what``, in ``version`` (None: it is not there), is not as expected."""
        if version is None:
            if self.exists:
                raise PreconditionFailedError(f"there is no {what} yet")
        elif self.exists is False:
            raise PreconditionFailedError(f"{what} exists already")
        elif self.versions is not None and version not in self.versions:
            raise PreconditionFailedError(f"{what} is in version {version} by now")


ANY = Expected()
"""Whatever is there may be changed."""
