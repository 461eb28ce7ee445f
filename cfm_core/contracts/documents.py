"""The base of all JSON documents that cross a process."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """Python names inside, camelCase on the wire; unknown fields are ignored; immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def to_json(self) -> dict[str, object]:
        """The document as plain JSON values, with the wire's names."""
        return self.model_dump(mode="json", by_alias=True)
