from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cfm_core.agent import ActivityResult, Complete, Fatal, Retry, Schedule
from cfm_core.agent.threads import AT_A_TIME, MOST_GIVEN_UP, Job, Threads
from cfm_core.errors import RecoverableError


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def job(result: ActivityResult, *, after: threading.Event | threading.Barrier | None = None, limit: float = 10) -> Job:
    def run() -> ActivityResult:
        if after is not None:
            after.wait()
        return result

    return Job(run, lambda: limit, lambda: Schedule(timedelta(0)))


def test_each_job_gets_its_own_result() -> None:
    jobs = [job(Retry(str(number))) for number in range(200)]
    Threads().run(jobs)
    assert [one.result for one in jobs] == [Retry(str(number)) for number in range(200)]


def test_an_empty_batch_is_done_at_once() -> None:
    Threads().run([])


def test_jobs_that_wait_run_at_the_same_time() -> None:
    together = threading.Barrier(AT_A_TIME)
    jobs = [job(Complete(), after=together) for _ in range(AT_A_TIME)]
    Threads().run(jobs)
    assert {one.result for one in jobs} == {Complete()}


def test_one_that_hangs_does_not_keep_the_others_from_running(released: threading.Event) -> None:
    jobs = [job(Complete(), after=released, limit=0.03), *(job(Fatal("quick")) for _ in range(50))]
    Threads().run(jobs)
    assert jobs[0].result == Retry("timed out after 0.03 s")
    assert {one.result for one in jobs[1:]} == {Fatal("quick")}


def test_the_result_of_one_that_was_given_up_is_not_taken_afterwards(released: threading.Event) -> None:
    threads = Threads()
    late = job(Complete(), after=released, limit=0.01)
    threads.run([late])
    released.set()
    threads.run([job(Complete()) for _ in range(10)])
    assert late.result == Retry("timed out after 0.01 s")


def test_a_job_without_time_is_not_begun() -> None:
    late = job(Complete(), limit=0)
    Threads().run([late, job(Complete())])
    assert late.result == Schedule(timedelta(0))


def test_what_could_not_be_begun_in_time_has_no_result(released: threading.Event) -> None:
    jobs = [job(Complete(), after=released, limit=1.0) for _ in range(AT_A_TIME + 4)]
    Threads(start_window=timedelta(seconds=0.5)).run(jobs)
    assert [one.result for one in jobs] == [Retry("timed out after 1 s")] * AT_A_TIME + [None] * 4


def test_batches_of_several_callers_do_not_wait_for_each_other() -> None:
    threads = Threads()
    together = threading.Barrier(8)
    batches = [[job(Complete(), after=together)] for _ in range(8)]
    callers = [threading.Thread(target=threads.run, args=(batch,)) for batch in batches]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [batch[0].result for batch in batches] == [Complete()] * 8


def test_a_job_whose_time_cannot_be_told_ends_by_itself() -> None:
    def limit() -> float:
        raise TypeError("can't subtract offset-naive and offset-aware datetimes")

    odd = Job(Complete, limit, lambda: Schedule(timedelta(0)))
    other = job(Complete())
    Threads().run([odd, other])
    assert isinstance(odd.result, Retry)
    assert "offset-naive" in odd.result.reason
    assert other.result == Complete()


def test_a_process_full_of_hanging_threads_says_so_and_takes_no_more(released: threading.Event) -> None:
    called: list[str] = []
    threads = Threads(exhausted=lambda: called.append("exhausted"))
    threads.run([job(Complete(), after=released, limit=0.01) for _ in range(MOST_GIVEN_UP)])
    assert called == []
    with pytest.raises(RecoverableError, match="16 activities hang"):
        threads.run([job(Complete())])
    assert called == ["exhausted"]
