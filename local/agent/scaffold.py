"""Writes a new agent: the example, under a name of the author's."""

from __future__ import annotations

import keyword
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cfm_core.contracts import subjects
from cfm_core.errors import ConflictError, ValidationError

FILES = ("acme_dns.py", "acme_dns_service.py", "test_acme_dns.py", "values.json")


@dataclass(frozen=True, slots=True)
class Names:
    """An activity type, and what stands for it in code."""

    activity_type: str
    module: str
    cls: str
    variable: str

    @classmethod
    def of(cls, activity_type: str) -> Names:
        """The names for an activity type.

        Raises:
            ValidationError: it cannot be one, or no module can be named like it.
        """
        if not subjects.is_activity_type(activity_type):
            raise ValidationError(
                f"{activity_type!r} cannot be an activity type: letters, digits, '-', '_' and single dots only"
            )
        parts = [part for part in activity_type.replace(".", "-").replace("_", "-").lower().split("-") if part]
        module = "_".join(parts)
        if not module.isidentifier() or keyword.iskeyword(module) or module in sys.stdlib_module_names:
            raise ValidationError(f"{activity_type!r} would make a Python module named {module!r}; take another name")
        return cls(activity_type, module, "".join(part.capitalize() for part in parts), module.upper())

    def put_into(self, text: str) -> str:
        """The example's ``text`` with these names."""
        for old, new in zip(
            ("acme.dns", "acme_dns", "AcmeDns", "ACME_DNS"),
            (self.activity_type, self.module, self.cls, self.variable),
            strict=True,
        ):
            text = text.replace(old, new)
        return text


def write(activity_type: str, folder: Path) -> list[Path]:
    """Write a complete agent into ``folder``, which is made if it is not there, and give its files.

    Raises:
        ValidationError: the activity type has no name that fits.
        ConflictError: one of the files is there already; nothing is written.
    """
    names = Names.of(activity_type)
    example = resources.files("local.agent.example")
    texts = {
        folder / names.put_into(name): names.put_into((example / name).read_text(encoding="utf-8")) for name in FILES
    }
    there = [str(path) for path in texts if path.exists()]
    if there:
        raise ConflictError(f"{', '.join(there)} is there already" if len(there) == 1 else f"there already: {there}")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        with path.open("x", encoding="utf-8") as opened:
            opened.write(text)
    return list(texts)
