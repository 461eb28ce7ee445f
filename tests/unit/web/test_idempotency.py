"""Answers that are kept in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cfm_core.assembly.idempotency import MemoryIdempotentAnswers
from cfm_core.errors import ClientError, ConflictError, RecoverableError, RefusedError
from cfm_core.idempotency import KEPT, KeptAnswer, RequestKey

KEY = RequestKey("issuer", "somebody", "POST", "/things", "k")
DONE = KeptAnswer(201, {"A": "b"}, "{}")


def no_refusal(error: ClientError) -> KeptAnswer:
    raise AssertionError(error)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_work_is_done_once() -> None:
    answers = MemoryIdempotentAnswers()
    assert answers.once(KEY, "f", lambda: DONE, no_refusal) == (DONE, False)
    assert answers.once(KEY, "f", lambda: pytest.fail("again"), no_refusal) == (DONE, True)
    with pytest.raises(RefusedError):
        answers.once(KEY, "other", lambda: DONE, no_refusal)


def test_a_second_request_waits_for_the_first() -> None:
    answers = MemoryIdempotentAnswers()

    def work() -> KeptAnswer:
        with pytest.raises(ConflictError) as caught:
            answers.once(KEY, "f", lambda: DONE, no_refusal)
        assert caught.value.context == {"retryable": True}
        return DONE

    assert answers.once(KEY, "f", work, no_refusal) == (DONE, False)


def test_a_refusal_is_kept_and_a_failure_is_not() -> None:
    answers = MemoryIdempotentAnswers()

    def fail() -> KeptAnswer:
        raise RecoverableError("not now")

    def refuse() -> KeptAnswer:
        raise ConflictError("no")

    with pytest.raises(RecoverableError):
        answers.once(KEY, "f", fail, no_refusal)
    assert answers.once(KEY, "f", refuse, lambda error: KeptAnswer(error.status, {}, str(error))) == (
        KeptAnswer(409, {}, "no"),
        False,
    )
    assert answers.once(KEY, "f", lambda: DONE, no_refusal) == (KeptAnswer(409, {}, "no"), True)


def test_an_answer_is_forgotten_after_a_day() -> None:
    clock = Clock()
    answers = MemoryIdempotentAnswers(clock)
    answers.once(KEY, "f", lambda: DONE, no_refusal)
    clock.now = KEPT.total_seconds() - 1
    answers.forget()
    assert answers.once(KEY, "f", lambda: DONE, no_refusal) == (DONE, True)
    clock.now = KEPT.total_seconds()
    assert answers.once(KEY, "other", lambda: DONE, no_refusal) == (DONE, False)
    clock.now = 2 * KEPT.total_seconds()
    answers.forget()
    assert answers.once(KEY, "f", lambda: DONE, no_refusal) == (DONE, False)


def test_what_makes_requests_the_same_cannot_be_mixed_up() -> None:
    assert str(RequestKey("i", "a", "b", "c\nd", "e")) != str(RequestKey("i", "a", "b", "c", "d\ne"))
    assert str(RequestKey("i", 'a", "b', "c", "d", "e")) != str(RequestKey("i", "a", 'b", "c', "d", "e"))
    assert "\0" not in str(RequestKey("", "", "POST", "/\0", "k"))


def test_whoever_is_named_alike_by_another_issuer_is_somebody_else() -> None:
    answers = MemoryIdempotentAnswers()
    answers.once(KEY, "f", lambda: DONE, no_refusal)
    assert answers.once(replace(KEY, issuer="another"), "f", lambda: DONE, no_refusal) == (DONE, False)
    assert str(replace(KEY, issuer="another")) != str(KEY)
