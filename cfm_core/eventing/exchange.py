"""The exchange: where events change over from the outbox, from answers and from JetStream to lanes, and to JetStream."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import RecoverableError, TooLargeError, ValidationError
from cfm_core.eventing.addresses import Addresses
from cfm_core.eventing.cloudevents import BATCH, event, from_nats, to_nats
from cfm_core.eventing.entries import Entry, batch_body
from cfm_core.eventing.jetstream import EVENTS_PER_MESSAGE, Consumer, JetStream, Message
from cfm_core.eventing.lanes import Lane, Post
from cfm_core.eventing.outcomes import SOURCE
from cfm_core.eventing.relay import Relay
from cfm_core.eventing.targets import Target
from cfm_core.eventing.verdicts import delay, jitter

log = logging.getLogger(__name__)

DEAD_LETTER_EVENT = "cfm.dead-letter"

_BYTES_PER_MESSAGE = 512 * 1024
_MOST_PUBLISHED_AT_ONCE = 64


class Switchboard:
    """Knows the lanes, and the way from any origin to any of them.

    Args:
        direct: hand over inside this process where that is possible; otherwise everything goes through JetStream.
        addresses: what agents are given with their activities.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        post: Post,
        jetstream: JetStream,
        *,
        direct: bool,
        addresses: Addresses | None = None,
    ) -> None:
        self._addresses = addresses
        self.relay: Relay | None = None
        self._jetstream = jetstream
        self._direct = direct
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishing = asyncio.Semaphore(_MOST_PUBLISHED_AT_ONCE)
        self._draining = False
        self.lanes: dict[str, Lane] = {}
        self._lanes_of_patterns: list[Lane] = []
        for target in targets:
            if target.subject:
                self._add_lane(target, post)

    def _add_lane(self, target: Target, post: Post) -> None:
        addressed = self._addresses.given if self._addresses and target.runs_activities else None
        lane = Lane(target, post, self, addressed=addressed)

        consumers: list[Consumer] = []
        # The same, but for one that listens to others; what both bring at a time may be twice what the lane has room for.
        for subject in dict.fromkeys((target.subject, subjects.again(target.subject))):
            take = partial(self.take_message, lane, subject)
            consumers.append(self._jetstream.consume(subject, lambda: lane.free, take))
            self.lanes[subject] = lane

        def wake() -> None:
            for consumer in consumers:
                consumer.wake()

        lane.room_made = wake
        if subjects.is_pattern(target.subject):
            self._lanes_of_patterns.append(lane)

    # Where events come from

    def take_rows(self, rows: Sequence[OutboxRow]) -> None:
        """Hand on rows that were named in an answer."""
        self.take_claimed(rows)

    def take_claimed(self, rows: Sequence[OutboxRow]) -> int:
        """Hand on rows, and say how many of them had a place to go to."""
        assert self.relay is not None
        by_subject: dict[str, list[Entry]] = {}
        for row in rows:
            if (origin := self.relay.hold(row)) is not None:
                by_subject.setdefault(row.subject, []).extend(Entry(event, origin) for event in row.events)
        placed = 0
        for subject, entries in by_subject.items():
            placed += self._hand_on(subject, entries)
        return placed

    def take_events(self, subject: str, entries: Sequence[Entry]) -> None:
        """Hand on events that this process has made itself."""
        self._hand_on(subject, entries)

    def take_outcomes(self, entries: Sequence[Entry]) -> None:
        """Hand on the outcomes of activities. They exist nowhere else: they wait here until somebody has them."""
        lane = self.lanes.get(subjects.RESULTS)
        if self._direct and lane is not None and not self._draining and lane.takes(len(entries)):
            lane.offer(entries)
        else:
            self._run(self._outcomes_to_stream(entries))

    def take_message(self, lane: Lane, subject: str, message: Message) -> None:
        """Give the events of a message of ``subject`` to its lane; one that nobody can read becomes a dead letter."""
        try:
            events = from_nats(subject, message.headers, message.body, fallback_id=message.id)
        except (ValidationError, RecursionError) as error:
            self._run(self._bury_message(lane.target, message, str(error)))
            return
        if subjects.is_pattern(subject) or subjects.is_foreign(subject):
            # What happened, or who speaks, is told by where it was published, whatever the events say.
            events = [one | {"subject": message.subject} for one in events]
        message.expect(len(events))
        lane.offer(
            Entry(event, message, in_stream=True, attempts=message.deliveries - 1, last=message.is_last)
            for event in events
        )

    def _hand_on(self, subject: str, entries: Sequence[Entry]) -> int:
        lane = self.lanes.get(subject) or self._lane_of_a_pattern(subject, entries)
        if lane is not None and self._direct and lane.takes(len(entries)):
            lane.offer(entries)
            return len(entries)
        self._run(self._rows_to_stream(subject, lane, entries))
        return len(entries) if self._jetstream.is_ready else 0

    def _lane_of_a_pattern(self, subject: str, entries: Sequence[Entry]) -> Lane | None:
        """The lane for a subject that has none of its own; the entries become events of that very subject."""
        for lane in self._lanes_of_patterns:
            if subjects.covers(lane.target.subject, subject):
                for entry in entries:
                    entry.event = entry.event | {"subject": subject}
                return lane
        return None

    # To JetStream

    async def _rows_to_stream(self, subject: str, lane: Lane | None, entries: Sequence[Entry]) -> None:
        for entry in await self.to_stream(subject, entries):
            if lane is not None and len(entry.encoded) > self._jetstream.most_bytes:
                lane.offer([entry])
            else:
                entry.origin.given_back(0)

    async def _outcomes_to_stream(self, entries: Sequence[Entry]) -> None:
        lane = self.lanes.get(subjects.RESULTS)
        attempts = 0
        left = await self.to_stream(subjects.RESULTS, entries)
        while left and not self._draining:
            too_large = [one for one in left if len(one.encoded) > self._jetstream.most_bytes]
            if lane is not None and (self._direct or too_large):
                # Better a lane that is too full than an activity that is run again.
                lane.offer(left if self._direct else too_large)
                left = [] if self._direct else [one for one in left if one not in too_large]
            if left:
                attempts += 1
                await asyncio.sleep(delay(attempts, spread=jitter()))
                left = await self.to_stream(subjects.RESULTS, left)
        for entry in left:
            entry.origin.given_back(0)

    async def to_stream(self, subject: str, entries: Sequence[Entry]) -> list[Entry]:
        """Publish events in messages as large as is good, and give those that were not published.

        Args:
            subject: for a pattern each event goes to the subject that it names.
        """
        if subjects.is_foreign(subject):
            # Where others publish, nobody but them does.
            return list(entries)
        if subjects.is_pattern(subject):
            return await self._each_to_its_own(subject, entries)
        chunks = _chunks(subject, entries)
        left = await asyncio.gather(*(self._publish(subject, chunk) for chunk in chunks))
        return [entry for chunk in left for entry in chunk]

    async def _each_to_its_own(self, pattern: str, entries: Sequence[Entry]) -> list[Entry]:
        """Publish events where they name it; one that names no subject of the pattern stays."""
        named = [str(entry.event.get("subject", "")) for entry in entries]
        proper = [subjects.covers(pattern, name) and not {"*", ">"} & {*name.split(".")} for name in named]
        stay = [entry for entry, fits in zip(entries, proper, strict=True) if not fits]
        going = [(name, entry) for name, entry, fits in zip(named, entries, proper, strict=True) if fits]
        left = await asyncio.gather(*(self._publish(name, [entry]) for name, entry in going))
        return [*stay, *(entry for chunk in left for entry in chunk)]

    async def _publish(self, subject: str, entries: list[Entry]) -> list[Entry]:
        try:
            if subject in subjects.CONTRACT_SUBJECTS:
                body, headers = to_nats([entries[0].event], bare=True)
            else:
                body, headers = batch_body(entry.encoded for entry in entries), {"Content-Type": BATCH}
            async with self._publishing:
                await self._jetstream.publish(subject, body, headers, _message_id(entries))
        except TooLargeError as error:
            log.warning("events of %s stay out of JetStream: %s", subject, error)
            return entries
        except RecoverableError:
            return entries
        for entry in entries:
            entry.origin.settled()
        return []

    async def bury(self, target: Target, entry: Entry, reason: str) -> None:
        """Make a dead letter of one event."""
        log.error("%s: event %s becomes a dead letter: %s", target.name, entry.id, reason)
        await self._file(target, _message_id([entry]), reason, max(entry.attempts, 1), {"event": entry.event})

    async def _bury_message(self, target: Target, message: Message, reason: str) -> None:
        log.error("%s: a message cannot be read and becomes a dead letter: %s", target.name, reason)
        try:
            raw: dict[str, object] = {"raw": base64.b64encode(message.body).decode()}
            await self._file(target, message.id, reason, message.deliveries, raw)
        except RecoverableError as error:
            log.warning("%s: the message stays, it cannot be made a dead letter: %s", target.name, error)
            message.expect(1)
            message.given_back(delay(message.deliveries, spread=jitter()))
        else:
            message.terminate()

    async def _file(self, target: Target, key: str, reason: str, deliveries: int, content: dict[str, object]) -> None:
        """Send a dead letter to where they are kept, and come back once it is there, or safe in JetStream.

        Raises:
            RecoverableError: not now.
        """
        if target.subject == subjects.DEAD_LETTERS:
            # A letter about a letter would help nobody; this one is tried again until somebody keeps it.
            raise RecoverableError("a dead letter was not kept")
        notice = {
            "key": key,
            "subject": target.subject,
            "target": target.name,
            "reason": reason,
            "deliveries": deliveries,
        }
        published = subjects.dead_letter(target.subject)
        letter = event(
            type=DEAD_LETTER_EVENT, source=SOURCE, subject=published, data=notice | content, id=f"dead.{key}"
        )
        filing = _Filing()
        self._hand_on(published, [Entry(letter, filing)])
        await filing.end

    # The end

    def drain(self) -> None:
        """Hand over nothing new."""
        self._draining = True
        for lane in set(self.lanes.values()):
            lane.drain()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._tasks and all(lane.is_idle for lane in self.lanes.values())

    def cancel(self) -> None:
        """Give up what is still on its way."""
        for lane in self.lanes.values():
            lane.cancel()
        for task in self._tasks:
            task.cancel()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("handing on events failed", exc_info=error)


class _Filing:
    """The origin of a dead letter. ``end`` comes when it is kept, and raises RecoverableError where it cannot be now."""

    def __init__(self) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settled(self) -> None:
        if not self.end.done():
            self.end.set_result(None)

    def buried(self) -> None:
        self.given_back(0)

    def given_back(self, delay: float) -> None:
        if not self.end.done():
            self.end.set_exception(RecoverableError("nobody keeps dead letters now"))


def _chunks(subject: str, entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries in portions of one message each; the contract's subjects take one event at a time."""
    if subject in subjects.CONTRACT_SUBJECTS:
        return [[entry] for entry in entries]
    chunks: list[list[Entry]] = []
    size = 0
    for entry in entries:
        length = len(entry.encoded) + 1
        if not chunks or len(chunks[-1]) >= EVENTS_PER_MESSAGE or size + length > _BYTES_PER_MESSAGE:
            chunks.append([])
            size = 0
        chunks[-1].append(entry)
        size += length
    return chunks


def _message_id(entries: Sequence[Entry]) -> str:
    """What JetStream knows a repetition by.

    Made of the events and not of the outbox row alone: rows are counted anew in another database.
    """
    digest = hashlib.blake2s(digest_size=16)
    for entry in entries:
        digest.update(f"{entry.event.get('source')}\n{entry.id}\n{getattr(entry.origin, 'id', '')}\n".encode())
    return digest.hexdigest()
