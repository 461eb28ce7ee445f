from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import RecoverableError
from cfm_core.eventing.relay import Relay, Row


def row(number: int, events: int = 1) -> OutboxRow:
    return OutboxRow(number, "event.x", [{"id": f"{number}.{event}"} for event in range(events)])


class FakeOutbox:
    """An outbox whose statements last until they are let through."""

    def __init__(self, rows: Iterable[OutboxRow] = ()) -> None:
        self.rows = list(rows)
        self.claims = 0
        self.renewed: list[list[int]] = []
        self.deleted: list[list[int]] = []
        self.failures = 0
        self.gate = threading.Event()
        self.gate.set()

    def claim(self, most: int) -> list[OutboxRow]:
        self._statement()
        self.claims += 1
        claimed, self.rows = self.rows[:most], self.rows[most:]
        return claimed

    def renew(self, ids: Iterable[int]) -> None:
        self.renewed.append(sorted(ids))

    def delete(self, ids: Iterable[int]) -> None:
        self.deleted.append(sorted(ids))
        self._statement()

    def _statement(self) -> None:
        self.gate.wait(5)
        if self.failures:
            self.failures -= 1
            raise RecoverableError("the database is away")


class Taker:
    """Takes all rows in hand, as the exchange does."""

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.rows: dict[int, Row] = {}

    def __call__(self, rows: Sequence[OutboxRow]) -> int:
        assert self.relay is not None
        for one in rows:
            held = self.relay.hold(one)
            assert held is not None
            self.rows[one.id] = held
        return len(rows)


@asynccontextmanager
async def running(outbox: FakeOutbox):  # type: ignore[no-untyped-def]  # gives (relay, taker)
    taker = Taker()
    relay = taker.relay = Relay(outbox, taker)
    task = asyncio.ensure_future(relay.run())
    try:
        yield relay, taker
    finally:
        outbox.gate.set()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await relay.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_all_that_finished_during_a_delete_goes_into_the_next() -> None:
    async def work() -> None:
        outbox = FakeOutbox(row(number) for number in range(10))
        async with running(outbox) as (relay, taker):
            await until(lambda: len(taker.rows) == 10)
            outbox.gate.clear()
            taker.rows[0].settled()
            await until(lambda: outbox.deleted == [[0]])
            for number in range(1, 10):
                taker.rows[number].settled()
            outbox.gate.set()
            await until(lambda: relay.held == 0)
            assert outbox.deleted == [[0], list(range(1, 10))]

    asyncio.run(work())


def test_a_row_is_deleted_when_the_last_of_its_events_has_come_to_an_end() -> None:
    async def work() -> None:
        outbox = FakeOutbox([row(1, events=2), row(2, events=0)])
        async with running(outbox) as (relay, taker):
            await until(lambda: outbox.deleted == [[2]])
            taker.rows[1].settled()
            taker.rows[1].buried()
            await until(lambda: relay.held == 0)
            assert outbox.deleted == [[2], [1]]

    asyncio.run(work())


def test_a_delete_that_failed_is_tried_again_with_what_finished_since() -> None:
    async def work() -> None:
        outbox = FakeOutbox([row(1), row(2)])
        async with running(outbox) as (relay, taker):
            await until(lambda: len(taker.rows) == 2)
            outbox.failures = 1
            taker.rows[1].settled()
            await until(lambda: outbox.deleted == [[1]])
            taker.rows[2].settled()
            await until(lambda: relay.held == 0)
            assert outbox.deleted == [[1], [1, 2]]

    asyncio.run(work())


def test_rows_in_hand_are_renewed_together_and_those_let_go_are_not() -> None:
    async def work() -> None:
        outbox = FakeOutbox(row(number) for number in range(3))
        async with running(outbox) as (_, taker):
            await until(lambda: len(taker.rows) == 3)
            taker.rows[1].given_back(0)
            await until(lambda: outbox.renewed)
            assert outbox.renewed == [[0, 2]]

    asyncio.run(work())


def test_a_row_in_hand_is_not_taken_a_second_time() -> None:
    async def work() -> None:
        outbox = FakeOutbox([row(1)])
        async with running(outbox) as (relay, taker):
            await until(lambda: taker.rows)
            assert relay.hold(row(1)) is None
            # As if its lease had run out during an outage.
            outbox.rows = [row(1), row(2)]
            relay.wake()
            await until(lambda: 2 in taker.rows)
            assert relay.held == 2

    asyncio.run(work())


def test_being_woken_during_a_claim_means_one_more_claim() -> None:
    async def work() -> None:
        outbox = FakeOutbox()
        outbox.gate.clear()
        async with running(outbox) as (relay, _):
            for _ in range(50):
                relay.wake()
                await asyncio.sleep(0)
            outbox.gate.set()
            await until(lambda: outbox.claims == 2)
            relay.wake()
            await until(lambda: outbox.claims >= 3)
            assert outbox.claims == 3

    asyncio.run(work())


def test_a_claim_that_was_full_is_followed_by_another() -> None:
    async def work() -> None:
        outbox = FakeOutbox(row(number) for number in range(450))
        async with running(outbox) as (_, taker):
            await until(lambda: len(taker.rows) == 450)
            assert outbox.claims == 3

    asyncio.run(work())


def test_no_more_rows_are_claimed_than_can_be_kept() -> None:
    async def work() -> None:
        outbox = FakeOutbox(row(number) for number in range(3000))
        async with running(outbox) as (relay, taker):
            await until(lambda: relay.held == 2000)
            for number in range(1000):
                taker.rows[number].settled()
            await until(lambda: len(taker.rows) == 3000)

    asyncio.run(work())


def test_no_more_rows_are_claimed_than_their_events_leave_room_for() -> None:
    async def work() -> None:
        outbox = FakeOutbox(row(number, events=250) for number in range(300))
        async with running(outbox) as (relay, taker):
            await until(lambda: relay.held == 200)
            relay.wake()
            await until(lambda: outbox.renewed)
            assert relay.held == 200
            for _ in range(250):
                for number in range(150):
                    taker.rows[number].settled()
            await until(lambda: len(taker.rows) == 300)

    asyncio.run(work())


def test_what_is_finished_is_deleted_at_the_end() -> None:
    async def work() -> FakeOutbox:
        outbox = FakeOutbox([row(1), row(2)])
        async with running(outbox) as (_, taker):
            await until(lambda: len(taker.rows) == 2)
            taker.rows[1].settled()
        return outbox

    assert asyncio.run(work()).deleted == [[1]]
