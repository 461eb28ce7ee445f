"""The demonstration: what ``cfm demo`` does, told line by line."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from cfm_core.contracts.orchestration import compensation_id
from local import seed
from local.stack import Stack
from local.standins.rehearsals import CALLS, Calls

BASE = "/api/v1alpha1"
_PATIENCE_SECONDS = 60
_POLL_SECONDS = 0.05

REFUSALS = {"jwtlet": Calls("jwtlet", "POST", "/api/v1/mappings$"), **CALLS}
"""The call with which each activity makes a participant known, and to which stand-in."""


class DemoError(Exception):
    """The demonstration did not go as it should; the text says what was expected and what was seen."""


def run(*, keep: bool, fail: str | None, say: Callable[[str], None]) -> None:
    """Run the demonstration on a private stack.

    Args:
        keep: leave the stack running and say where it is.
        fail: only show that a refusal of what this activity asks for is compensated; a name of ``REFUSALS``.

    Raises:
        DemoError: something did not go as it should.
    """
    home = Path(tempfile.mkdtemp(prefix="cfm-demo-"))
    home.chmod(0o711)  # so that PostgreSQL, which does not run as root, reaches its data in it
    say("Starting PostgreSQL, NATS, both managers, the agents and the stand-ins ...")
    stack = Stack(home / "data", auth=True)
    kept = False
    try:
        stack.start(detached=keep)
        story = _Story(stack, say)
        story.prepare()
        if fail is None:
            story.onboard("Acme", hiccup=True)
            story.onboard_and_dispose("Bolt")
            story.fail("Crane", "registration")
        else:
            story.fail("Acme", fail)
        say("\nDone: everything went as it should.")
        kept = keep
    finally:
        if kept:
            say(f"The stack goes on at {stack.url}; its directory is {stack.data}")
            cfm = shlex.quote(os.environ.get("CFM_COMMAND", "cfm"))
            say(f"  {cfm} env --data {stack.data}; {cfm} down --data {stack.data}")
        else:
            stack.stop()
            shutil.rmtree(home, ignore_errors=True)


class _Story:
    def __init__(self, stack: Stack, say: Callable[[str], None]) -> None:
        self._say = say
        self._standins = httpx2.Client(
            base_url=stack.standins_url,
            headers={"Authorization": f"Bearer {stack.standins_token}"},
            timeout=10,
            trust_env=False,
        )
        # Loopback is not reached through anybody's proxy.
        self._api = httpx2.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {stack.token()}"}, timeout=30, trust_env=False
        )
        self._tenant_id = ""
        self._cell_id = ""
        self._dataspace_profile_id = ""

    def prepare(self) -> None:
        """The fabric: definitions, a cell, a dataspace profile on it, a tenant."""
        self._say("\nThe fabric: what activities there are, and how they depend on each other")
        for definition in seed.ACTIVITY_DEFINITIONS:
            self._call("POST", "/activity-definitions", definition, 201, definition["type"])
        self._call("POST", "/orchestration-definitions", seed.ORCHESTRATION_TEMPLATE, 201, "deploy and dispose")
        self._say("\nA cell, a dataspace profile deployed to it, a tenant")
        self._cell_id = self._call("POST", "/cells", seed.CELL, 201)["id"]
        self._dataspace_profile_id = self._call("POST", "/dataspace-profiles", seed.DATASPACE_PROFILE, 201)["id"]
        self._call(
            "POST",
            f"/dataspace-profiles/{self._dataspace_profile_id}/deployments",
            {"profileId": self._dataspace_profile_id, "cellId": self._cell_id},
            202,
        )
        self._tenant_id = self._call("POST", "/tenants", {"properties": {"name": "Acme Industries"}}, 201)["id"]

    def onboard(self, name: str, *, hiccup: bool = False) -> dict[str, Any]:
        """Deploy a participant, and prove from outside that it exists."""
        self._say(
            f"\nThe participant {name} is deployed" + (" (the control plane is unwell at first)" if hiccup else "")
        )
        with self._fault("controlplane", status=503, times=2) if hiccup else contextlib.nullcontext():
            profile = self._deploy(name)
            profile = self._follow(profile, profile["orchestrationId"], "active")
        self._say(f"  {name} is active: {', '.join(vpa['type'] for vpa in profile['vpas'])}")
        participant = profile["properties"]["cfm.vpa.state"]["participantContextId"]
        found = self._traces(participant, profile["identifier"])
        self._say("  Asked from outside:")
        for service, entries in found.items():
            self._say(f"    {service:14} has {', '.join(entries) or 'nothing'}")
        missing = [service for service, entries in found.items() if not entries]
        if missing:
            raise DemoError(f"{', '.join(missing)} should know the participant, and does not")
        return profile

    def onboard_and_dispose(self, name: str) -> None:
        """Deploy a participant, dispose it again, and prove from outside that nothing is left."""
        profile = self.onboard(name)
        self._say(f"\nThe participant {name} is disposed")
        path = f"/tenants/{self._tenant_id}/participant-profiles/{profile['id']}"
        monitor = self._call_raw("DELETE", path, None, 202).headers["Link"]
        self._follow(profile, monitor.split("/orchestrations/")[1].split(">")[0], "disposed")
        self._prove_nothing_left(profile["properties"]["cfm.vpa.state"]["participantContextId"], profile["identifier"])

    def fail(self, name: str, activity: str) -> None:
        """Deploy a participant that is refused what an activity asks for, and prove that what had been done is undone."""
        call = REFUSALS[activity]
        self._say(f"\nThe participant {name} is deployed, and {call.service} refuses it")
        with self._fault(call.service, status=403, method=call.method, path=call.path):
            profile = self._deploy(name)
            orchestration_id = profile["orchestrationId"]
            failed = self._follow(profile, orchestration_id, "error", "disposed")
            self._say(f"  {name} has failed: {failed['errorDetail']}")
            self._say("  Compensation: what had been done is undone")
            self._follow(profile, compensation_id(orchestration_id), "disposed")
        run = self._get(f"/orchestrations/{orchestration_id}")
        participant = run["processingData"].get("participantContextId", "")
        done, reasons = self._endings(orchestration_id)
        undone, _ = self._endings(compensation_id(orchestration_id))
        self._say("  What has happened")
        self._say(f"    done         {', '.join(done) or 'nothing'}")
        for activity_id, reason in reasons.items():
            # The reason names the activity once more, and its type.
            self._say(f"    failed       {activity_id}: {reason.partition('): ')[2] or reason}")
        self._say(f"    undone by    {', '.join(undone)}")
        self._prove_nothing_left(participant, profile["identifier"])

    def _endings(self, orchestration_id: str) -> tuple[list[str], dict[str, str]]:
        """The activities of a run that are done, in the order in which they were, and why each other one has failed."""
        entries = self._get_all(f"/orchestrations/{orchestration_id}/history")
        done = [entry["activityId"] for entry in entries if entry["outcome"] == "complete"]
        failed = {entry["activityId"]: entry.get("reason", "") for entry in entries if entry["outcome"] == "fatal"}
        return done, failed

    def _deploy(self, name: str) -> dict[str, Any]:
        document = {
            "identifier": f"did:web:{name.lower()}.example",
            "cellId": self._cell_id,
            "dataspaceProfileIds": [self._dataspace_profile_id],
            "vpaProperties": seed.VPA_PROPERTIES,
            "properties": {"name": name},
        }
        return self._call("POST", f"/tenants/{self._tenant_id}/participant-profiles", document, 202)

    def _follow(self, profile: dict[str, Any], orchestration_id: str, *wanted: str) -> dict[str, Any]:
        """Show what an orchestration does until the profile's VPAs are in one of the ``wanted`` states."""
        path = f"/tenants/{self._tenant_id}/participant-profiles/{profile['id']}"
        shown = 0
        begun = time.monotonic()
        while True:
            profile = self._get(path)
            response = self._api.get(f"{BASE}/orchestrations/{orchestration_id}/history")
            if response.status_code == 200:
                entries = response.json()
                for entry in entries[shown:]:
                    self._show(entry, time.monotonic() - begun)
                shown = len(entries)
            states = {vpa["state"] for vpa in profile["vpas"]}
            if len(states) == 1 and states <= set(wanted):
                return profile
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                raise DemoError(f"after {_PATIENCE_SECONDS} s the VPAs are {states}, not {' or '.join(wanted)}")
            if "error" in states and not {"error", "disposed"} & set(wanted):
                raise DemoError(f"the participant has failed: {profile.get('errorDetail', '')}")
            time.sleep(_POLL_SECONDS)  # between two looks, for the eye

    def _show(self, entry: dict[str, Any], seconds: float) -> None:
        words = {"complete": "done", "schedule": "not yet", "retry": "failed", "fatal": "failed for good"}
        detail = f": {entry['reason']}" if entry.get("reason") else ""
        again = ""
        if "nextAt" in entry:
            pause = datetime.fromisoformat(entry["nextAt"]) - datetime.fromisoformat(entry["endedAt"])
            again = f", again in {pause.total_seconds():.1f} s"
        outcome = words.get(entry["outcome"], entry["outcome"])
        self._say(f"  {seconds:6.2f} s  {entry['activityId']:28} {outcome}{again}{detail}")

    def _traces(self, participant: str, did: str) -> dict[str, list[str]]:
        """What each stand-in holds about a participant."""
        state = self._standins.get("/_control/state").raise_for_status().json()
        return seed.traces(state, participant, did)

    def _prove_nothing_left(self, participant: str, did: str) -> None:
        state = self._standins.get("/_control/state").raise_for_status().json()
        if left := seed.left_behind(state, participant, did):
            raise DemoError(f"something is left behind: {'; '.join(left)}")
        self._say("    left behind  nothing: asked from outside, no stand-in knows the participant any more")

    @contextlib.contextmanager
    def _fault(self, service: str, **fault: Any) -> Iterator[None]:
        self._standins.post("/_control/faults", json={"service": service, **fault}).raise_for_status()
        try:
            yield
        finally:
            self._standins.delete("/_control/faults").raise_for_status()

    def _get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get(BASE + path).raise_for_status().json()
        return found

    def _get_all(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api.get(BASE + path).raise_for_status().json()
        return found

    def _call(self, method: str, path: str, document: Any, expect: int, note: str = "") -> dict[str, Any]:
        response = self._call_raw(method, path, document, expect, note)
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    def _call_raw(self, method: str, path: str, document: Any, expect: int, note: str = "") -> httpx2.Response:
        begun = time.monotonic()
        response = self._api.request(method, BASE + path, json=document)
        milliseconds = (time.monotonic() - begun) * 1000
        self._say(f"  {method:6} {BASE}{path}  {note}\n         {response.status_code} in {milliseconds:.0f} ms")
        if response.status_code != expect:
            raise DemoError(f"{method} {path} answered {response.status_code}, not {expect}: {response.text}")
        return response
