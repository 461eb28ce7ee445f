-- name: hold
-- Keeps everybody else from changing a run, and the one that it undoes or that undoes it, until commit; archived ones come back.
SELECT provision_manager.hold_runs(ARRAY[:id]);

-- name: lock_delayed
-- Keeps an orchestration that has not started from starting.
SELECT FROM provision_manager.delayed_start WHERE id = :id FOR UPDATE;

-- name: pause
-- Sends nothing more of a run; what was queued waits outside of the queue.
WITH left_the_queue AS (
  DELETE FROM provision_manager.admission WHERE orch_id = :id AND NOT in_flight)
UPDATE provision_manager.orchestration SET paused = true, version = version + 1 WHERE id = :id;

-- name: resume
UPDATE provision_manager.orchestration SET paused = false, version = version + 1 WHERE id = :id;

-- name: release
-- Sends what was held back. It gives the outbox rows that it has written, free for all, as those below do.
SELECT id FROM provision_manager.release(ARRAY[:id], clock_timestamp(), interval '0');

-- name: call
-- Has somebody look after the activities of a run that runs of their own carry out.
SELECT id FROM provision_manager.announce_calls(ARRAY[:id], interval '0');

-- name: cancel
SELECT id FROM provision_manager.cancel_run(:id, :reason, :undoes::boolean, interval '0');

-- name: retry
SELECT id FROM provision_manager.retry_run(:id, :ords::smallint[], interval '0');

-- name: compensate
SELECT id FROM provision_manager.compensate_run(:id, interval '0');

-- name: resolve_activity
SELECT id
  FROM provision_manager.resolve_activity(
         :id, :ord::smallint, :reason, :values::jsonb, :outputs::jsonb, interval '0');

-- name: hasten_activity
SELECT id FROM provision_manager.hasten_activity(:id, :ord::smallint, interval '0');

-- name: erase
SELECT erased, going FROM provision_manager.erase_runs(:correlation_id);

-- name: list_runs
-- The ids of all runs with a correlation id.
SELECT id FROM provision_manager.orchestration WHERE correlation_id = :correlation_id;

-- name: input
-- What a run was started with, or was to be.
SELECT input FROM provision_manager.orchestration_data WHERE orch_id = :id
UNION ALL
SELECT payload FROM provision_manager.delayed_start WHERE id = :id
 LIMIT 1;

