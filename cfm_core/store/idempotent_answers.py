"""Kept answers in Postgres, in the transaction of the work that they tell of."""

from __future__ import annotations

import json
from collections.abc import Callable

from cfm_core.errors import ClientError
from cfm_core.idempotency import KEPT, KeptAnswer, RequestKey, check_same, still_running
from cfm_core.store.database import Database
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.store", "idempotent_answers.sql")


class PostgresIdempotentAnswers:
    """See ``IdempotentAnswers``. A crash leaves neither effect nor answer, or both."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def once(
        self,
        key: RequestKey,
        fingerprint: str,
        work: Callable[[], KeptAnswer],
        refused: Callable[[ClientError], KeptAnswer],
    ) -> tuple[KeptAnswer, bool]:
        with self._database.joined() as transaction:
            if not transaction.value(SQL["lock"], key=str(key)):
                raise still_running()
            if (row := transaction.row(SQL["find"], key=str(key), kept=KEPT)) is not None:
                known, status, headers, text = row
                check_same(known, fingerprint)
                return KeptAnswer(status, json.loads(headers), text), True
            try:
                with transaction.part():
                    answer = work()
            except ClientError as error:
                answer = refused(error)
            transaction.rows(
                SQL["keep"],
                key=str(key),
                fingerprint=fingerprint,
                status=answer.status,
                headers=json.dumps(dict(answer.headers)),
                text=answer.text,
            )
        return answer, False

    def forget(self) -> None:
        self._database.rows(SQL["forget"], kept=KEPT)
