-- name: put
-- Keeps what is to be started later, unless something has its id, or nobody defines its type.
INSERT INTO provision_manager.delayed_start
  (id, type, template_ref, correlation_id, tenant_id, payload, trace_context, start_at)
SELECT :id, :type, :template_ref, :correlation_id, :tenant_id, :payload::jsonb, :trace::jsonb, :start_at::timestamptz
 WHERE provision_manager.definition_to_start(:type, :template_ref) IS NOT NULL
   AND NOT EXISTS (SELECT FROM provision_manager.run WHERE id = :id)
ON CONFLICT (id) DO NOTHING;

-- name: find
-- One delayed start, with the activities that its type has now. Gives 0 or 1 row.
SELECT s.id, s.version, s.correlation_id, s.tenant_id, s.type, s.state, s.state_at, s.created_at, s.error_detail,
       coalesce((SELECT d.document->'activities'->d.type
                   FROM provision_manager.definition d
                  WHERE d.id = provision_manager.definition_to_start(s.type, s.template_ref)), '[]'), s.payload, s.start_at,
       coalesce(s.trace_context, '{}'), provision_manager.secret_keys()
  FROM provision_manager.delayed_start s
 WHERE s.id = :id AND <<within>>;

-- name: cancel
-- Cancels what has not been started. Gives its id, 0 or 1 row.
UPDATE provision_manager.delayed_start s
   SET state = 'CANCELLED', version = s.version + 1, state_at = clock_timestamp(), error_detail = :reason
 WHERE s.id = :id AND s.state = 'SCHEDULED'
   AND NOT EXISTS (SELECT FROM provision_manager.run WHERE id = :id)
RETURNING s.id;

-- name: list_due
-- The ids of those whose time has come.
SELECT id
  FROM provision_manager.delayed_start
 WHERE state = 'SCHEDULED' AND start_at <= now()
 ORDER BY start_at, id
 LIMIT :most;

-- name: lock_due
-- Those whose time has come, of all or only of some, as far as nobody else holds them: held until commit.
SELECT id, type, template_ref, correlation_id, tenant_id, payload, trace_context
  FROM provision_manager.delayed_start
 WHERE state = 'SCHEDULED' AND start_at <= now()
   AND (:among::text[] IS NULL OR id = ANY (:among::text[]))
 ORDER BY start_at, id
 LIMIT :most
   FOR UPDATE SKIP LOCKED;

-- name: move_on
-- Makes runs other versions than what was shown before they were started.
WITH held AS (
  SELECT id FROM provision_manager.orchestration WHERE id = ANY (:ids::text[]) ORDER BY id FOR UPDATE)
UPDATE provision_manager.orchestration o SET version = o.version + 1 FROM held WHERE o.id = held.id;

-- name: forget
-- Forgets those that have become runs.
DELETE FROM provision_manager.delayed_start WHERE id = ANY (:ids::text[]);

-- name: fail
-- Says why one has started nothing.
UPDATE provision_manager.delayed_start
   SET state = 'ERRORED', version = version + 1, state_at = clock_timestamp(), error_detail = :reason
 WHERE id = :id AND state = 'SCHEDULED';

-- name: lock
-- Keeps those of a correlation id from starting, until commit.
SELECT id, state
  FROM provision_manager.delayed_start
 WHERE correlation_id = :correlation_id
 ORDER BY id
   FOR UPDATE;

-- name: erase
-- Forgets those of a correlation id that have been cancelled or have failed. Gives their ids.
DELETE FROM provision_manager.delayed_start
 WHERE correlation_id = :correlation_id AND state <> 'SCHEDULED'
RETURNING id;
