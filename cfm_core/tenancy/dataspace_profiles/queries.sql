-- name: insert
-- Gives the new profile's version and JSON.
INSERT INTO tenant_manager.dataspace_profiles AS d (id, spec, artifacts, properties)
VALUES (:id::uuid, :spec::json, :artifacts::json, :properties::jsonb)
RETURNING d.version, tenant_manager.dataspace_profile_json(d);

-- name: find
-- One profile's version and JSON, 0 or 1 row.
SELECT d.version, tenant_manager.dataspace_profile_json(d) FROM tenant_manager.dataspace_profiles d WHERE d.id = :id::uuid;

-- name: lock
-- Holds a profile against whoever deploys a participant to it. Gives 0 or 1 row.
SELECT id FROM tenant_manager.dataspace_profiles WHERE id = :id::uuid FOR UPDATE;

-- name: users
-- Some of the participant profiles that use a dataspace profile: kind and id.
SELECT 'participantProfile', id::text
  FROM tenant_manager.participant_profiles
 WHERE dataspace_profile_ids @> jsonb_build_array(:id::uuid)
   AND state <> 'disposed'
 LIMIT 10;

-- name: delete
-- Deletes a profile with its deployments.
DELETE FROM tenant_manager.dataspace_profiles WHERE id = :id::uuid;

-- name: options
-- Whether there is such a profile, and every cell as an array of id, external id and state.
SELECT EXISTS (SELECT FROM tenant_manager.dataspace_profiles WHERE id = :id::uuid),
       (SELECT coalesce(json_agg(json_build_array(id, external_id, state) ORDER BY id), '[]')::text
          FROM tenant_manager.cells);

-- name: deploy
-- Records a deployment unless there is one. Gives whether profile and active cell were still there.
WITH profile AS (
  SELECT id FROM tenant_manager.dataspace_profiles WHERE id = :id::uuid FOR NO KEY UPDATE
), cell AS (
  SELECT id FROM tenant_manager.cells WHERE id = :cell_id::uuid AND state = 'active' FOR KEY SHARE
), deployed AS (
  INSERT INTO tenant_manager.dataspace_deployments (id, dataspace_profile_id, cell_id)
  SELECT :deployment_id::uuid, profile.id, cell.id FROM profile, cell
  ON CONFLICT DO NOTHING
  RETURNING dataspace_profile_id
), changed AS (
  UPDATE tenant_manager.dataspace_profiles
     SET version = version + 1
   WHERE id IN (SELECT dataspace_profile_id FROM deployed)
)
SELECT EXISTS (SELECT FROM profile) AND EXISTS (SELECT FROM cell);
