"""Where an agent and others turn to about a dispatched activity: added as its event leaves for the agent, and kept nowhere."""

from __future__ import annotations

from urllib.parse import quote

from cfm_core.contracts.completion import CompletionKey
from cfm_core.contracts.reply import EventDict
from cfm_core.eventing import outcomes


class Addresses:
    """The addresses of a deployment.

    Args:
        url: that of the API with its version; without one no addresses are given.
        key: of the completion tokens; without one nobody outside can end an activity.
    """

    def __init__(self, url: str, key: CompletionKey) -> None:
        self._url = url.rstrip("/")
        self._key = key

    def given(self, event: EventDict) -> EventDict:
        """The event with addresses and tokens, if it dispatches an activity; the event in hand stays as it was."""
        token = outcomes.token_of(event)
        if not self._url or token is None:
            return event
        data = event["data"]
        run, activity = str(data["orchestrationId"]), str(data.get("activityId"))
        about = f"{self._url}/orchestrations/{quote(run, safe='')}/activities/{quote(activity, safe='')}"
        # An agent may say how far it is with what it answers with, and tells others something else.
        more = {"heartbeat": {"url": f"{about}/heartbeat", "token": token}}
        if self._key:
            shown = self._key.token(run, data["phase"], activity, token)
            more["completion"] = {"url": f"{about}/complete", "token": shown}
        return event | {"data": data | more}
