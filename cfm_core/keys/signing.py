"""Which key signs a participant's tokens, as Siglet and the control plane are told it.

Source: dataspace service contracts, sections 5.3, 8.2 and 11.8.
"""

from __future__ import annotations

from collections.abc import Iterable

from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.identity_hub import KeyPair
from cfm_core.clients.siglet import KeyMapping, Siglet

STS_TYPE = "edc.iam.sts.type"
STS_KEY_NAME = "edc.iam.sts.signature.keyname"
STS_KEY_ID = "edc.iam.sts.signature.kid"


def signing_key(pairs: Iterable[KeyPair]) -> KeyMapping | None:
    """The newest of the key pairs that may sign tokens now; None where there is none."""
    usable = [pair for pair in pairs if pair.signs_tokens]
    if not usable:
        return None
    newest = max(usable, key=lambda pair: (pair.timestamp, pair.is_default, pair.id))
    return KeyMapping(newest.alias, newest.key_id)


def sign_with(siglet: Siglet, control_plane: ControlPlane, context: str, key: KeyMapping | None) -> bool:
    """Let the participant's tokens be signed with ``key``, or with none; whether that was not so before. Safe to repeat."""
    changed = False
    if siglet.find_key(context) != key:
        changed = True
        if key is None:
            siglet.delete_key(context)
        else:
            siglet.put_key(context, key)
    config = control_plane.find_config(context)
    entries = config.entries if config else {}
    # What others configured is theirs; and where nothing is to be removed, no configuration is made for that.
    changes = {name: value for name, value in _configured(key).items() if entries.get(name) != value}
    if changes:
        changed = True
        control_plane.merge_config(context, changes, {})
    return changed


def _configured(key: KeyMapping | None) -> dict[str, str | None]:
    if key is None:
        return dict.fromkeys((STS_TYPE, STS_KEY_NAME, STS_KEY_ID))
    return {STS_TYPE: "signature", STS_KEY_NAME: key.key_name, STS_KEY_ID: key.key_id}
