-- name: now
-- What time it is.
SELECT clock_timestamp();

-- name: insert
-- Adds a schedule unless its id is taken. Gives its version and JSON, or no row.
INSERT INTO provision_manager.schedule AS s
  (id, cron, time_zone, overlap, type, template_ref, correlation_id, payload, paused, created_at, next_at)
VALUES (:id, :cron, :time_zone, :overlap, :type, :template_ref, :correlation_id, :payload::json, :paused, :created_at::timestamptz,
        :next_at::timestamptz)
ON CONFLICT (id) DO NOTHING
RETURNING version, provision_manager.schedule_json(s);

-- name: find
-- One schedule's version and JSON, 0 or 1 row.
SELECT version, provision_manager.schedule_json(s) FROM provision_manager.schedule s WHERE id = :id;

-- name: lock
-- One schedule, its row held until commit, and what time it is. Gives 0 or 1 row.
SELECT id, version, cron, time_zone, overlap, type, correlation_id, payload, paused, created_at, next_at, last_at,
       last_manifest_id, skipped_at, last_error, template_ref, clock_timestamp()
  FROM provision_manager.schedule
 WHERE id = :id
   FOR UPDATE;

-- name: replace
-- Replaces schedules that are held. Gives the version and JSON of each.
UPDATE provision_manager.schedule s
   SET version = s.version + 1, cron = n.cron, time_zone = n."timeZone", overlap = n.overlap, type = n."type",
       template_ref = n."templateRef", correlation_id = n."correlationId", payload = n.payload, paused = n.paused, next_at = n."nextAt",
       last_at = n."lastAt", last_manifest_id = n."lastManifestId", skipped_at = n."skippedAt",
       last_error = n."lastError"
  FROM json_to_recordset(:schedules::json)
    AS n (id text, cron text, "timeZone" text, overlap text, type text, "templateRef" text, "correlationId" text, payload json,
          paused boolean, "nextAt" timestamptz, "lastAt" timestamptz, "lastManifestId" text, "skippedAt" timestamptz,
          "lastError" text)
 WHERE s.id = n.id
RETURNING s.version, provision_manager.schedule_json(s);

-- name: delete
-- Deletes a schedule if it is in one of the versions; null stands for any. Gives its id, and whether it was paused. 0 or 1 row.
DELETE FROM provision_manager.schedule
 WHERE id = :id AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id, paused;

-- name: secret_keys
SELECT provision_manager.secret_keys();

-- name: defines
-- Whether orchestrations of a type can start; '' stands for any template.
SELECT provision_manager.definition_to_start(:type, :template_ref) IS NOT NULL;

-- name: list_due
-- The ids of the schedules whose time has come; not of those that wait for the end of their last run.
SELECT id
  FROM provision_manager.schedule
 WHERE next_at <= now() AND NOT (overlap = 'queue' AND provision_manager.is_live(last_manifest_id))
 ORDER BY next_at, id
 LIMIT :most;

-- name: lock_due
-- Those schedules, of all or only of some, as far as nobody else holds them: held until commit, each with the time that it
-- is, and whether its last run goes on.
SELECT id, version, cron, time_zone, overlap, type, correlation_id, payload, paused, created_at, next_at, last_at,
       last_manifest_id, skipped_at, last_error, template_ref, now(), provision_manager.is_live(last_manifest_id)
  FROM provision_manager.schedule
 WHERE next_at <= now() AND NOT (overlap = 'queue' AND provision_manager.is_live(last_manifest_id))
   AND (:among::text[] IS NULL OR id = ANY (:among::text[]))
 ORDER BY next_at, id
 LIMIT :most
   FOR UPDATE SKIP LOCKED;
