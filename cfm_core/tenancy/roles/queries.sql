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
-- One role, held until the commit against whoever assigns it. Gives 0 or 1 row.
SELECT name, description, rights::text, properties::text, version
  FROM tenant_manager.roles
 WHERE id = :id::uuid
   FOR UPDATE;

-- name: replace
-- Writes a role that is held. Gives its version and JSON.
UPDATE tenant_manager.roles r
   SET name = :name, description = :description, rights = :rights::jsonb, properties = :properties::jsonb,
       version = version + 1
 WHERE r.id = :id::uuid
RETURNING r.version, tenant_manager.role_json(r);

-- name: users
-- Some of the users that have a role.
SELECT user_id::text FROM tenant_manager.user_roles WHERE role_id = :id::uuid ORDER BY user_id LIMIT 10;

-- name: delete
DELETE FROM tenant_manager.roles WHERE id = :id::uuid;
