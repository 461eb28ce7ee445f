-- name: lock_definitions
-- Lets one change of definitions happen at a time, until commit.
SELECT pg_advisory_xact_lock(hashtext('provision_manager.definition'));

-- name: list_activity_definitions
-- All activity definitions, by type.
SELECT type, description, input_schema, output_schema, timeout_seconds, max_attempts, backoff_seconds,
       backoff_limit_seconds
  FROM provision_manager.activity_definition
 ORDER BY type;

-- name: put_activity_definition
-- Adds an activity definition, or replaces the one of its type.
INSERT INTO provision_manager.activity_definition
  (type, description, input_schema, output_schema, timeout_seconds, max_attempts, backoff_seconds, backoff_limit_seconds)
VALUES (:type, :description, :input_schema::jsonb, :output_schema::jsonb, :timeout::double precision,
        :max_attempts::integer, :backoff::double precision, :backoff_limit::double precision)
ON CONFLICT (type) DO UPDATE
   SET description = excluded.description, input_schema = excluded.input_schema,
       output_schema = excluded.output_schema, timeout_seconds = excluded.timeout_seconds,
       max_attempts = excluded.max_attempts, backoff_seconds = excluded.backoff_seconds,
       backoff_limit_seconds = excluded.backoff_limit_seconds;

-- name: delete_activity_definition
-- Gives the type if there was a definition of it.
DELETE FROM provision_manager.activity_definition WHERE type = :type RETURNING type;

-- name: list_users
-- The orchestration types whose definition uses an activity type.
SELECT DISTINCT d.type
  FROM provision_manager.definition d
  JOIN provision_manager.def_node n ON n.def_id = d.id
 WHERE n.type = :type AND d.is_current;

-- name: list_orchestration_definitions
-- The definitions in force, by orchestration type.
SELECT type, template_ref, description, schema, activities
  FROM provision_manager.definition
 WHERE is_current
 ORDER BY type;

-- name: list_of_template
-- The definitions in force that one template has made, by orchestration type.
SELECT type, template_ref, description, schema, activities
  FROM provision_manager.definition
 WHERE is_current AND template_ref = :template_ref
 ORDER BY type;

-- name: retire_definition
-- Takes the definition of one orchestration type out of force.
UPDATE provision_manager.definition SET is_current = false WHERE type = :type AND is_current;

-- name: add_definition
-- Puts a new version of an orchestration type in force, with its nodes and edges.
WITH made AS (
  INSERT INTO provision_manager.definition (type, version, template_ref, description, schema, activities, n_nodes)
  SELECT :type, coalesce(max(version), 0) + 1, :template_ref, :description, :schema::jsonb, :activities::jsonb,
         jsonb_array_length(:activities::jsonb)
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

-- name: is_template_busy
-- Whether an orchestration that was started from the template, at whatever time, has not ended.
SELECT EXISTS (
         SELECT
           FROM provision_manager.activity a
           JOIN provision_manager.orchestration o ON o.id = a.orch_id
           JOIN provision_manager.definition d ON d.id = o.def_id
          WHERE a.due_at IS NOT NULL AND d.template_ref = :template_ref)
    OR EXISTS (
         SELECT
           FROM provision_manager.orchestration o
           JOIN provision_manager.definition d ON d.id = o.def_id
          WHERE o.resend_at IS NOT NULL AND d.template_ref = :template_ref);

-- name: retire_template
-- Takes the definitions of a template out of force; those that runs have begun with stay. Gives their types.
UPDATE provision_manager.definition
   SET is_current = false
 WHERE template_ref = :template_ref AND is_current
RETURNING type;
