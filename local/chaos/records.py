"""The records of a run that the engine knows nothing of, side by side with its own tables, and the rules between them.

They are written to files while a run goes on, and copied into the schema ``chaos`` at its end: so the rules are looked at in
sets, whatever the number of runs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from cfm_core.store.database import Database, connect
from local.chaos.shapes import CARRIED_OUT, SHAPES

_TABLES = """
CREATE SCHEMA chaos;
-- The plan, and how everything in it may end.
CREATE TABLE chaos.work (
  id text PRIMARY KEY, type text NOT NULL, what text NOT NULL, script jsonb NOT NULL, payload jsonb NOT NULL,
  ends text[] NOT NULL, starts_at timestamptz);
CREATE TABLE chaos.parent (type text, activity text, parent text);
-- What agents have noted.
CREATE TABLE chaos.execution (
  at bigint, what text, run text COLLATE "C", type text, phase smallint, activity text, turn integer, token text, word text,
  url text);
-- When somebody else has done, or ended, an activity.
CREATE TABLE chaos.ending (run text COLLATE "C", phase smallint, activity text, at bigint);
-- What was told to the engine.
CREATE TABLE chaos.said (run text COLLATE "C", phase smallint, ord smallint, kind text, token text);
-- Which runs had ended, and how, when it was first seen.
CREATE TABLE chaos.ended (id text COLLATE "C" PRIMARY KEY, state text NOT NULL);
"""
EMPTY = "TRUNCATE chaos.work, chaos.execution, chaos.ending, chaos.said, chaos.ended"

_COMPLETED = """
    SELECT run, phase, activity, min(at) AS at
      FROM (SELECT run, phase, activity, at FROM chaos.execution WHERE word IN ('complete', 'bad')
             UNION ALL
            SELECT run, phase, activity, at FROM chaos.ending) c
     GROUP BY 1, 2, 3"""

RULES: Mapping[str, str] = {
    "orchestrations end as their scripts say": """
        SELECT w.id, w.type, w.what, s.state, w.ends FROM chaos.work w
          LEFT JOIN (SELECT id, state FROM provision_manager.orchestration
                      UNION ALL
                     SELECT id, state FROM provision_manager.delayed_start
                      UNION ALL
                     SELECT identifier, state FROM tenant_manager.participant_profiles) s ON s.id = w.id
         WHERE s.state IS NULL OR s.state <> ALL (w.ends)""",
    "what has ended stays as it is, unless an operator wants it otherwise": """
        SELECT e.id, e.state, o.state AS now FROM chaos.ended e
          LEFT JOIN provision_manager.orchestration o ON o.id = e.id
         WHERE o.state IS DISTINCT FROM e.state
           AND NOT EXISTS (SELECT FROM audit.trail p
                            WHERE p.kind = 'orchestrations' AND p.action <> 'start'
                              AND p.entity_id IN (e.id, provision_manager.compensated_by(e.id)))""",
    "what an orchestration was started with never changes": """
        SELECT w.id FROM chaos.work w JOIN provision_manager.orchestration_data d ON d.orch_id = w.id
         WHERE d.input <> w.payload""",
    "nothing starts before its time": """
        SELECT w.id, w.starts_at, o.created_at FROM chaos.work w JOIN provision_manager.orchestration o ON o.id = w.id
         WHERE o.created_at < w.starts_at""",
    "no record of an activity is lost": """
        SELECT w.id, s.key, d.values->>('turn.' || s.key) AS turns
          FROM chaos.work w
          JOIN provision_manager.orchestration o ON o.id = w.id AND o.state = 'COMPLETED'
          JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
         CROSS JOIN LATERAL jsonb_each(w.script) s
         WHERE EXISTS (SELECT FROM chaos.parent p WHERE p.type = w.type AND p.activity = s.key)
           AND coalesce(d.values->('turn.' || s.key), '0')
               < to_jsonb(jsonb_array_length(s.value))""",
    "no output is lost": """
        SELECT w.id, w.payload->>'large' AS activity FROM chaos.work w
          JOIN provision_manager.orchestration o ON o.id = w.id AND o.state = 'COMPLETED'
          JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
         WHERE w.payload ? 'large' AND length(d.outputs->>'large') IS DISTINCT FROM 100000
           -- What waits has no output of its own, also where it is part of an orchestration that an activity has started.
           AND NOT EXISTS (SELECT FROM chaos.ending e
                            WHERE e.run IN (w.id, w.id || '.nested') AND e.activity = w.payload->>'large')""",
    "no activity begins before its parents are completed": f"""
        WITH completed AS MATERIALIZED ({_COMPLETED}),
             begun AS MATERIALIZED (
               SELECT run, type, phase, activity, min(at) AS at FROM chaos.execution WHERE what = 'begin' GROUP BY 1, 2, 3, 4)
        SELECT b.run, b.activity, p.parent FROM begun b
          JOIN chaos.parent p ON p.type = b.type AND p.activity = b.activity AND p.parent IS NOT NULL
          LEFT JOIN completed c ON c.run = b.run AND c.phase = b.phase AND c.activity = p.parent
         WHERE b.phase < 2 AND (c.at IS NULL OR c.at > b.at)""",  # noqa: S608
    "what builds on orchestrations begins after they are completed": f"""
        WITH completed AS MATERIALIZED ({_COMPLETED})
        SELECT b.run, c.id FROM chaos.execution b
          JOIN provision_manager.orchestration c ON c.parent = b.run AND c.parent_phase = 0
         WHERE b.what = 'begin' AND b.phase = 0 AND b.activity = 'z'
           AND (c.state <> 'COMPLETED' OR EXISTS (SELECT FROM completed x WHERE x.run = c.id AND x.at > b.at))""",  # noqa: S608
    "an activity is undone after all that has built on it": f"""
        WITH completed AS MATERIALIZED ({_COMPLETED}),
             begun AS MATERIALIZED (
               SELECT run, min(at) AS at FROM chaos.execution
                WHERE what = 'begin' AND phase = 1 AND activity = 'p' GROUP BY 1)
        SELECT b.run, x.activity FROM begun b
          JOIN completed x ON x.phase = 1 AND x.run = b.run AND x.activity <> 'p'
         WHERE x.at > b.at
         UNION ALL
        SELECT b.run, c.id FROM begun b
          JOIN provision_manager.orchestration c ON c.parent = b.run AND c.parent_phase = 1
          LEFT JOIN completed x ON x.run = c.id
         WHERE x.at IS NULL OR x.at > b.at""",  # noqa: S608
    "each element is carried out once": """
        SELECT w.id, w.payload->'list' FROM chaos.work w JOIN provision_manager.orchestration o ON o.id = w.id
         WHERE o.state = 'COMPLETED' AND w.payload ? 'list'
           AND (SELECT count(*) FROM provision_manager.orchestration c
                 WHERE c.parent = w.id AND c.element IS NOT NULL AND c.state = 'COMPLETED')
               <> jsonb_array_length(w.payload->'list')""",
    "what does not hold is skipped, and nothing else": """
        SELECT w.id, a.state FROM chaos.work w JOIN provision_manager.orchestration o ON o.id = w.id
          JOIN provision_manager.activity a ON a.orch_id = w.id AND a.phase = 0 AND a.ord = 1
         WHERE w.payload ? 'go' AND (a.state = 'SKIPPED' AND w.payload->'go' = 'true'
                                     OR a.state = 'DONE' AND w.payload->'go' = 'false')""",
    "what is done was executed": f"""
        WITH completed AS MATERIALIZED ({_COMPLETED})
        SELECT a.orch_id, n.activity_id FROM provision_manager.activity a
          JOIN provision_manager.orchestration o ON o.id = a.orch_id
          JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
          LEFT JOIN completed c ON c.run = a.orch_id AND c.phase = a.phase AND c.activity = n.activity_id
         WHERE a.state = 'DONE' AND NOT n.calls AND c.run IS NULL""",  # noqa: S608
    "what counts was said": """
        WITH counted AS MATERIALIZED (
               SELECT orch_id, phase, ord, kind, count(*) AS n FROM provision_manager.history
                WHERE kind IN ('complete', 'wait', 'schedule', 'retry', 'fatal') GROUP BY 1, 2, 3, 4),
             said AS MATERIALIZED (
               SELECT run, phase, ord, kind, count(DISTINCT token) AS n FROM chaos.said GROUP BY 1, 2, 3, 4)
        SELECT c.* FROM counted c
          LEFT JOIN said s ON s.run = c.orch_id AND s.phase = c.phase AND s.ord = c.ord AND s.kind = c.kind
         WHERE c.n > coalesce(s.n, 0)
           -- What orchestrations carry out, the managers record themselves.
           AND NOT EXISTS (SELECT FROM provision_manager.orchestration o
                             JOIN provision_manager.def_node n
                               ON n.def_id = o.def_id AND n.phase = c.phase AND n.ord = c.ord AND n.calls
                            WHERE o.id = c.orch_id)""",
    "what does not fit its schema is never executed": """
        SELECT w.id FROM chaos.work w JOIN chaos.execution e ON e.run = w.id AND e.activity = 'b'
         WHERE w.payload ? 'measure'""",
    "what a schedule has started comes to its end": """
        SELECT o.id, o.state FROM provision_manager.schedule s
          JOIN provision_manager.orchestration o ON o.id LIKE s.id || '.%'
         WHERE o.state <> 'COMPLETED'
         UNION ALL
        SELECT s.id, s.last_error FROM provision_manager.schedule s WHERE s.last_error <> ''""",
    "runs of a schedule overlap only where they may": """
        SELECT l.id, l.created_at, l.last_end FROM (
               SELECT o.id, o.created_at, lag(o.state_at) OVER (PARTITION BY s.id ORDER BY o.created_at) AS last_end
                 FROM provision_manager.schedule s
                 JOIN provision_manager.orchestration o ON o.id LIKE s.id || '.%'
                WHERE s.overlap <> 'allow') l
         WHERE l.created_at < l.last_end""",
}

_EXECUTIONS = """
SELECT count(*), count(DISTINCT (run, phase, activity, turn)), count(DISTINCT (run, phase, activity, turn, token))
  FROM chaos.execution WHERE what = 'begin'
"""


def create(database: Database) -> None:
    """Make the tables, empty."""
    with database.transaction() as tx:
        for statement in _TABLES.split(";"):
            if statement.strip():
                tx.rows(statement)
        parents: list[dict[str, str | None]] = [
            {"type": type_, "activity": activity, "parent": parent}
            for type_, shape in SHAPES.items()
            for activity, parents in shape.items()
            for parent in (set(parents) - CARRIED_OUT or (None,))
        ]
        _insert(tx.rows, "parent", parents)


def load(
    database: Database,
    database_url: str,
    *,
    work: Sequence[Mapping[str, Any]],
    endings: Sequence[Mapping[str, Any]],
    executions: Path,
    said: Path,
    more_said: Iterable[tuple[object, ...]],
) -> None:
    """Put all that was recorded of a run into the tables."""
    with database.transaction() as tx:
        _insert(tx.rows, "work", work)
        _insert(tx.rows, "ending", endings)
    with contextlib.closing(connect(database_url)) as connection:
        for table, path in (("execution", executions), ("said", said)):
            if path.exists():
                with path.open("rb") as lines:
                    _copy(connection, table, lines)
        more = "".join("\t".join(map(str, one)) + "\n" for one in more_said)
        _copy(connection, "said", BytesIO(more.encode()))
        connection.run("ANALYZE")


def summary(database: Database) -> dict[str, Any]:
    """How much more was executed than had to be."""
    ((total, needed, dispatched),) = database.rows(_EXECUTIONS)
    return {
        "needed": needed,
        "total": total,
        "byRepeatedDelivery": total - dispatched,
        "byAnotherDispatch": dispatched - needed,
        "perActivity": round(total / needed, 4) if needed else 0.0,
    }


def _insert(rows: Any, table: str, documents: Sequence[Mapping[str, Any]]) -> None:
    rows(
        f"INSERT INTO chaos.{table} SELECT * FROM jsonb_populate_recordset(NULL::chaos.{table}, :all::jsonb)",  # noqa: S608
        all=json.dumps(documents),
    )


def _copy(connection: Any, table: str, lines: BinaryIO) -> None:
    connection.run(f"COPY chaos.{table} FROM STDIN", stream=lines)
