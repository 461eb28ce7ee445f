-- name: hold_roles
-- Those of the given roles that are there, held until the commit.
SELECT id::text FROM tenant_manager.roles WHERE id = ANY(:ids::uuid[]) ORDER BY id FOR KEY SHARE;

-- name: insert
-- Keeps a new user, without roles. Gives its id; no row where that is taken.
INSERT INTO tenant_manager.users (id, subject, name, rights, properties)
VALUES (:id::uuid, :subject, :name, :rights::jsonb, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: set_roles
-- Gives a user that is held these roles and no others.
WITH withdrawn AS (
  DELETE FROM tenant_manager.user_roles WHERE user_id = :id::uuid AND role_id <> ALL (:role_ids::uuid[])
)
INSERT INTO tenant_manager.user_roles (user_id, role_id)
SELECT :id::uuid, role_id FROM unnest(:role_ids::uuid[]) AS role_id
ON CONFLICT DO NOTHING;

-- name: find
-- One user's version and JSON, 0 or 1 row.
SELECT u.version, tenant_manager.user_json(u) FROM tenant_manager.users u WHERE u.id = :id::uuid;

-- name: lock
-- One user, held until the commit. Gives 0 or 1 row.
SELECT subject, name, rights::text, properties::text, version
  FROM tenant_manager.users
 WHERE id = :id::uuid
   FOR NO KEY UPDATE;

-- name: roles
-- The roles of a user that is held, asked for once it is: the statement that waited would tell what they were before.
SELECT role_id::text FROM tenant_manager.user_roles WHERE user_id = :id::uuid;

-- name: replace
-- Writes a user that is held.
UPDATE tenant_manager.users
   SET subject = :subject, name = :name, rights = :rights::jsonb, properties = :properties::jsonb, version = version + 1
 WHERE id = :id::uuid;

-- name: delete
-- Deletes a user in one of the expected versions, and withdraws its roles. Gives its id, 0 or 1 row.
DELETE FROM tenant_manager.users
 WHERE id = :id::uuid AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;
