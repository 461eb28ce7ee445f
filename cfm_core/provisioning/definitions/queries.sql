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
  (type, document, timeout_seconds, start_seconds, close_seconds, heartbeat_seconds, wait_seconds, max_attempts,
   backoff_seconds, backoff_limit_seconds, max_in_flight, max_per_tenant, rate_count, rate_seconds,
   tenant_rate_count, tenant_rate_seconds, max_failures)
VALUES (:type, :document::json, :timeout::double precision, :start::double precision, :close::double precision,
        :heartbeat::double precision, :wait::double precision, :max_attempts::integer, :backoff::double precision,
        :backoff_limit::double precision, :max_in_flight::integer, :max_per_tenant::integer, :rate_count::integer,
        :rate::double precision, :tenant_rate_count::integer, :tenant_rate::double precision, :max_failures::integer)
ON CONFLICT (type) DO UPDATE
   SET version = d.version + 1, document = excluded.document, timeout_seconds = excluded.timeout_seconds,
       start_seconds = excluded.start_seconds, close_seconds = excluded.close_seconds,
       heartbeat_seconds = excluded.heartbeat_seconds, wait_seconds = excluded.wait_seconds,
       max_attempts = excluded.max_attempts, backoff_seconds = excluded.backoff_seconds,
       backoff_limit_seconds = excluded.backoff_limit_seconds, max_in_flight = excluded.max_in_flight,
       max_per_tenant = excluded.max_per_tenant,
       rate_count = excluded.rate_count, rate_seconds = excluded.rate_seconds,
       tenant_rate_count = excluded.tenant_rate_count, tenant_rate_seconds = excluded.tenant_rate_seconds,
       max_failures = excluded.max_failures
RETURNING version, document::text;

-- name: count_in_flight
-- Counts what is with agents of a type that has limits from now on.
INSERT INTO provision_manager.admission (orch_id, phase, ord, type, tenant_id, in_flight, ready_at)
SELECT o.id, a.phase, a.ord, n.type, o.tenant_id, true, a.dispatched_at
  FROM provision_manager.activity a
  JOIN provision_manager.orchestration o ON o.id = a.orch_id AND o.phase = a.phase
  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord AND NOT n.calls
 WHERE a.due_at IS NOT NULL AND a.state = 'DISPATCHED' AND n.type = :type
    ON CONFLICT DO NOTHING;

-- name: delete_activity_definition
WITH forgotten AS (DELETE FROM provision_manager.admitted WHERE type = :type)
DELETE FROM provision_manager.activity_definition WHERE type = :type;

-- name: list_users
-- The definitions in force that use an activity type: whether they are active, and all that another version of them needs.
SELECT d.type, d.template_ref, d.posted, d.beside, d.is_active, provision_manager.definition_json(d)
  FROM provision_manager.definition d
 WHERE d.is_current
   AND EXISTS (SELECT FROM provision_manager.def_node n WHERE n.def_id = d.id AND n.type = :type)
 ORDER BY d.type, d.posted;

-- name: list_runs_with_type
-- Some of the orchestrations that have an activity type and have not ended.
SELECT o.id
  FROM provision_manager.orchestration o
 WHERE o.state_number <> 2 AND (o.remaining > 0 OR o.resend_at IS NOT NULL)
   AND EXISTS (SELECT FROM provision_manager.def_node n WHERE n.def_id = o.def_id AND n.type = :type)
 LIMIT 10;

-- name: find_template
-- A template's version and its definitions in force as an array by orchestration type. Gives 0 or 1 row.
SELECT t.version,
       '[' || string_agg(provision_manager.definition_json(d), ',' ORDER BY d.type) || ']'
  FROM provision_manager.template t
  JOIN provision_manager.definition d ON d.template_ref = t.ref AND d.is_current
 WHERE t.ref = :template_ref
 GROUP BY t.version;

-- name: put_template
-- Gives a template its next version; once others stand beside it, that stays so. Gives the version, and whether they do.
INSERT INTO provision_manager.template AS t (ref, version, beside)
VALUES (:template_ref, nextval('provision_manager.template_version'), :beside::boolean)
ON CONFLICT (ref) DO UPDATE SET version = excluded.version, beside = t.beside OR excluded.beside
RETURNING t.version, t.beside;

-- name: put_beside
-- Lets the definitions of a template stay in force whatever others are posted.
UPDATE provision_manager.definition SET beside = true WHERE template_ref = :template_ref AND is_current AND NOT beside;

-- name: retire_definition
-- Takes a template's definition of one orchestration type out of force.
UPDATE provision_manager.definition
   SET is_current = false, retired_at = now()
 WHERE template_ref = :template_ref AND type = :type AND is_current;

-- name: take_over
-- Takes the definitions of some orchestration types out of force that others have posted, and gives those templates their next
-- versions; none is left of a template without definitions.
WITH retired AS (
  UPDATE provision_manager.definition d
     SET is_current = false, retired_at = now()
   WHERE d.type = ANY (:taken::text[]) AND d.is_current AND NOT d.beside AND d.template_ref <> :template_ref
  RETURNING d.id, d.template_ref
), gone AS (
  DELETE FROM provision_manager.template t
   USING retired r
   WHERE t.ref = r.template_ref
     AND NOT EXISTS (SELECT FROM provision_manager.definition d
                      WHERE d.template_ref = t.ref AND d.is_current AND d.id NOT IN (SELECT id FROM retired))
  RETURNING t.ref
)
UPDATE provision_manager.template t
   SET version = nextval('provision_manager.template_version')
  FROM retired r
 WHERE t.ref = r.template_ref AND t.ref NOT IN (SELECT ref FROM gone);

-- name: add_definition
-- Puts a new version of an orchestration type in force, with its nodes and edges.
WITH made AS (
  INSERT INTO provision_manager.definition
    (type, version, template_ref, posted, beside, is_active, document, undo, undo_after, secret_keys, n_nodes)
  SELECT :type, coalesce(max(version), 0) + 1, :template_ref, :posted::bigint, :beside::boolean, :active::boolean,
         :document::json, :undo, :undo_after::interval, :secret_keys::text[],
         (SELECT count(*) FROM jsonb_array_elements(:nodes::jsonb) n WHERE (n->'phase')::integer = 0)
    FROM provision_manager.definition
   WHERE type = :type
  RETURNING id
), nodes AS (
  INSERT INTO provision_manager.def_node
    (def_id, phase, ord, activity_id, type, n_deps, inputs, input_schema, output_schema, condition, calls, for_each,
     child_phase)
  SELECT made.id, n.phase, n.ord, n.id, n.type, n.n_deps, n.inputs, n.input_schema, n.output_schema, n.condition,
         n.calls, n.for_each, n.child_phase
    FROM made, jsonb_to_recordset(:nodes::jsonb) AS n
           (phase smallint, ord smallint, id text, type text, n_deps smallint, inputs jsonb, input_schema jsonb,
            output_schema jsonb, condition jsonb, calls boolean, for_each jsonb, child_phase smallint))
INSERT INTO provision_manager.def_edge (def_id, phase, from_ord, to_ord)
SELECT made.id, e.phase, e.from_ord, e.to_ord
  FROM made, jsonb_to_recordset(:edges::jsonb) AS e (phase smallint, from_ord smallint, to_ord smallint);

-- name: list_runs
-- Some of the orchestrations that were started from a template, at whatever time, and have not ended.
SELECT o.id
  FROM provision_manager.orchestration o
  JOIN provision_manager.definition d ON d.id = o.def_id
 WHERE o.state_number <> 2 AND (o.remaining > 0 OR o.resend_at IS NOT NULL) AND d.template_ref = :template_ref
 LIMIT 10;

-- name: retire_template
-- Takes the definitions of a template out of force but for those of some types; what runs have begun with stays. Gives the
-- types of those that go.
UPDATE provision_manager.definition
   SET is_current = false, retired_at = now()
 WHERE template_ref = :template_ref AND is_current AND type <> ALL (:kept::text[])
RETURNING type;

-- name: delete_template
DELETE FROM provision_manager.template WHERE ref = :template_ref;

-- name: set_active
-- Lets orchestrations start with a template's definitions in force, or not. Gives a row for each that was not so before.
UPDATE provision_manager.definition
   SET is_active = :active::boolean
 WHERE template_ref = :template_ref AND is_current AND is_active <> :active::boolean
RETURNING type;

-- name: forget_definitions
-- Deletes definitions that went out of force a while ago (no start can be using them any more) and that no run has. The last
-- version of a type stays, so that none comes twice. Gives the ids of those that went.
WITH unused AS (
  SELECT d.id
    FROM provision_manager.definition d
   WHERE NOT d.is_current AND d.retired_at < now() - :unused_for::interval
     AND EXISTS (SELECT FROM provision_manager.definition x WHERE x.type = d.type AND x.version > d.version)
     AND NOT EXISTS (SELECT FROM provision_manager.run r WHERE r.type = d.type AND r.def_id = d.id)
   ORDER BY d.retired_at
   LIMIT :most
     FOR UPDATE SKIP LOCKED)
DELETE FROM provision_manager.definition d
 USING unused
 WHERE d.id = unused.id
RETURNING d.id;
