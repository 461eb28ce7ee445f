"""What users and roles may do, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from cfm_core.access.service import Found, Who
from cfm_core.tenancy.memory import Fabric


class MemoryRights:
    """See ``RightStore``."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def find(self, issuer: str, subject: str, roles: Sequence[str]) -> Found:
        fabric = self._fabric
        with fabric.lock:
            for user in fabric.users.values():
                if user.subject == subject and user.issuer in ("", issuer):
                    of_roles = [right for role_id in user.role_ids for right in fabric.roles[role_id].rights]
                    return Found(fabric.access_version, Who.USER, [*user.rights, *of_roles])
            was_user = not fabric.former_users.isdisjoint({("", subject), (issuer, subject)})
            rights = [right for role in fabric.roles.values() if role.name in roles for right in role.rights]
            return Found(fabric.access_version, Who.FORMER if was_user else Who.NOBODY, rights)
