-- name: insert
-- Gives the new profile's version and JSON; no row where its id is taken.
INSERT INTO tenant_manager.dataspace_profiles AS d (id, spec, artifacts, properties)
VALUES (:id::uuid, :spec::json, :artifacts::json, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING d.version, tenant_manager.dataspace_profile_json(d);

-- name: find
-- One profile's version and JSON, 0 or 1 row.
SELECT d.version, tenant_manager.dataspace_profile_json(d) FROM tenant_manager.dataspace_profiles d WHERE d.id = :id::uuid;

-- name: lock
-- The version of one profile, held until the commit against whoever changes it. Gives 0 or 1 row.
SELECT version FROM tenant_manager.dataspace_profiles WHERE id = :id::uuid FOR NO KEY UPDATE;

-- name: replace
-- Writes a profile that is held; its deployments stay. Gives its version and JSON.
UPDATE tenant_manager.dataspace_profiles d
   SET spec = :spec::json, artifacts = :artifacts::json, properties = :properties::jsonb, version = version + 1
 WHERE d.id = :id::uuid
RETURNING d.version, tenant_manager.dataspace_profile_json(d);

-- name: delete
-- Deletes a profile with its deployments, in one of the expected versions; a trigger refuses one that is used.
DELETE FROM tenant_manager.dataspace_profiles
 WHERE id = :id::uuid AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;

-- name: options
-- Whether there is such a profile, and every cell as an array of id, external id and state.
SELECT EXISTS (SELECT FROM tenant_manager.dataspace_profiles WHERE id = :id::uuid),
       (SELECT coalesce(json_agg(json_build_array(id, external_id, state) ORDER BY id), '[]')::text
          FROM tenant_manager.cells);

-- name: deploy
-- Records a deployment of a profile that is held, unless there is one. Gives whether the active cell was still there.
WITH cell AS (
  SELECT id FROM tenant_manager.cells WHERE id = :cell_id::uuid AND state = 'active' FOR KEY SHARE
), deployed AS (
  INSERT INTO tenant_manager.dataspace_deployments (id, dataspace_profile_id, cell_id)
  SELECT :deployment_id::uuid, :id::uuid, cell.id FROM cell
  ON CONFLICT DO NOTHING
  RETURNING dataspace_profile_id
), changed AS (
  UPDATE tenant_manager.dataspace_profiles
     SET version = version + 1
   WHERE id IN (SELECT dataspace_profile_id FROM deployed)
)
SELECT EXISTS (SELECT FROM cell);

-- name: undeploy
-- Deletes a deployment of a profile that is held; a trigger refuses one that is used. Gives 0 or 1 row.
WITH undeployed AS (
  DELETE FROM tenant_manager.dataspace_deployments
   WHERE id = :deployment_id::uuid AND dataspace_profile_id = :id::uuid
  RETURNING dataspace_profile_id
)
UPDATE tenant_manager.dataspace_profiles
   SET version = version + 1
 WHERE id IN (SELECT dataspace_profile_id FROM undeployed)
RETURNING id;
