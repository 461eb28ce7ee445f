-- name: lock_definitions
-- Lets one change of definitions happen at a time, until commit.
SELECT pg_advisory_xact_lock(hashtext('provision_manager.definition'));

-- name: activity_definitions
-- The documents of all activity definitions.
SELECT document FROM provision_manager.activity_definition;

-- name: find_activity_definition
-- One activity definition's version and JSON, 0 or 1 row.
SELECT version, document::text FROM provision_manager.activity_definition WHERE type = :type;

-- name: put_activity_definition
-- Adds an activity definition, or replaces the one of its type. Gives its version and JSON.
INSERT INTO provision_manager.activity_definition AS d
  (type, document, timeout_seconds, max_attempts, backoff_seconds, backoff_limit_seconds, max_in_flight, max_per_tenant,
   max_failures)
VALUES (:type, :document::json, :timeout::double precision, :max_attempts::integer, :backoff::double precision,
        :backoff_limit::double precision, :max_in_flight::integer, :max_per_tenant::integer, :max_failures::integer)
ON CONFLICT (type) DO UPDATE
   SET version = d.version + 1, document = excluded.document, timeout_seconds = excluded.timeout_seconds,
       max_attempts = excluded.max_attempts, backoff_seconds = excluded.backoff_seconds,
       backoff_limit_seconds = excluded.backoff_limit_seconds, max_in_flight = excluded.max_in_flight,
       max_per_tenant = excluded.max_per_tenant, max_failures = excluded.max_failures
RETURNING version, document::text;

-- name: count_in_flight
-- Counts what is with agents of a type that has limits from now on.
INSERT INTO provision_manager.admission (orch_id, phase, ord, type, tenant_id, in_flight, ready_at)
SELECT o.id, a.phase, a.ord, n.type, o.tenant_id, true, a.dispatched_at
  FROM provision_manager.activity a
  JOIN provision_manager.orchestration o ON o.id = a.orch_id AND o.phase = a.phase
  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.ord = a.ord
 WHERE a.due_at IS NOT NULL AND a.state = 'DISPATCHED' AND n.type = :type
    ON CONFLICT DO NOTHING;

-- name: delete_activity_definition
DELETE FROM provision_manager.activity_definition WHERE type = :type;

-- name: list_users
-- The orchestration types whose definition uses an activity type.
SELECT DISTINCT d.type
  FROM provision_manager.definition d
  JOIN provision_manager.def_node n ON n.def_id = d.id
 WHERE n.type = :type AND d.is_current;

-- name: find_template
-- A template's version and the definitions in force that it has made, as an array by orchestration type; null where there
-- are none. Definitions are put in force once, taken out of it once, and never deleted: so the version rises with both.
SELECT count(*) + count(*) FILTER (WHERE NOT is_current),
       '[' || string_agg(document::text, ',' ORDER BY type) FILTER (WHERE is_current) || ']'
  FROM provision_manager.definition
 WHERE template_ref = :template_ref;

-- name: retire_definition
-- Takes the definition of one orchestration type out of force.
UPDATE provision_manager.definition SET is_current = false WHERE type = :type AND is_current;

-- name: add_definition
-- Puts a new version of an orchestration type in force, with its nodes and edges.
WITH made AS (
  INSERT INTO provision_manager.definition (type, version, template_ref, document, n_nodes)
  SELECT :type, coalesce(max(version), 0) + 1, :template_ref, :document::json, jsonb_array_length(:nodes::jsonb)
    FROM provision_manager.definition
   WHERE type = :type
  RETURNING id
), nodes AS (
  INSERT INTO provision_manager.def_node (def_id, ord, activity_id, type, n_deps)
  SELECT made.id, n.ord, n.id, n.type, n.n_deps
    FROM made, jsonb_to_recordset(:nodes::jsonb) AS n (ord smallint, id text, type text, n_deps smallint))
INSERT INTO provision_manager.def_edge (def_id, from_ord, to_ord)
SELECT made.id, e.from_ord, e.to_ord
  FROM made, jsonb_to_recordset(:edges::jsonb) AS e (from_ord smallint, to_ord smallint);

-- name: list_runs
-- Some of the orchestrations that were started from a template, at whatever time, and have not ended.
(SELECT o.id
   FROM provision_manager.activity a
   JOIN provision_manager.orchestration o ON o.id = a.orch_id
   JOIN provision_manager.definition d ON d.id = o.def_id
  WHERE a.due_at IS NOT NULL AND d.template_ref = :template_ref
  LIMIT 10)
UNION
(SELECT o.id
   FROM provision_manager.orchestration o
   JOIN provision_manager.definition d ON d.id = o.def_id
  WHERE o.resend_at IS NOT NULL AND d.template_ref = :template_ref
  LIMIT 10);

-- name: retire_template
-- Takes the definitions of a template out of force but for those of some types; what runs have begun with stays. Gives the
-- types of those that go.
UPDATE provision_manager.definition
   SET is_current = false
 WHERE template_ref = :template_ref AND is_current AND type <> ALL (:kept::text[])
RETURNING type;
