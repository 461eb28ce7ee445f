-- name: hold
-- Keeps everybody else from changing a run, the one that it undoes or that undoes it, and perhaps those that go on below it, until
-- commit; archived ones come back.
SELECT provision_manager.hold_runs(ARRAY[:id], :with_below::boolean);

-- name: lock_delayed
-- Keeps an orchestration that has not started from starting.
SELECT FROM provision_manager.delayed_start WHERE id = :id FOR UPDATE;

-- name: pause
SELECT provision_manager.pause_run(:id);

-- name: resume
-- It gives the outbox rows that it has written, free for all, as those below do.
SELECT id FROM provision_manager.resume_run(:id, interval '0');

-- name: cancel
SELECT id FROM provision_manager.cancel_run(:id, :reason, :undoes::boolean, interval '0');

-- name: belong_to
-- From now on what follows from these runs, which are held, belongs to another trace.
UPDATE provision_manager.orchestration SET trace_context = :trace::jsonb WHERE id = ANY (:ids::text[]);

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

