-- name: lock
-- Lets one declaration happen at a time, until the commit.
SELECT pg_advisory_xact_lock(hashtext('tenant_manager.query_indexes'));

-- name: count
SELECT count(*) FROM tenant_manager.query_indexes;

-- name: find_declared
-- The index that a path has, begun anew if it has failed or is being dropped. Gives 0 or 1 row: id, version, JSON.
UPDATE tenant_manager.query_indexes q
   SET state = CASE WHEN q.state = 'ready' THEN 'ready' ELSE 'building' END,
       reason = '',
       version = q.version + (q.state IN ('failed', 'dropping'))::integer
 WHERE q.entity = :entity AND q.keys = :keys::text[] AND q.kind = :kind
RETURNING q.id::text, q.version, tenant_manager.query_index_json(q);

-- name: insert
-- Gives the new index's version and JSON.
INSERT INTO tenant_manager.query_indexes AS q (id, entity, path, keys, kind)
VALUES (:id::uuid, :entity, :path, :keys::text[], :kind)
RETURNING q.version, tenant_manager.query_index_json(q);

-- name: find
-- One index's version and JSON, 0 or 1 row.
SELECT q.version, tenant_manager.query_index_json(q) FROM tenant_manager.query_indexes q WHERE q.id = :id::uuid;

-- name: drop
-- Has an index dropped that is in one of the expected versions. Gives its id.
UPDATE tenant_manager.query_indexes
   SET state = 'dropping', version = version + (state <> 'dropping')::integer
 WHERE id = :id::uuid AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;

-- name: ready
-- The paths of one entity that queries may count on: their keys and kinds.
SELECT keys, kind FROM tenant_manager.query_indexes WHERE entity = :entity AND state = 'ready';

-- name: open
-- Whether there is something to build or to drop.
SELECT EXISTS (SELECT FROM tenant_manager.query_indexes WHERE state IN ('building', 'dropping'));

-- name: next
-- What is to be built or dropped first: id, version, entity, keys, kind, state; 0 or 1 row.
SELECT id::text, version, entity, keys, kind, state
  FROM tenant_manager.query_indexes
 WHERE state IN ('building', 'dropping')
 ORDER BY created_at, id
 LIMIT 1;

-- name: is_valid
-- Whether an index is whole; no row where there is none of this name.
SELECT i.indisvalid
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
 WHERE c.relname = :name AND c.relnamespace = 'tenant_manager'::regnamespace;

-- name: built
-- Tells how building an index has ended, unless somebody wanted it dropped meanwhile.
UPDATE tenant_manager.query_indexes
   SET state = :state, reason = :reason, version = version + 1
 WHERE id = :id::uuid AND state = 'building';

-- name: dropped
-- Forgets an index that is gone, unless somebody wanted it back meanwhile.
DELETE FROM tenant_manager.query_indexes WHERE id = :id::uuid AND state = 'dropping';
