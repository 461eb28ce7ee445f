"""What holds in the database at any time, whatever has happened. Each query finds what breaks the rule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from cfm_core.store.database import Database

INVARIANTS = {
    "an activity is completed once at most": """
        SELECT orch_id, phase, ord FROM provision_manager.history
         WHERE kind IN ('complete', 'resolved') GROUP BY orch_id, phase, ord HAVING count(*) > 1""",
    "a completed activity is in the history": """
        SELECT a.orch_id, a.ord FROM provision_manager.activity a
         WHERE a.state = 'DONE' AND NOT EXISTS (
               SELECT FROM provision_manager.history h
                WHERE h.orch_id = a.orch_id AND h.phase = a.phase AND h.ord = a.ord
                  AND h.kind IN ('complete', 'resolved'))""",
    "deps_left is the number of parents that are not done": """
        SELECT a.orch_id, a.ord, a.deps_left
          FROM provision_manager.activity a
          JOIN provision_manager.orchestration o ON o.id = a.orch_id
         WHERE a.deps_left <> (
               SELECT count(*)
                 FROM provision_manager.def_edge e
                 JOIN provision_manager.activity p ON p.orch_id = a.orch_id AND p.phase = a.phase AND p.ord = e.from_ord
                WHERE e.def_id = o.def_id AND e.phase = a.phase AND e.to_ord = a.ord
                  AND p.state NOT IN ('DONE', 'SKIPPED'))""",
    "no activity is sent before its parents are done": """
        SELECT orch_id, ord FROM provision_manager.activity WHERE dispatches > 0 AND deps_left > 0""",
    "remaining is the number of activities that have not ended": """
        SELECT o.id, o.remaining
          FROM provision_manager.orchestration o
         WHERE o.remaining <> (SELECT count(*) FROM provision_manager.activity a
                                WHERE a.orch_id = o.id AND a.phase = o.phase
                                  AND a.state NOT IN ('DONE', 'FAILED', 'CANCELLED', 'SKIPPED'))""",
    "a completed run has no activity that is not done": """
        SELECT o.id FROM provision_manager.orchestration o
          JOIN provision_manager.activity a ON a.orch_id = o.id
         WHERE o.state = 'COMPLETED' AND a.state NOT IN ('DONE', 'SKIPPED')""",
    "a run goes on only with something to wait for": """
        SELECT o.id FROM provision_manager.orchestration o
         WHERE (o.state IN ('RUNNING', 'CANCELLING') OR o.state = 'COMPENSATING' AND o.phase = 1)
           AND NOT o.paused AND NOT EXISTS (
               SELECT FROM provision_manager.activity a
                WHERE a.orch_id = o.id AND a.phase = o.phase AND (a.due_at IS NOT NULL OR a.state = 'READY'))""",
    "what is held back of a run that is not paused is queued": """
        SELECT a.orch_id, a.ord FROM provision_manager.activity a
          JOIN provision_manager.orchestration o ON o.id = a.orch_id
         WHERE a.state = 'READY' AND NOT o.paused AND NOT EXISTS (
               SELECT FROM provision_manager.admission s
                WHERE s.orch_id = a.orch_id AND s.phase = a.phase AND s.ord = a.ord AND NOT s.in_flight)
            OR o.paused AND o.state <> 'RUNNING'""",
    "what is queued is held back, what is in flight is out": """
        SELECT s.orch_id, s.ord, a.state FROM provision_manager.admission s
          JOIN provision_manager.orchestration o ON o.id = s.orch_id
          LEFT JOIN provision_manager.activity a ON a.orch_id = s.orch_id AND a.phase = s.phase AND a.ord = s.ord
         WHERE a.state IS DISTINCT FROM CASE WHEN s.in_flight THEN 'DISPATCHED' ELSE 'READY' END
            OR o.paused AND NOT s.in_flight""",
    "no more is in flight than the limits allow": """
        SELECT d.type, s.tenant_id, count(*) FROM provision_manager.activity_definition d
          JOIN provision_manager.admission s ON s.type = d.type AND s.in_flight
         GROUP BY GROUPING SETS ((d.type), (d.type, s.tenant_id))
        HAVING count(*) > CASE GROUPING(s.tenant_id) WHEN 1 THEN d.max_in_flight ELSE d.max_per_tenant END""",
    "no more is sent in a period than the rates allow": """
        WITH sent AS (
               SELECT n.type, o.tenant_id, s.at
                 FROM (SELECT orch_id, phase, ord, dispatched_at FROM provision_manager.history WHERE dispatch > 0
                        UNION
                       SELECT orch_id, phase, ord, dispatched_at FROM provision_manager.activity WHERE dispatches > 0
                      ) s (orch_id, phase, ord, at)
                 JOIN provision_manager.orchestration o ON o.id = s.orch_id
                 JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = s.phase AND n.ord = s.ord AND NOT n.calls)
        SELECT l.type, l.tenant_id, l.at FROM (
               SELECT s.*, s.at - lag(s.at, d.rate_count) OVER (PARTITION BY s.type ORDER BY s.at)
                           < make_interval(secs => d.rate_seconds)
                        OR s.at - lag(s.at, d.tenant_rate_count) OVER (PARTITION BY s.type, s.tenant_id ORDER BY s.at)
                           < make_interval(secs => d.tenant_rate_seconds) AS is_early
                 FROM sent s JOIN provision_manager.activity_definition d ON d.type = s.type
                WHERE d.rate_count IS NOT NULL OR d.tenant_rate_count IS NOT NULL) l
         WHERE l.is_early""",
    "a compensation is under way, asked for, or waits for the last activity": """
        SELECT o.id FROM provision_manager.orchestration o
         WHERE o.state = 'COMPENSATING' AND o.phase = 0 AND o.remaining = 0 AND o.resend_at IS NULL AND NOT EXISTS (
               SELECT FROM provision_manager.orchestration c
                WHERE c.id = o.id || '.compensate' AND c.state IN ('RUNNING', 'COMPENSATING'))""",
    "what lives has a time, what is blocked or has ended has none": """
        SELECT orch_id, ord FROM provision_manager.activity
         WHERE (due_at IS NOT NULL)
               <> (state IN ('DISPATCHED', 'WAITING', 'BACKOFF') OR state = 'READY' AND close_by IS NOT NULL)
            OR due_at > close_by""",
    "what somebody outside has said is kept only until it counts": """
        SELECT orch_id, ord FROM provision_manager.activity
         WHERE ending IS NOT NULL
           AND (state IN ('WAITING', 'DONE', 'SKIPPED') OR state = 'FAILED' AND ending->>'kind' = 'fatal')""",
    "nothing is sent once the run has failed": """
        SELECT a.orch_id, a.ord FROM provision_manager.activity a
          JOIN provision_manager.orchestration o ON o.id = a.orch_id
         WHERE o.state NOT IN ('RUNNING', 'COMPLETED') AND NOT (o.state = 'COMPENSATING' AND a.phase = 1)
           AND (a.phase = 0 AND a.dispatched_at > o.state_at AND o.state IN ('ERRORED', 'COMPENSATING', 'CANCELLING', 'CANCELLED')
                OR a.state IN ('BLOCKED', 'READY', 'BACKOFF') OR a.state = 'WAITING' AND NOT EXISTS (
                     SELECT FROM provision_manager.def_node n
                      WHERE n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord AND n.calls))""",
    "what is with an agent, or waits for somebody, has a token": """
        SELECT orch_id, ord FROM provision_manager.activity
         WHERE state IN ('DISPATCHED', 'WAITING') AND (token IS NULL OR dispatched_at IS NULL OR dispatches = 0)""",
    "a failure that counts was reported": """
        SELECT a.orch_id, a.ord, a.failures FROM provision_manager.activity a
         WHERE a.failures > (
               SELECT count(*) FROM provision_manager.history h
                WHERE h.orch_id = a.orch_id AND h.phase = a.phase AND h.ord = a.ord AND h.kind IN ('retry', 'heartbeat over'))""",
    "a failed activity is in the history": """
        SELECT a.orch_id, a.ord FROM provision_manager.activity a
         WHERE a.state = 'FAILED' AND NOT EXISTS (
               SELECT FROM provision_manager.history h
                WHERE h.orch_id = a.orch_id AND h.phase = a.phase AND h.ord = a.ord
                  AND h.kind IN ('fatal', 'retry', 'invalid input', 'invalid output',
                                 'wait over', 'lease over', 'heartbeat over', 'time over'))""",
    "a compensated run has a compensation that is completed": """
        SELECT o.id FROM provision_manager.orchestration o
         WHERE o.state = 'COMPENSATED' AND o.phase = 0 AND NOT EXISTS (
               SELECT FROM provision_manager.orchestration c
                WHERE c.id = o.id || '.compensate' AND c.state = 'COMPLETED')""",
    "what was sent, and can be undone, is undone with the run": """
        SELECT o.id, a.ord FROM provision_manager.orchestration o
          JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = 0
          JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = 1 AND n.ord = a.ord
          LEFT JOIN provision_manager.activity u ON u.orch_id = o.id AND u.phase = 1 AND u.ord = a.ord
         WHERE o.phase = 1
           AND ((a.dispatches > 0 OR a.state = 'DONE') <> (u.ord IS NOT NULL)
                OR o.state = 'COMPENSATED' AND u.state <> 'DONE')""",
    "no activity has failed more often than it may": """
        SELECT a.orch_id, a.ord FROM provision_manager.activity a
          JOIN provision_manager.orchestration o ON o.id = a.orch_id
          JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
         WHERE a.failures > n.max_attempts""",
    "the history ends as the activity has": """
        SELECT a.orch_id, a.ord, a.state, h.kind, h.dispatch, a.dispatches FROM provision_manager.activity a
          JOIN LATERAL (
               SELECT l.kind, l.dispatch FROM provision_manager.history l
                WHERE l.orch_id = a.orch_id AND l.phase = a.phase AND l.ord = a.ord AND l.kind NOT LIKE 'fenced: %'
                ORDER BY l.at DESC, l.dispatch DESC LIMIT 1) h ON true
         WHERE a.state IN ('DONE', 'FAILED')
           AND ((a.state = 'DONE') <> (h.kind IN ('complete', 'resolved')) OR h.dispatch <> a.dispatches)""",
    "every run has its data": """
        SELECT o.id FROM provision_manager.orchestration o
          LEFT JOIN provision_manager.orchestration_data d ON d.orch_id = o.id WHERE d.orch_id IS NULL""",
}


_MOST_SHOWN = 10


def broken(database: Database, rules: Mapping[str, str] = INVARIANTS) -> dict[str, list[str]]:
    """The rules that do not hold, with some of what breaks them; all are looked at in the same instant."""
    found: dict[str, list[str]] = {}
    for rule, what in database.rows(_all_of(tuple(rules.items()))):
        found.setdefault(rule, []).append(what)
    return found


@cache
def _all_of(rules: tuple[tuple[str, str], ...]) -> str:
    return " UNION ALL ".join(
        f"(SELECT '{rule}', to_jsonb(found)::text FROM ({query}) found LIMIT {_MOST_SHOWN})"  # noqa: S608
        for rule, query in rules
    )
