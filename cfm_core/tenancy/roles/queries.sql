-- name: insert
-- Gives the new role's version and JSON; no row where its id is taken.
INSERT INTO tenant_manager.roles AS r (id, name, description, rights, properties)
VALUES (:id::uuid, :name, :description, :rights::jsonb, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING r.version, tenant_manager.role_json(r);

-- name: find
-- One role's version and JSON, 0 or 1 row.
SELECT r.version, tenant_manager.role_json(r) FROM tenant_manager.roles r WHERE r.id = :id::uuid;

-- name: lock
-- One role, held until the commit against whoever changes it. Gives 0 or 1 row.
SELECT name, description, rights::text, properties::text, version
  FROM tenant_manager.roles
 WHERE id = :id::uuid
   FOR NO KEY UPDATE;

-- name: replace
-- Writes a role that is held. Gives its version and JSON.
UPDATE tenant_manager.roles r
   SET name = :name, description = :description, rights = :rights::jsonb, properties = :properties::jsonb,
       version = version + 1
 WHERE r.id = :id::uuid
RETURNING r.version, tenant_manager.role_json(r);

-- name: delete
-- Deletes a role that nobody has, in one of the expected versions; a trigger refuses any other. Gives its id, 0 or 1 row.
DELETE FROM tenant_manager.roles
 WHERE id = :id::uuid AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;
