"""The trigger: one small process that brings events to functions.

    python -m cfm_core.eventing.trigger --targets FILE.json

It takes rows of the outbox, what functions answer, and messages of JetStream, and POSTs them to the functions whose targets
are in the file; it wakes others at intervals. Several of them may run at once. Nothing depends on what this process
remembers: rows have leases, messages are acknowledged last.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from cfm_core.contracts import subjects, wake
from cfm_core.contracts.completion import CompletionKey
from cfm_core.contracts.event_tokens import authorizations
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.errors import CfmError, FatalError
from cfm_core.eventing import health
from cfm_core.eventing.access import Access
from cfm_core.eventing.addresses import Addresses
from cfm_core.eventing.cloudevents import event, to_batch
from cfm_core.eventing.entries import Entry
from cfm_core.eventing.exchange import Switchboard
from cfm_core.eventing.jetstream import JetStream, streams
from cfm_core.eventing.outcomes import SOURCE
from cfm_core.eventing.post import Poster
from cfm_core.eventing.relay import Relay
from cfm_core.eventing.targets import Target, load
from cfm_core.eventing.verdicts import Verdict, verdict
from cfm_core.settings import Settings
from cfm_core.store.database import Database
from cfm_core.store.outbox import Outbox

log = logging.getLogger(__name__)

TICK_EVENT = "cfm.tick"
ACTIVITY_TYPE_EVENT = "cfm.activity.type"

_GRACE_SECONDS = 10.0
_ANNOUNCE_SECONDS = 60.0
_ANNOUNCE_AGAIN_SECONDS = 1.0
_DATABASE_CONNECTIONS = 3
_LOOK_SECONDS = 0.01
_CANCEL_AGAIN_SECONDS = 0.05


class _Wakener(asyncio.DatagramProtocol):
    """Wakes the relay with each datagram, or gives it the row that is in it."""

    def __init__(self, relay: Relay, settings: Settings) -> None:
        self._relay = relay
        known = (
            (settings.tenant_manager_wake_key, subjects.TENANT_MANAGER_ANNOUNCES),
            (settings.provision_manager_wake_key, None),
        )
        self._keys = [(wake.key_of(secret), announced) for secret, announced in known if secret]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for key, announced in self._keys:
            row = wake.opened(data, key)
            if row is not None and (announced is None or row.subject in announced):
                self._relay.take(row)
                return
        self._relay.wake()


class _NoOutbox:
    """For a trigger that serves agents alone: what it delivers comes from JetStream."""

    def claim(self, most: int) -> list[OutboxRow]:
        return []

    def renew(self, ids: Iterable[int]) -> None:
        return

    def delete(self, ids: Iterable[int]) -> None:
        return


class _Announcement:
    """The origin of an announcement: remembers whether it has to be made once more."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger

    def settled(self) -> None:
        return None

    def buried(self) -> None:
        return None

    def given_back(self, delay: float) -> None:
        self._trigger.announce_again(max(delay, _ANNOUNCE_AGAIN_SECONDS))


class Trigger:
    """All parts of the trigger, put together inside a running event loop."""

    def __init__(self, settings: Settings, targets: Sequence[Target]) -> None:
        if settings.handover not in {"direct", "jetstream"}:
            raise FatalError(f"CFM_HANDOVER is {settings.handover!r}; it must be direct or jetstream")
        if not settings.nats_url:
            raise FatalError("CFM_NATS_URL is not set, and the trigger needs it")
        if not settings.database_url and not all(target.of_agent for target in targets):
            raise FatalError("CFM_DATABASE_URL is not set; only a trigger that serves nothing but agents goes without")
        self._settings = settings
        self._targets = targets
        # A claim or a deletion that a crash of the server undoes is a second delivery, no more.
        self._database = (
            Database(settings.reader("database_url"), size=_DATABASE_CONNECTIONS, waits_for_disk=False)
            if settings.database_url
            else None
        )
        self._poster = Poster(authorizations(settings.event_key_file, settings.event_tokens_file))
        self._jetstream = JetStream(Access.of(settings), streams(settings.nats_stream, settings.edc_stream))
        key = CompletionKey(settings.completion_key, settings.reader("completion_key"))
        self._switchboard = Switchboard(
            targets,
            self._poster.post,
            self._jetstream,
            direct=settings.handover == "direct",
            addresses=Addresses(settings.completion_url, key),
        )
        outbox = _NoOutbox() if self._database is None else Outbox(self._database)
        self._relay = Relay(outbox, self._switchboard.take_claimed)
        self._switchboard.relay = self._relay
        self._announce_due = asyncio.Event()
        self._draining = False

    async def run(self, stop: asyncio.Event) -> None:
        """Bring events until ``stop`` is set, then end what is under way.

        Raises:
            FatalError: something is set up in a way that no waiting will mend.
        """
        loop = asyncio.get_running_loop()
        closing: list[Any] = []
        if self._settings.trigger_address:
            host, _, port = self._settings.trigger_address.rpartition(":")
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Wakener(self._relay, self._settings), local_addr=(host, int(port))
            )
            closing.append(transport)
        if self._settings.trigger_health:
            closing.append(await health.serve(self._settings.trigger_health, self._report))
        relay = asyncio.ensure_future(self._relay.run())
        jetstream = asyncio.ensure_future(self._jetstream.run())
        working = [asyncio.ensure_future(one) for one in self._intervals()]
        stopped = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({relay, jetstream, *working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                # None of them ends by itself: what ended has failed.
                task.result()
        finally:
            await self._drain([*working, stopped], relay, jetstream)
            for one in closing:
                one.close()

    def announce_again(self, delay: float) -> None:
        """Announce the activity types once more after ``delay`` seconds."""
        asyncio.get_running_loop().call_later(delay, self._announce_due.set)

    def _intervals(self) -> list[Coroutine[Any, Any, None]]:
        work = [self._tick(target) for target in self._targets if target.every is not None]
        if announcements := [target for target in self._targets if target.activity is not None]:
            work.append(self._announce(announcements))
        return work

    async def _tick(self, target: Target) -> None:
        """Wake a function at its interval, never twice at a time."""
        assert target.every is not None
        loop = asyncio.get_running_loop()
        interval = target.every.total_seconds()
        healthy = True
        due = loop.time() + random.random() * interval  # noqa: S311 - spreads calls over time, and is no secret
        while True:
            await asyncio.sleep(due - loop.time())
            due = max(due + interval, loop.time())
            tick = event(type=TICK_EVENT, source=SOURCE, subject=target.name, data=None)
            answer = await self._poster.post(target, to_batch([tick]))
            reply = answer.reply() if verdict(answer.status) is Verdict.DONE else None
            failed = verdict(answer.status) is not Verdict.DONE or bool(reply and reply.failures)
            if failed and healthy:
                reason = answer.problem or answer.body[:300].decode("utf-8", "replace")
                log.error("%s fails when it is woken (%s): %s", target.name, answer.status, reason)
            healthy = not failed
            if reply is not None and reply.outbox and not target.of_agent:
                self._switchboard.take_rows(reply.outbox)

    async def _announce(self, targets: Sequence[Target]) -> None:
        """Tell the engine of the activity types that are served here, at the start and every now and then."""
        while True:
            self._announce_due.clear()
            for target in targets:
                announcement = _announced(target)
                self._switchboard.take_events(announcement["subject"], [Entry(announcement, _Announcement(self))])
            try:
                await asyncio.wait_for(self._announce_due.wait(), _ANNOUNCE_SECONDS)
            except TimeoutError:
                continue

    async def _drain(
        self, working: Sequence[asyncio.Future[Any]], relay: asyncio.Future[Any], jetstream: asyncio.Future[Any]
    ) -> None:
        """Take nothing more, let what is under way come to its end, and leave the rest to leases and redelivery."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GRACE_SECONDS
        self._draining = True
        self._relay.stop_claiming()
        self._jetstream.stop_pulling()
        self._switchboard.drain()
        for task in working:
            task.cancel()
        while not self._switchboard.is_idle and loop.time() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
        self._switchboard.cancel()
        await _cancel([*working, relay, jetstream])
        await self._relay.close()
        await self._jetstream.close()
        self._poster.close()
        if self._database is not None:
            self._database.close()

    def _report(self) -> tuple[bool, dict[str, Any]]:
        lanes = {lane.target.name: lane.state for lane in self._switchboard.lanes.values()}
        return self._relay.reaches_database and not self._draining, {
            "draining": self._draining,
            "database": self._relay.reaches_database,
            "nats": self._jetstream.is_ready,
            "rows": self._relay.held,
            "targets": {
                name: {
                    "waiting": state.waiting,
                    "inFlight": state.in_flight,
                    "slots": state.slots,
                    "barred": state.barred,
                }
                for name, state in lanes.items()
            },
        }


def _announced(target: Target) -> EventDict:
    assert target.activity is not None
    return event(
        type=ACTIVITY_TYPE_EVENT,
        source=SOURCE,
        subject=subjects.announcement(target.activity["activityType"]),
        data=target.activity,
    )


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel tasks until they have ended: the NATS client swallows a cancellation that comes while it flushes."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _main(settings: Settings, targets: Sequence[Target]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Trigger(settings, targets).run(stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trigger; the exit code is 0 after a signal to stop, 1 when it cannot run."""
    parser = argparse.ArgumentParser(
        prog="python -m cfm_core.eventing.trigger", description="Brings events to functions."
    )
    parser.add_argument("--targets", type=Path, required=True, metavar="FILE", help="the targets file (JSON)")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_environ()
        logging.basicConfig(
            level=settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        targets = load(options.targets.read_text(encoding="utf-8"))
        import uvloop

        uvloop.run(_main(settings, targets))
    except (CfmError, OSError) as error:
        print(f"trigger: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
