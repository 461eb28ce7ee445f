-- name: insert
-- Gives the new profile's version and JSON; no row where its id is taken.
INSERT INTO tenant_manager.dataspace_profiles AS d (id, spec, artifacts, properties)
VALUES (:id::uuid, :spec::json, :artifacts::json, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING d.version, tenant_manager.dataspace_profile_json(d);

-- name: find
-- One profile's version and JSON, 0 or 1 row.
SELECT t.version, tenant_manager.dataspace_profile_json(t)
  FROM tenant_manager.dataspace_profiles t
 WHERE t.id = :id::uuid AND <<within>>;

-- name: lock
-- The version of one profile, held until the commit against whoever changes it. Gives 0 or 1 row.
SELECT version FROM tenant_manager.dataspace_profiles t WHERE id = :id::uuid AND <<within>> FOR NO KEY UPDATE;

-- name: replace
-- Writes a profile that is held; its deployments stay. Gives its version and JSON.
UPDATE tenant_manager.dataspace_profiles d
   SET spec = :spec::json, artifacts = :artifacts::json, properties = :properties::jsonb, version = version + 1
 WHERE d.id = :id::uuid
RETURNING d.version, tenant_manager.dataspace_profile_json(d);

-- name: delete
-- Deletes a profile with its deployments, in one of the expected versions; a trigger refuses one that is used.
DELETE FROM tenant_manager.dataspace_profiles t
 WHERE id = :id::uuid AND <<within>> AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;

-- name: options
-- Whether there is such a profile, and every cell as an array of id, external id and state.
SELECT EXISTS (SELECT FROM tenant_manager.dataspace_profiles t WHERE t.id = :id::uuid AND <<within>>),
       (SELECT coalesce(json_agg(json_build_array(id, external_id, state) ORDER BY id), '[]')::text
          FROM tenant_manager.cells);

-- name: deploy
-- Records deployments of a profile that is held, where there are none. Gives whether all the active cells were still there;
-- if not, nothing is recorded.
WITH cell AS (
  SELECT c.id, wanted.deployment_id
    FROM unnest(:cell_ids::uuid[], :deployment_ids::uuid[]) AS wanted (cell_id, deployment_id)
    JOIN tenant_manager.cells c ON c.id = wanted.cell_id
   WHERE c.state = 'active'
   ORDER BY c.id
     FOR KEY SHARE OF c
), deployed AS (
  INSERT INTO tenant_manager.dataspace_deployments (id, dataspace_profile_id, cell_id)
  SELECT cell.deployment_id, :id::uuid, cell.id
    FROM cell
   WHERE (SELECT count(*) FROM cell) = cardinality(:cell_ids::uuid[])
  ON CONFLICT DO NOTHING
  RETURNING dataspace_profile_id
), changed AS (
  UPDATE tenant_manager.dataspace_profiles
     SET version = version + 1
   WHERE id IN (SELECT dataspace_profile_id FROM deployed)
)
SELECT (SELECT count(*) FROM cell) = cardinality(:cell_ids::uuid[]);

-- name: undeploy
-- Deletes a deployment of a profile that is held; a trigger refuses one that is used. Gives 0 or 1 row.
WITH undeployed AS (
  DELETE FROM tenant_manager.dataspace_deployments
   WHERE id = :deployment_id::uuid AND dataspace_profile_id = :id::uuid
     AND (:within_cells::uuid[] IS NULL OR cell_id = ANY (:within_cells::uuid[]))
  RETURNING dataspace_profile_id
)
UPDATE tenant_manager.dataspace_profiles
   SET version = version + 1
 WHERE id IN (SELECT dataspace_profile_id FROM undeployed)
RETURNING id;

-- name: deployed_within
-- The condition that a profile is deployed, and to nothing but these cells.
(EXISTS (SELECT FROM tenant_manager.dataspace_deployments p WHERE p.dataspace_profile_id = t.id)
 AND NOT EXISTS (SELECT FROM tenant_manager.dataspace_deployments p
                  WHERE p.dataspace_profile_id = t.id AND p.cell_id <> ALL (:within_cells::uuid[])))
