"""Provides what keeps signing keys in step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.clients.assembly import CONTROL_PLANE, DATASPACE_SETTINGS, IDENTITY_HUB, RESOURCE_MAPPINGS, SIGLET

if TYPE_CHECKING:
    from cfm_core.keys.service import SigningKeys

SIGNING_KEYS: ServiceType[SigningKeys] = ServiceType("signing-keys")


class SigningKeysAssembly(ServiceAssembly):
    """The signing keys of all participants that jwtlet gives the agents tokens for."""

    name = "signing-keys"
    provides = (SIGNING_KEYS,)
    requires = (IDENTITY_HUB, SIGLET, CONTROL_PLANE, RESOURCE_MAPPINGS, DATASPACE_SETTINGS)

    def init(self, context: InitContext) -> None:
        from cfm_core.keys.service import SigningKeys

        resolve = context.registry.resolve
        settings = resolve(DATASPACE_SETTINGS)
        context.registry.register(
            SIGNING_KEYS,
            SigningKeys(
                resolve(IDENTITY_HUB),
                resolve(SIGLET),
                resolve(CONTROL_PLANE),
                issuer_id=settings.issuer_id,
                contexts=partial(resolve(RESOURCE_MAPPINGS).contexts, settings.agents_account),
            ),
        )
