"""The trigger's side of NATS JetStream: streams and consumers made and checked, messages published and pulled.

NATS may be away for as long as it likes, come back, and come back empty: this module keeps trying, makes what is missing
anew, and meanwhile says that nothing can be published.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import nats.errors
import nats.js.api as api
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from cfm_core.contracts import subjects
from cfm_core.errors import FatalError, RecoverableError, TooLargeError
from cfm_core.eventing.access import Access, AccessClient

log = logging.getLogger(__name__)

NEEDED_VERSION = (2, 10)
"""Older servers silently ignore what we rely on."""

_ACK_WAIT_SECONDS = 30.0
_PUBLISH_SECONDS = 5.0
_REQUEST_SECONDS = 5.0
_RECONNECT_SECONDS = 0.25
_RETRY_SECONDS = 1.0
_CHECK_SECONDS = 30.0
_PULL_SECONDS = 30.0
_HEARTBEAT_SECONDS = 5.0
_MOST_DELIVERIES = 20
"""So often is an event of others delivered, within some six minutes of failures, before it becomes a dead letter."""
_MOST_PULLED = 1000
_LEAST_PULLED = 4
EVENTS_PER_MESSAGE = 64
_DAY = 86400.0
_HEADROOM = 4096
"""Bytes of a message left to headers and protocol."""

_ACK = b"+ACK"
_NAK = b"-NAK"
_TERM = b"+TERM"
_PROGRESS = b"+WPI"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream that must exist: made like this when absent; one that exists is taken as it is if it fits."""

    name: str
    subjects: tuple[str, ...]
    needs: tuple[str, ...]
    """What an existing stream has to cover."""
    retention: str
    max_age: float = 0
    """Seconds; 0 keeps messages until they are taken."""
    is_foreign: bool = False
    """Others publish there. It must exist only where something listens to it, and that it does not fit stops nothing else."""


def streams(contract_stream: str, edc_stream: str = subjects.EDC_STREAM) -> tuple[Stream, ...]:
    """The streams of a deployment, in which the contract's have the given names."""
    return (
        Stream(contract_stream, subjects.STREAM_SUBJECTS, (subjects.MANIFESTS, subjects.RESPONSES), "workqueue"),
        Stream(
            subjects.ACTIVITY_STREAM,
            subjects.ACTIVITY_STREAM_SUBJECTS,
            subjects.ACTIVITY_STREAM_SUBJECTS,
            "workqueue",
            # What nobody has taken by then has long been sent again by the engine.
            max_age=7 * _DAY,
        ),
        Stream(
            edc_stream,
            subjects.EDC_STREAM_SUBJECTS,
            (subjects.KEY_PAIR_EVENTS, subjects.PARTICIPANT_CONTEXT_DELETED),
            "interest",
            is_foreign=True,
        ),
    )


class Message:
    """A message in hand; as the origin of its events it is answered once all of them have come to an end."""

    def __init__(self, consumer: Consumer, msg: Msg) -> None:
        self._consumer = consumer
        self._reply = msg.reply
        self.subject = msg.subject
        self.headers: Mapping[str, str] = msg.headers or {}
        self.body = msg.data
        metadata = msg.metadata
        self.deliveries = metadata.num_delivered
        self.id = f"{metadata.stream}-{metadata.sequence.stream}-{metadata.timestamp.timestamp():.6f}"
        """The same at each delivery."""
        self._open = 0
        self._buried = 0
        self._delay: float | None = None

    @property
    def is_last(self) -> bool:
        """Whether this message has been brought as often as is worth while."""
        return 0 < self._consumer.max_deliver <= self.deliveries

    def expect(self, events: int) -> None:
        """Say of how many events this message is the origin; none at all ends it at once."""
        self._open = events
        if events == 0:
            self._answer(_ACK)

    def settled(self) -> None:
        self._one_less()

    def buried(self) -> None:
        self._buried += 1
        self._one_less()

    def given_back(self, delay: float) -> None:
        self._delay = max(self._delay or 0.0, delay)
        self._one_less()

    def terminate(self) -> None:
        """End the message: nobody can read it."""
        self._answer(_TERM)

    def progress(self) -> None:
        """Tell the server that the message is still being worked on."""
        self._consumer.send(self._reply, _PROGRESS)

    def _one_less(self) -> None:
        self._open -= 1
        if self._open > 0:
            return
        if self._delay is not None:
            self._answer(_NAK + b" " + json.dumps({"delay": int(self._delay * 1e9)}).encode() if self._delay else _NAK)
        else:
            self._answer(_TERM if self._buried else _ACK)

    def _answer(self, word: bytes) -> None:
        self._consumer.in_hand.pop(self._reply, None)
        self._consumer.send(self._reply, word)


class Consumer:
    """Pulls the messages of one subject, no more at a time than there is room for.

    Args:
        room: how many events could be taken now.
        take: is given each message.
    """

    def __init__(
        self,
        subject: str,
        stream: str,
        room: Callable[[], int],
        take: Callable[[Message], None],
        jetstream: JetStream,
    ) -> None:
        self.subject = subject
        self.stream = stream
        self.durable = subjects.consumer(subject)
        self.max_deliver = -1
        self.ack_wait = _ACK_WAIT_SECONDS
        self.in_hand: dict[str, Message] = {}
        self._room = room
        self._take = take
        self._jetstream = jetstream
        self._inbox = ""
        self._asked = 0
        self._heard = 0.0
        self._usable = False

    @property
    def is_pulling(self) -> bool:
        return self._usable

    def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send without waiting."""
        self._jetstream.send(subject, payload, reply)

    def wake(self) -> None:
        """Ask for messages if there is room for more than has been asked for."""
        if not self._usable or not self._jetstream.is_ready:
            return
        room = self._room()
        if room <= 0:
            return
        if self.subject not in subjects.CONTRACT_SUBJECTS and not subjects.is_foreign(self.subject):
            room = max(_LEAST_PULLED, math.ceil(room / EVENTS_PER_MESSAGE))
        wanted = min(room, _MOST_PULLED) - self._asked
        # A few more are not worth a request while most of what was asked for is still to come.
        if wanted > 0 and wanted >= self._asked:
            if self._asked == 0:
                self._heard = time.monotonic()
            self._asked += wanted
            request = {
                "batch": wanted,
                "expires": int(_PULL_SECONDS * 1e9),
                "idle_heartbeat": int(_HEARTBEAT_SECONDS * 1e9),
            }
            self.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.durable}", json.dumps(request).encode(), self._inbox
            )

    async def resume(self, client: Client) -> None:
        """Begin, or begin again on a fresh connection or consumer: nothing that was asked for before will come."""
        if not self._inbox:
            self._inbox = client.new_inbox()
            await client.subscribe(self._inbox, cb=self._receive)
        self._asked = 0
        self._usable = True
        self.wake()

    def forget_connection(self) -> None:
        """The connection is gone for good, and with it the subscription."""
        self._inbox = ""
        self._usable = False

    def refuse(self) -> None:
        """There is no consumer that fits: pull nothing."""
        self._usable = False

    def stop(self) -> None:
        """Ask for nothing more; what was asked for and still comes is given back."""
        self._room = lambda: 0
        self._take = lambda message: message.given_back(0)

    def look_after(self) -> None:
        """Called every now and then: keep messages in hand, and notice that the server has gone silent."""
        for message in self.in_hand.values():
            message.progress()
        if self._asked > 0 and time.monotonic() - self._heard > 2.5 * _HEARTBEAT_SECONDS:
            self._asked = 0
            self._jetstream.doubt()
        self.wake()

    async def _receive(self, msg: Msg) -> None:
        self._heard = time.monotonic()
        status = (msg.headers or {}).get("Status") if not msg.data else None
        if status is not None and msg.subject.startswith("_INBOX."):
            self._on_status(status, msg.headers or {})
            return
        self._asked = max(0, self._asked - 1)
        message = Message(self, msg)
        self.in_hand[msg.reply] = message
        try:
            self._take(message)
        except Exception:
            log.exception("a message of %s could not be taken", self.subject)
            message.given_back(_RETRY_SECONDS)

    def _on_status(self, status: str, headers: Mapping[str, str]) -> None:
        if status == api.StatusCode.CONTROL_MESSAGE:
            return
        pending = headers.get("Nats-Pending-Messages", "")
        self._asked = max(0, self._asked - int(pending)) if pending.isdecimal() else 0
        description = headers.get("Description", "")
        if status == api.StatusCode.SERVICE_UNAVAILABLE or "Deleted" in description:
            self._asked = 0
            self._usable = False
            self._jetstream.doubt()
            return
        self.wake()


class JetStream:
    """One connection that is made again for as long as it takes.

    Args:
        access: where NATS is, and who is asking.
        needed: the streams that must exist.
    """

    def __init__(self, access: Access, needed: Sequence[Stream]) -> None:
        self._access = access
        self._streams = tuple(needed)
        self._consumers: list[Consumer] = []
        self._client: Client | None = None
        self._context: JetStreamContext | None = None
        self._ready = False
        self._complained = ""
        self._doubt = asyncio.Event()
        self._outgoing: list[tuple[str, bytes, str]] = []
        self._outgoing_due = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether messages can be published and pulled."""
        return self._ready and self._client is not None and self._client.is_connected

    @property
    def most_bytes(self) -> int:
        """The largest body that can be published, headers aside."""
        return (self._client.max_payload if self._client else 1024 * 1024) - _HEADROOM

    def consume(self, subject: str, room: Callable[[], int], take: Callable[[Message], None]) -> Consumer:
        """Take the messages of ``subject`` from now on, whenever NATS is there."""
        stream = next(
            one for one in self._streams if any(subjects.covers(pattern, subject) for pattern in one.subjects)
        )
        consumer = Consumer(subject, stream.name, room, take, self)
        self._consumers.append(consumer)
        return consumer

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str], message_id: str) -> None:
        """Store a message and wait until the server says that it has.

        Raises:
            RecoverableError: not now.
            TooLargeError: the server does not take messages of this size.
        """
        if not self.is_ready or self._context is None:
            raise RecoverableError("NATS is not there")
        if len(body) > self.most_bytes:
            raise TooLargeError(f"NATS takes {self.most_bytes} bytes at most, these are {len(body)}")
        try:
            await self._context.publish(
                subject, body, timeout=_PUBLISH_SECONDS, headers={**headers, "Nats-Msg-Id": message_id}
            )
        except nats.errors.MaxPayloadError as error:
            raise TooLargeError("NATS does not take messages of this size") from error
        except nats.js.errors.NoStreamResponseError as error:
            self.doubt()
            raise RecoverableError(f"no stream takes {subject}") from error
        except nats.js.errors.APIError as error:
            if error.err_code == 10054:
                raise TooLargeError("the stream does not take messages of this size") from error
            self.doubt()
            raise RecoverableError(f"JetStream cannot store now: {error.description}") from error
        except (nats.errors.Error, OSError) as error:
            raise RecoverableError(f"NATS cannot store now: {type(error).__name__}") from error

    def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send without waiting; lost when the connection is."""
        self._outgoing.append((subject, payload, reply))
        self._outgoing_due.set()

    def doubt(self) -> None:
        """Something is not as it should be: look after streams and consumers soon."""
        self._doubt.set()

    async def run(self) -> None:
        """Connect and stay connected, until cancelled.

        Raises:
            FatalError: the server is too old, or a stream or consumer exists that does not fit. Found at the start only; later
                it is logged, and tried again.
        """
        tasks = [asyncio.ensure_future(work) for work in (self._send_outgoing(), self._look_after_consumers())]
        try:
            first = True
            while True:
                await self._connect_if_needed()
                self._doubt.clear()
                if await self._set_up(first):
                    first = False
                    pause = _CHECK_SECONDS
                else:
                    pause = _RETRY_SECONDS
                    # A cause for doubt that lasts must not become a busy loop.
                    await asyncio.sleep(pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._doubt.wait(), pause)
        finally:
            for task in tasks:
                task.cancel()

    def stop_pulling(self) -> None:
        """Take no more messages; publishing and answering go on."""
        for consumer in self._consumers:
            consumer.stop()

    async def close(self) -> None:
        """Send what is left to send, and disconnect."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            if client.is_connected:
                await self._send_now(client)
                await asyncio.wait_for(client.flush(), 2)
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await asyncio.wait_for(client.close(), 2)

    # The connection

    async def _connect_if_needed(self) -> None:
        if self._client is not None and not self._client.is_closed:
            return
        for consumer in self._consumers:
            consumer.forget_connection()
        client = AccessClient(self._access)
        while True:
            try:
                await client.connect(
                    self._access.servers,
                    name="cfm-trigger",
                    inbox_prefix=self._access.inbox_prefix,
                    **self._access.options(),
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]  # any number of seconds will do
                    ping_interval=20,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_reconnected,
                )
            except (nats.errors.Error, OSError, TimeoutError) as error:
                await self._on_error(error)
                await asyncio.sleep(_RETRY_SECONDS)
                client = AccessClient(self._access)
            else:
                break
        self._complained = ""
        self._client = client
        self._context = client.jetstream(timeout=_REQUEST_SECONDS)

    async def _on_error(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self._complained:
            self._complained = text
            log.warning("NATS: %s", text)

    async def _on_disconnected(self) -> None:
        self._ready = False

    async def _on_reconnected(self) -> None:
        self._ready = False
        self._complained = ""
        self.doubt()

    async def _send_outgoing(self) -> None:
        while True:
            await self._outgoing_due.wait()
            self._outgoing_due.clear()
            if self._client is not None and self._client.is_connected:
                await self._send_now(self._client)
            else:
                # An answer that cannot be given means that the message comes again, a request is made again.
                self._outgoing.clear()

    async def _send_now(self, client: Client) -> None:
        outgoing, self._outgoing = self._outgoing, []
        for subject, payload, reply in outgoing:
            try:
                await client.publish(subject, payload, reply)
            except (nats.errors.Error, OSError) as error:
                await self._on_error(error)
                return

    async def _look_after_consumers(self) -> None:
        while True:
            await asyncio.sleep(min((one.ack_wait for one in self._consumers), default=_ACK_WAIT_SECONDS) / 3)
            if self.is_ready:
                for consumer in self._consumers:
                    consumer.look_after()

    # Streams and consumers

    async def _set_up(self, first: bool) -> bool:
        """Make sure of server, streams and consumers; whether all is well."""
        client, context = self._client, self._context
        assert client is not None
        assert context is not None
        try:
            self._check_version(client)
            fit = {one.name for one in self._streams if await self._fits(context, one)}
            usable = [one for one in self._consumers if one.stream in fit and await self._is_usable(context, one)]
            was_ready, self._ready = self._ready, True
            for consumer in usable:
                if not was_ready or not consumer.is_pulling:
                    await consumer.resume(client)
        except FatalError as error:
            self._ready = False
            if first:
                raise
            await self._on_error(error)
            return False
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._ready = False
            await self._on_error(error)
            return False
        return True

    def _check_version(self, client: Client) -> None:
        version = client.connected_server_version
        if (version.major, version.minor) < NEEDED_VERSION:
            needed = ".".join(map(str, NEEDED_VERSION))
            raise FatalError(
                f"the NATS server is {version.major}.{version.minor}.{version.patch}, and {needed} or newer is needed"
            )

    async def _fits(self, context: JetStreamContext, stream: Stream) -> bool:
        """Make sure of a stream; False for one of others that does not fit, or that nobody here listens to."""
        listeners = [one for one in self._consumers if one.stream == stream.name]
        if stream.is_foreign and not listeners:
            return False
        try:
            await self._ensure_stream(context, stream)
        except FatalError as error:
            if not stream.is_foreign:
                raise
            for consumer in listeners:
                consumer.refuse()
            await self._on_error(error)
            return False
        return True

    async def _ensure_stream(self, context: JetStreamContext, stream: Stream) -> None:
        try:
            found = (await context.stream_info(stream.name)).config
        except nats.js.errors.NotFoundError:
            log.info("makes stream %s", stream.name)
            try:
                await context.add_stream(
                    api.StreamConfig(
                        name=stream.name,
                        subjects=list(stream.subjects),
                        retention=api.RetentionPolicy(stream.retention),
                        storage=api.StorageType.FILE,
                        max_age=stream.max_age,
                    )
                )
            except nats.js.errors.BadRequestError as error:
                raise FatalError(
                    f"the stream {stream.name} for {', '.join(stream.subjects)} cannot be made: {error.description};"
                    " another stream has some of these subjects, or one of this name is set up differently"
                ) from error
            for consumer in self._consumers:
                if consumer.stream == stream.name:
                    consumer.refuse()
            return
        covered = found.subjects or []
        if missing := [need for need in stream.needs if not any(subjects.covers(pattern, need) for pattern in covered)]:
            raise FatalError(
                f"the stream {stream.name} has the subjects {', '.join(covered)}; it must have {', '.join(missing)}"
            )
        if found.retention != stream.retention and not stream.is_foreign:
            raise FatalError(
                f"the stream {stream.name} has the retention {found.retention}; it must be {stream.retention}"
            )

    async def _is_usable(self, context: JetStreamContext, consumer: Consumer) -> bool:
        try:
            await self._ensure_consumer(context, consumer)
        except FatalError as error:
            if consumer.subject in subjects.CONTRACT_SUBJECTS:
                raise
            # One activity type is no reason to stop all: what is handed over directly still arrives.
            consumer.refuse()
            await self._on_error(error)
            return False
        return True

    async def _ensure_consumer(self, context: JetStreamContext, consumer: Consumer) -> None:
        try:
            info = await context.consumer_info(consumer.stream, consumer.durable)
        except nats.js.errors.NotFoundError:
            log.info("makes consumer %s", consumer.durable)
            consumer.refuse()
            try:
                info = await context.add_consumer(
                    consumer.stream,
                    api.ConsumerConfig(
                        # The name beside it has the filter told in the request's subject, where a permission can see it.
                        name=consumer.durable,
                        durable_name=consumer.durable,
                        ack_policy=api.AckPolicy.EXPLICIT,
                        ack_wait=_ACK_WAIT_SECONDS,
                        max_deliver=-1,
                        filter_subject=consumer.subject,
                    ),
                )
            except nats.js.errors.BadRequestError as error:
                raise FatalError(
                    f"the consumer {consumer.durable} of stream {consumer.stream} cannot be made: {error.description}"
                ) from error
        config = info.config
        assert config is not None
        filters = config.filter_subjects or [config.filter_subject or ">"]
        if config.deliver_subject or config.ack_policy != "explicit" or filters != [consumer.subject]:
            raise FatalError(
                f"the consumer {consumer.durable} of stream {consumer.stream} must be a pull consumer of"
                f" {consumer.subject} with explicit acknowledgement; it has the filter {', '.join(filters)}"
            )
        consumer.max_deliver = config.max_deliver or -1
        of_others = subjects.is_foreign(consumer.subject) or subjects.covers(subjects.AGAIN, consumer.subject)
        if consumer.max_deliver < 0 and of_others:
            # The server is not told of this limit: what it would bring no more would be lost.
            consumer.max_deliver = _MOST_DELIVERIES
        consumer.ack_wait = config.ack_wait or _ACK_WAIT_SECONDS
