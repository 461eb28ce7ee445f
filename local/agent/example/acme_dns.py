"""The agent of acme.dns: gives each participant a name in the DNS."""

from __future__ import annotations

import os
from datetime import timedelta

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, activity
from cfm_core.agent.polling import done_looking, look_again
from cfm_core.clients.assembly import HTTP_CLIENT
from cfm_core.clients.http import HttpClient, segment
from pydantic import BaseModel, Field


class Inputs(BaseModel):
    """What it reads of the processing data."""

    did: str = Field(alias="cfm.participant.id", min_length=1)


class Outputs(BaseModel):
    """What it gives to whoever started the orchestration."""

    name: str = Field(alias="acme.dns.name")


@activity("acme.dns", inputs=Inputs, outputs=Outputs, requires=[HTTP_CLIENT], timeout=timedelta(seconds=30))
class AcmeDns:
    """Gives the participant a name in the DNS; disposes by taking it away."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._url = os.environ["ACME_DNS_URL"].rstrip("/")

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        """Have the name, and look until it is published. Safe to repeat: the name comes from the participant's DID."""
        did = ctx.read(Inputs).did
        name = _name(did)
        # Not to be created, but to be there: a second request for the same changes nothing.
        answer = self._http.send("PUT", self._record(name), json={"owner": did}, expect=(409,))
        if answer.status == 409:
            return Fatal(f"conflict: the name {name} belongs to somebody else than {did}")
        if self._http.send("GET", self._record(name)).object().get("state") != "published":
            return look_again(ctx, f"the name {name}", give_up_after=timedelta(minutes=5))
        done_looking(ctx)
        ctx.set_output("acme.dns.name", name)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Take the name away; none is as good. Safe to repeat."""
        self._http.send("DELETE", self._record(_name(ctx.read(Inputs).did)), expect=(404,))
        return Complete()

    def _record(self, name: str) -> str:
        return f"{self._url}/records/{segment(name)}"


def _name(did: str) -> str:
    """The participant's name, the same for each attempt and known without any record of the deploy."""
    return f"{did.rsplit(':', 1)[-1]}.acme.example"
