-- name: insert
-- Gives the new tenant's JSON.
INSERT INTO tenant_manager.tenants AS t (id, properties)
VALUES (:id::uuid, :properties::jsonb)
RETURNING tenant_manager.tenant_json(t);

-- name: find
-- One tenant's JSON, 0 or 1 row.
SELECT tenant_manager.tenant_json(t) FROM tenant_manager.tenants t WHERE t.id = :id::uuid;

-- name: select
-- How many tenants there are, and one page of them as an array.
SELECT (SELECT count(*) FROM tenant_manager.tenants t WHERE <<condition>>),
       (SELECT '[' || coalesce(string_agg(tenant_manager.tenant_json(page.t), ',' ORDER BY page.id), '') || ']'
          FROM (SELECT t.id, t
                  FROM tenant_manager.tenants t
                 WHERE <<condition>>
                 ORDER BY t.id
                 LIMIT :page_limit OFFSET :page_offset) page);

-- name: change
-- Sets properties, then removes some, in one step, so that two changes at once both last. Gives the tenant's JSON.
UPDATE tenant_manager.tenants t
   SET properties = (properties || :properties::jsonb) - ARRAY(SELECT jsonb_array_elements_text(:removed::jsonb)),
       version = version + 1
 WHERE t.id = :id::uuid
RETURNING tenant_manager.tenant_json(t);

-- name: delete
-- Deletes a tenant without participant profiles; a foreign key refuses any other.
DELETE FROM tenant_manager.tenants WHERE id = :id::uuid RETURNING id;
