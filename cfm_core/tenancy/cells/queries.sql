-- name: insert
-- Gives the new cell's version and JSON; no row where its id is taken.
INSERT INTO tenant_manager.cells AS c (id, external_id, state, state_at, properties)
VALUES (:id::uuid, :external_id, :state, :state_at::timestamptz, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING c.version, tenant_manager.cell_json(c);

-- name: find
-- One cell's version and JSON, 0 or 1 row.
SELECT t.version, tenant_manager.cell_json(t) FROM tenant_manager.cells t WHERE t.id = :id::uuid AND <<within>>;

-- name: lock
-- One cell, held until the commit against whoever deploys a participant to it. Gives 0 or 1 row.
SELECT id::text, external_id, state, state_at, properties, version
  FROM tenant_manager.cells t
 WHERE id = :id::uuid AND <<within>>
   FOR NO KEY UPDATE;

-- name: replace
-- Writes a cell that is held, and counts on the dataspace profiles that show its external id. Gives its version and JSON.
WITH shown AS (
  UPDATE tenant_manager.dataspace_profiles d
     SET version = d.version + 1
    FROM tenant_manager.dataspace_deployments p, tenant_manager.cells c
   WHERE p.dataspace_profile_id = d.id AND p.cell_id = c.id AND c.id = :id::uuid AND c.external_id <> :external_id
)
UPDATE tenant_manager.cells c
   SET external_id = :external_id, state = :state, state_at = :state_at::timestamptz, properties = :properties::jsonb,
       version = version + 1
 WHERE c.id = :id::uuid
RETURNING c.version, tenant_manager.cell_json(c);

-- name: delete
-- Deletes a cell that nothing is deployed to, in one of the expected versions; a trigger refuses any other.
DELETE FROM tenant_manager.cells t
 WHERE id = :id::uuid AND <<within>> AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;
