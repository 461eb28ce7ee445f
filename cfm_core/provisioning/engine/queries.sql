-- name: start
-- Starts orchestrations. Gives the outbox rows that it has written.
SELECT id, subject, events::text
  FROM provision_manager.start_orchestrations(:manifests::jsonb, :lease::interval, :answers::boolean);

-- name: known
-- Those of some ids that orchestrations have.
SELECT id FROM provision_manager.run WHERE id = ANY (:ids::text[]);

-- name: record
-- Takes in outcomes. Gives the outbox rows that it has written.
SELECT id, subject, events::text FROM provision_manager.record_outcomes(:outcomes::jsonb, :lease::interval);

-- name: sweep
-- Takes care of overdue activities, of all runs or only of some. Gives the outbox rows that it has written.
SELECT id, subject, events::text FROM provision_manager.sweep_activities(:most::integer, :lease::interval, :among::text[]);

-- name: admit
-- Sends what limits allow by now. Gives the outbox rows that it has written.
SELECT id, subject, events::text FROM provision_manager.admit_all(:lease::interval);

-- name: list_overdue
-- The runs that have overdue activities, the one that has waited longest first.
SELECT orch_id
  FROM provision_manager.activity
 WHERE due_at <= now()
 GROUP BY orch_id
 ORDER BY min(due_at)
 LIMIT :most;

-- name: postpone
-- Puts the overdue activities of a run out of the way for a while.
WITH held AS (
  SELECT id FROM provision_manager.orchestration WHERE id = :orch_id FOR UPDATE)
UPDATE provision_manager.activity a
   SET due_at = now() + interval '5 min'
  FROM held
 WHERE a.orch_id = held.id AND a.due_at <= now();

-- name: put_dead_letter
-- Keeps what could not be taken in.
INSERT INTO provision_manager.dead_letter (subject, event, reason) VALUES (:subject, :event, :reason);

-- name: register_types
-- Takes over what agents announce; an unchanged announcement writes nothing.
INSERT INTO provision_manager.activity_type_policy AS p
  (type, timeout_seconds, max_attempts, backoff_seconds, backoff_limit_seconds)
SELECT t.type, t.timeout, t.attempts, t.backoff, t.backoff_limit
  FROM jsonb_to_recordset(:announcements::jsonb)
    AS t (type text, timeout double precision, attempts integer, backoff double precision, backoff_limit double precision)
 ORDER BY t.type
ON CONFLICT (type) DO UPDATE
   SET timeout_seconds = excluded.timeout_seconds, max_attempts = excluded.max_attempts,
       backoff_seconds = excluded.backoff_seconds, backoff_limit_seconds = excluded.backoff_limit_seconds,
       announced_at = now()
 WHERE (p.timeout_seconds, p.max_attempts, p.backoff_seconds, p.backoff_limit_seconds)
       IS DISTINCT FROM (excluded.timeout_seconds, excluded.max_attempts, excluded.backoff_seconds,
                         excluded.backoff_limit_seconds);
