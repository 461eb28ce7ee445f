"""Stand-ins for the dataspace services, for development: jwtlet, control plane, IdentityHub, IssuerService, Siglet,
Keycloak, and a vault.

One process serves them all, each under the path that its real service has behind a prefix of its name:

    /jwtlet                        token exchange and management
    /controlplane/api/mgmt         management API
    /identityhub/api/identity      Identity API
    /issuerservice/api/admin       admin API
    /siglet                        management API
    /keycloak                      realm edcv: tokens, and the admin API's clients
    /vault                         KV engines of version 2, policies, tokens; told what a platform's vault is told at first
    /_control                      faults and state; takes the token of CFM_STANDINS_TOKEN
    /health                        200 for anybody

They keep what they are told in memory, and are as strict as the services themselves: methods, bodies, tokens, scopes, statuses.

Faults: POST /_control/faults with one object, all but ``service`` optional; DELETE removes all, hanging calls included.

    {"service": "identityhub", "method": "POST", "path": "/participants", "times": 2, "delaySeconds": 0.5,
     "status": 503, "retryAfter": 1, "hang": false, "drop": false, "afterEffect": false, "flapping": [2, 3]}

``path`` is a regular expression that is looked for in the path, for example ``/holders$``; without ``times`` the fault stays
until it is removed. ``drop`` closes the connection without an answer; ``afterEffect`` lets the request take effect first;
with ``flapping`` two requests that fit meet the fault, the next three do not, and so on. A participant can also bring its
faults along, in its DID: see ``rehearsals.py``.

GET /_control/state tells all that the stand-ins hold, without secrets; GET /_control/secrets every secret that they hold or have
given away, for whoever looks where they have got to; GET /_control/calls how many requests each of them has had;
GET /_control/traces the last hundred different trace contexts with which these came, {} for those without;
POST /_control/keys replaces jwtlet's signing key, so that tokens issued so far are refused; POST /_control/calendar with
{"aheadSeconds": -432000} lets the issuer write its credentials as if it were five days ago, until it is told otherwise.

Source: dataspace service contracts, sections 2 to 10 and 12.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

NAMESPACE = "edc-v"
AGENTS = f"system:serviceaccount:{NAMESPACE}:cfm-agents"
ISSUER_DID = "did:web:issuerservice.edc-v.svc.cluster.local%3A10016:issuer"


def service_account_token(secret: str, account: str) -> str:
    """What the stand-ins take for the cluster's token of a service account; ``secret`` is their control token."""
    name = base64.urlsafe_b64encode(account.encode()).decode().rstrip("=")
    return f"{name}.{hmac.new(secret.encode(), account.encode(), hashlib.sha256).hexdigest()}"


def account_of(secret: str, token: str) -> str | None:
    """The service account whose token this is; None where it is none that the stand-ins take."""
    name = token.partition(".")[0]
    try:
        account = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return account if hmac.compare_digest(token.encode(), service_account_token(secret, account).encode()) else None


def agent_environment(url: str, token: str, token_file: Path) -> dict[str, str]:
    """The environment that makes agents use the stand-ins at ``url``; writes their service account's token to ``token_file``."""
    with open(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(service_account_token(token, AGENTS))
    return {
        "CFM_JWTLET_URL": f"{url}/jwtlet",
        "CFM_JWTLET_MANAGEMENT_URL": f"{url}/jwtlet",
        "CFM_SERVICE_TOKEN_FILE": str(token_file),
        "CFM_SERVICE_ACCOUNT_NAMESPACE": NAMESPACE,
        "CFM_CONTROLPLANE_URL": f"{url}/controlplane/api/mgmt",
        "CFM_CONTROLPLANE_PROTOCOL_URL": f"{url}/controlplane/api/dsp/%s/http-dsp-profile-2025-1",
        "CFM_CONTROLPLANE_DATASERVICE_URL": f"{url}/controlplane/api/dsp/%s/.well-known/dspace-version",
        "CFM_IDENTITYHUB_URL": f"{url}/identityhub/api/identity",
        "CFM_IDENTITYHUB_CREDENTIALS_URL": f"{url}/identityhub/api/credentials/v1/participants/%s",
        "CFM_ISSUERSERVICE_URL": f"{url}/issuerservice/api/admin",
        "CFM_SIGLET_MANAGEMENT_URL": f"{url}/siglet",
        "CFM_SIGLET_SIGNALING_URL": f"{url}/siglet",
        "CFM_PARTICIPANT_VAULT_URL": f"{url}/vault",
        "CFM_KEYCLOAK_URL": f"{url}/keycloak",
        "CFM_VAULT_ADDR": f"{url}/vault",
        "CFM_VAULT_AUTH": "kubernetes",
        "CFM_VAULT_ROLE": "cfm-agents",
        "CFM_VAULT_JWT_FILE": str(token_file),
    }
