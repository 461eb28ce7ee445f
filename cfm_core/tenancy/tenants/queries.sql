-- name: insert
-- Gives the new tenant's version and JSON.
INSERT INTO tenant_manager.tenants AS t (id, properties)
VALUES (:id::uuid, :properties::jsonb)
RETURNING t.version, tenant_manager.tenant_json(t);

-- name: find
-- One tenant's version and JSON, 0 or 1 row.
SELECT t.version, tenant_manager.tenant_json(t) FROM tenant_manager.tenants t WHERE t.id = :id::uuid AND <<within>>;

-- name: change
-- Sets properties, then removes some, in one step, so that two changes at once both last. Gives the tenant's version and
-- JSON; no row where it is not there or not in one of the expected versions.
UPDATE tenant_manager.tenants t
   SET properties = (properties || :properties::jsonb) - ARRAY(SELECT jsonb_array_elements_text(:removed::jsonb)),
       version = version + 1
 WHERE t.id = :id::uuid AND <<within>>
   AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING t.version, tenant_manager.tenant_json(t);

-- name: delete
-- Deletes a tenant without participant profiles, in one of the expected versions; a foreign key refuses any other.
DELETE FROM tenant_manager.tenants t
 WHERE id = :id::uuid AND <<within>> AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id;
