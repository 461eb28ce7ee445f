"""How data name a secret, whose value they never hold."""

from __future__ import annotations

from dataclasses import dataclass

from cfm_core.errors import ValidationError

REFERENCE = "vault:"
"""What every reference to a secret begins with."""
CONTENT = "content"
"""The field of a secret that has a single one."""


def checked_path(path: str) -> str:
    """Give ``path`` if every store can hold it.

    Raises:
        ValidationError: a segment is empty or ends with a period, there is a control character, or it is a reference.
    """
    fits = all(segment and not segment.endswith(".") for segment in path.split("/")) and path.isprintable()
    if not fits or path.startswith(REFERENCE):
        raise ValidationError(
            f"{path!r} is no path of a secret: segments between slashes, none empty or ending with '.'"
        )
    return path


@dataclass(frozen=True, slots=True)
class SecretReference:
    """One field of one secret; as text ``vault:<mount>/<path>#<field>``."""

    mount: str
    path: str
    field: str = CONTENT

    def __str__(self) -> str:
        return f"{REFERENCE}{self.mount}/{self.path}#{self.field}"

    @classmethod
    def parse(cls, text: str) -> SecretReference:
        """Read a reference.

        Raises:
            ValidationError: it is none.
        """
        place, _, field = text.removeprefix(REFERENCE).partition("#")
        mount, _, path = place.partition("/")
        if not text.startswith(REFERENCE) or not field or not field.isprintable() or not path:
            raise ValidationError(f"{text!r} is no reference to a secret: vault:<mount>/<path>#<field>")
        checked_path(place)
        return cls(mount, path, field)

    @classmethod
    def named(cls, name: str, mount: str) -> SecretReference:
        """Read a reference, or a path of ``mount``, which stands for its field ``content``.

        Raises:
            ValidationError: it is neither.
        """
        return cls.parse(name) if name.startswith(REFERENCE) else cls(mount, checked_path(name))


def is_beginning(name: str) -> bool:
    """Whether a name stands for all references that begin like it: ``vault:<mount>/*``, or longer."""
    return name.startswith(REFERENCE) and name.endswith("/*")
