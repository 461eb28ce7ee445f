-- name: hold_roles
-- Those of the given roles that are there, held until the commit, with their rights.
SELECT id::text, rights::text FROM tenant_manager.roles WHERE id = ANY(:ids::uuid[]) ORDER BY id FOR KEY SHARE;

-- name: insert
-- Gives the new user's version and JSON; no row where its id is taken.
INSERT INTO tenant_manager.users AS u (id, subject, issuer, name, role_ids, rights, properties)
VALUES (:id::uuid, :subject, :issuer, :name, :role_ids::jsonb, :rights::jsonb, :properties::jsonb)
ON CONFLICT (id) DO NOTHING
RETURNING u.version, tenant_manager.user_json(u);

-- name: find
-- One user's version and JSON, 0 or 1 row.
SELECT u.version, tenant_manager.user_json(u) FROM tenant_manager.users u WHERE u.id = :id::uuid;

-- name: lock
-- One user, held until the commit. Gives 0 or 1 row.
SELECT subject, issuer, name, role_ids::text, rights::text, properties::text, version
  FROM tenant_manager.users
 WHERE id = :id::uuid
   FOR NO KEY UPDATE;

-- name: replace
-- Writes a user that is held. Gives its version and JSON.
UPDATE tenant_manager.users u
   SET subject = :subject, issuer = :issuer, name = :name, role_ids = :role_ids::jsonb, rights = :rights::jsonb,
       properties = :properties::jsonb, version = version + 1
 WHERE u.id = :id::uuid
RETURNING u.version, tenant_manager.user_json(u);

-- name: delete
-- Deletes a user in one of the expected versions, and withdraws its roles. Gives its id, 0 or 1 row.
DELETE FROM tenant_manager.users
 WHERE id = :id::uuid AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;
