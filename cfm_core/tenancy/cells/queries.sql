-- name: insert
-- Gives the new cell's JSON.
INSERT INTO tenant_manager.cells AS c (id, external_id, state, state_at, properties)
VALUES (:id::uuid, :external_id, :state, :state_at::timestamptz, :properties::jsonb)
RETURNING tenant_manager.cell_json(c);

-- name: find
-- One cell's JSON, 0 or 1 row.
SELECT tenant_manager.cell_json(c) FROM tenant_manager.cells c WHERE c.id = :id::uuid;

-- name: all
-- Every cell, as an array.
SELECT '[' || coalesce(string_agg(tenant_manager.cell_json(c), ',' ORDER BY c.id), '') || ']'
  FROM tenant_manager.cells c;

-- name: lock
-- Holds a cell against whoever deploys to it. Gives 0 or 1 row.
SELECT id FROM tenant_manager.cells WHERE id = :id::uuid FOR UPDATE;

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
