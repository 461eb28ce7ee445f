-- name: insert
-- Gives the new cell's version and JSON; no row where its id is taken.
INSERT INTO tenant_manager.cells AS c (id, external_id, state, state_at, properties)
VALUES (:id::uuid, :external_id, :state, :state_at::timestamptz, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING c.version, tenant_manager.cell_json(c);

-- name: find
-- One cell's version and JSON, 0 or 1 row.
SELECT c.version, tenant_manager.cell_json(c) FROM tenant_manager.cells c WHERE c.id = :id::uuid;

-- name: lock
-- One cell, held until the commit against whoever deploys to it. Gives 0 or 1 row.
SELECT id::text, external_id, state, state_at, properties, version
  FROM tenant_manager.cells
 WHERE id = :id::uuid
   FOR UPDATE;

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

-- name: users
-- Some of what is deployed to a cell: kind and id.
(SELECT 'dataspaceProfile', dataspace_profile_id::text
   FROM tenant_manager.dataspace_deployments
  WHERE cell_id = :id::uuid
  LIMIT 10)
UNION ALL
(SELECT 'participantProfile', id::text
   FROM tenant_manager.participant_profiles
  WHERE vpas @> jsonb_build_array(jsonb_build_object('cellId', :id::uuid))
    AND state <> 'disposed'
  LIMIT 10);

-- name: delete
DELETE FROM tenant_manager.cells WHERE id = :id::uuid;
