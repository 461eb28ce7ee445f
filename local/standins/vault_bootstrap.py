"""What a vault is told once, before a platform uses it: engines, ways to log in, roles, policies.

It is a row of requests, so that a real vault can be told the same.

Source: dataspace service contracts, section 10.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.standins import NAMESPACE

Send = Callable[[str, str, dict[str, Any] | None], Any]
"""Sends a request (method, path below ``/v1``, body) as somebody who may do everything, and gives the answer's document."""

AGENTS_ROLE = "cfm-agents"

AGENTS_POLICY = """
# Credentials of the agents, and those of the clients that they make for participants.
path "secret/data/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/*" { capabilities = ["delete"] }

# A participant's space: who may enter it, and what is in it when it is cleared.
path "sys/policies/acl/participant-*" { capabilities = ["update", "delete"] }
path "auth/jwt/role/participant-*" { capabilities = ["create", "update", "delete"] }
path "participants/metadata/*" { capabilities = ["list", "delete"] }
"""

PARTICIPANT_POLICY = """
path "participants/data/{{identity.entity.aliases.%(jwt)s.name}}/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
path "participants/metadata/{{identity.entity.aliases.%(jwt)s.name}}/*" {
  capabilities = ["read", "list", "delete"]
}
"""


def bootstrap(send: Send, jwks_url: str) -> None:
    """Tell a new vault all that the platform expects of it.

    Args:
        jwks_url: where jwtlet's keys are.
    """
    for mount in ("secret", "participants"):
        send("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    for method in ("jwt", "kubernetes", "approle"):
        send("POST", f"sys/auth/{method}", {"type": method})
    accessor = send("GET", "sys/auth", None)["data"]["jwt/"]["accessor"]
    send("POST", "sys/policies/acl/participant", {"policy": PARTICIPANT_POLICY % {"jwt": accessor}})
    send("POST", "sys/policies/acl/cfm-agents", {"policy": AGENTS_POLICY})
    send("POST", "auth/jwt/config", {"jwks_url": jwks_url, "default_role": "participant"})
    send(
        "POST",
        "auth/jwt/role/participant",
        {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["edcv"],
            "token_policies": ["participant"],
            "token_ttl": "1h",
        },
    )
    send(
        "POST",
        f"auth/kubernetes/role/{AGENTS_ROLE}",
        {
            "bound_service_account_names": ["cfm-agents"],
            "bound_service_account_namespaces": [NAMESPACE],
            "token_policies": ["cfm-agents"],
            "ttl": "1h",
        },
    )
    send("POST", f"auth/approle/role/{AGENTS_ROLE}", {"token_policies": ["cfm-agents"], "token_ttl": "1h"})
