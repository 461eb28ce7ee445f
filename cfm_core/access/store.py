"""What users and roles may do, in Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cfm_core.access.model import Action, Resource, Right
from cfm_core.access.service import Found, Who
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.access")

_ACTIONS = frozenset(Action)
_RESOURCES = frozenset(Resource)


class PostgresRights:
    """See ``RightStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, issuer: str, subject: str, roles: Sequence[str]) -> Found:
        # A text with a NUL cannot be that of a user or a role.
        names = [name for name in roles if "\0" not in name]
        subject = "" if "\0" in subject else subject
        ((version, who, rights),) = self._database.rows(SQL["find"], issuer=issuer, subject=subject, roles=names)
        return Found(version, Who(who), tuple(rights_from(json.loads(rights))))

    def make_first_administrator(self, issuer: str, subject: str) -> str:
        """Make a user who may do everything, or give that right to one who is there; gives the id.

        Raises:
            ConflictError: somebody has that right already.
        """
        user_id: str = self._database.value(SQL["make_first_administrator"], issuer=issuer, subject=subject)
        return user_id


def rights_from(documents: Iterable[Mapping[str, Any]]) -> Iterable[Right]:
    """Rights as they are stored. One that a later version of this program has written, and this one does not know, is none."""
    for one in documents:
        if one["action"] in _ACTIONS and one["resource"] in _RESOURCES:
            yield Right(
                Action(one["action"]),
                Resource(one["resource"]),
                one.get("tenantId", ""),
                one.get("participantProfileId", ""),
                one.get("vpaId", ""),
                one.get("cellId", ""),
            )
