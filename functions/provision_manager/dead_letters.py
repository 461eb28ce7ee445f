"""Dead letters: what nobody could take in, for an operator to look at, send once more or forget.

Source: interface decisions, "New routes".
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import DEAD_LETTERS
from cfm_core.provisioning.dead_letters.service import DeadLetters
from cfm_core.provisioning.dead_letters.v1alpha1 import DeadLetterDocument, DeadLetterEntryDocument, to_entity
from cfm_core.provisioning.operations.model import Order
from cfm_core.web import answers
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.edge import request_id_of, subject_of
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/dead-letters"
LETTER = PATH + "/{letter_id}"


@http_function(
    "GET", PATH, scope=PM_READ, rights=["read deadLetter"], requires=[DEAD_LETTERS], lists=DeadLetterEntryDocument
)
def list_dead_letters(request: Request, dead_letters: DeadLetters, asked: Asked) -> Response:
    """A page of all dead letters, or of those that a predicate holds for; the newest last."""
    return answers.page(request, asked, dead_letters.select(asked.predicate, asked.page))


@http_function(
    "POST",
    PATH + "/query",
    scope=PM_READ,
    rights=["read deadLetter"],
    requires=[DEAD_LETTERS],
    lists=DeadLetterEntryDocument,
)
def query_dead_letters(request: Request, dead_letters: DeadLetters, asked: Asked) -> Response:
    """A page of the dead letters that a predicate holds for; the newest last."""
    return answers.page(request, asked, dead_letters.select(asked.predicate, asked.page))


@http_function(
    "GET", LETTER, scope=PM_READ, rights=["read deadLetter"], requires=[DEAD_LETTERS], gives={200: DeadLetterDocument}
)
def get_dead_letter(request: Request, dead_letters: DeadLetters, letter_id: str) -> Response:
    """One dead letter with what it holds; secrets are masked."""
    return answers.entity(request, to_entity(dead_letters.get(letter_id)))


@http_function(
    *("POST", LETTER + "/replay"),
    scope=PM_WRITE,
    rights=["update deadLetter"],
    requires=[DEAD_LETTERS],
    gives={200: DeadLetterDocument},
    acts=True,
)
def replay_dead_letter(request: Request, dead_letters: DeadLetters, letter_id: str) -> Response:
    """Send the event of a dead letter to its subject once more. Safe to repeat: it is sent once."""
    return answers.entity(request, to_entity(dead_letters.replay(letter_id, _order(request), expected(request))))


@http_function("DELETE", LETTER, scope=PM_WRITE, rights=["delete deadLetter"], requires=[DEAD_LETTERS])
def discard_dead_letter(request: Request, dead_letters: DeadLetters, letter_id: str) -> Response:
    """Forget a dead letter."""
    dead_letters.discard(letter_id, _order(request), expected(request))
    return answers.empty()


def _order(request: Request) -> Order:
    return Order(actor=subject_of(request), reason="", request_id=request_id_of(request))
