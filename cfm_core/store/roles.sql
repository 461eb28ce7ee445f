-- What each role may do in a database whose migrations have been applied; run by the owner of all of it, each time anew.
-- <<tenant_manager>> and the like are the roles of this database.

-- Nobody has anything that is not given below.
REVOKE ALL ON SCHEMA eventing, tenant_manager, provision_manager, query, http, access, audit
  FROM PUBLIC, <<tenant_manager>>, <<provision_manager>>, <<trigger>>, <<tenant_manager_trigger>>, <<provision_manager_trigger>>;
REVOKE ALL ON ALL TABLES IN SCHEMA eventing, tenant_manager, provision_manager, http, audit
  FROM PUBLIC, <<tenant_manager>>, <<provision_manager>>, <<trigger>>, <<tenant_manager_trigger>>, <<provision_manager_trigger>>;

-- Each manager: its own schema, and what both share.
GRANT USAGE ON SCHEMA tenant_manager, eventing, query, http TO <<tenant_manager>>;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tenant_manager TO <<tenant_manager>>;
GRANT SELECT, INSERT, DELETE ON eventing.feed TO <<tenant_manager>>;

GRANT USAGE ON SCHEMA provision_manager, eventing, query, http TO <<provision_manager>>;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA provision_manager TO <<provision_manager>>;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA provision_manager TO <<provision_manager>>;
-- Only ever added to; of history, reasons are erased with the person that they tell of.
REVOKE UPDATE, DELETE ON provision_manager.history FROM <<provision_manager>>;
-- Nor by way of a partition.
DO $$
DECLARE
  part text;
BEGIN
  FOR part IN SELECT format('%I.%I', n.nspname, c.relname)
                FROM pg_inherits i
                JOIN pg_class c ON c.oid = i.inhrelid
                JOIN pg_namespace n ON n.oid = c.relnamespace
                JOIN pg_class h ON h.oid = i.inhparent AND h.relname = 'history'
                JOIN pg_namespace hn ON hn.oid = h.relnamespace AND hn.nspname = 'provision_manager'
  LOOP
    EXECUTE 'REVOKE UPDATE, DELETE ON ' || part || ' FROM ' || quote_ident(current_database() || '_provision_manager');
  END LOOP;
END
$$;
GRANT UPDATE (reason) ON provision_manager.history TO <<provision_manager>>;

-- The outbox: managers add to it, triggers take from it, each its own rows.
GRANT INSERT (subject, events, claimable_at), SELECT ON eventing.outbox TO <<tenant_manager>>, <<provision_manager>>;
GRANT USAGE ON SCHEMA eventing TO <<trigger>>, <<tenant_manager_trigger>>, <<provision_manager_trigger>>;
GRANT SELECT, UPDATE (claimable_at), DELETE ON eventing.outbox
  TO <<trigger>>, <<tenant_manager_trigger>>, <<provision_manager_trigger>>;

ALTER TABLE eventing.outbox ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_tenant_manager ON eventing.outbox;
CREATE POLICY of_tenant_manager ON eventing.outbox TO <<tenant_manager>>, <<tenant_manager_trigger>>
  USING (subject IN (<<tenant_manager_announces>>));
DROP POLICY IF EXISTS added_by_provision_manager ON eventing.outbox;
-- It repeats what others have announced, too, where an operator replays it.
CREATE POLICY added_by_provision_manager ON eventing.outbox TO <<provision_manager>> USING (true);
DROP POLICY IF EXISTS of_provision_manager ON eventing.outbox;
CREATE POLICY of_provision_manager ON eventing.outbox TO <<provision_manager_trigger>>
  USING (subject NOT IN (<<tenant_manager_announces>>));
DROP POLICY IF EXISTS of_all ON eventing.outbox;
CREATE POLICY of_all ON eventing.outbox TO <<trigger>> USING (true);

-- Rights of users and roles: both managers ask what somebody may do, by a function that reads them as its owner.
GRANT USAGE ON SCHEMA access TO <<tenant_manager>>, <<provision_manager>>;

-- Kept answers: each manager's are its own.
GRANT SELECT, INSERT, UPDATE, DELETE ON http.idempotent_answers TO <<tenant_manager>>, <<provision_manager>>;
ALTER TABLE http.idempotent_answers ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own ON http.idempotent_answers;
CREATE POLICY own ON http.idempotent_answers TO <<tenant_manager>>, <<provision_manager>> USING (owner = current_user);

-- The audit trail: what writes it runs with the rights of its owner. The Tenant Manager's role writes there by changing its
-- entities, and in no other way. The Provision Manager's notes what is done to its own besides; it tells all of the trail over the API,
-- and erases what is told of persons there. Who maintains the database seals it.
GRANT USAGE ON SCHEMA audit TO <<provision_manager>>;
GRANT SELECT ON audit.trail TO <<provision_manager>>;
REVOKE ALL ON FUNCTION provision_manager.note, audit.erase, audit.seal_waiting FROM PUBLIC;
-- Triggers run whoever changes the row. Nobody makes others of these functions, for a table of their own.
REVOKE ALL ON FUNCTION
  tenant_manager.audit_tenants, tenant_manager.audit_cells, tenant_manager.audit_dataspace_profiles,
  tenant_manager.audit_dataspace_deployments, tenant_manager.audit_participant_profiles, tenant_manager.audit_roles,
  tenant_manager.audit_users, tenant_manager.audit_query_indexes, provision_manager.audit_activity_definitions,
  provision_manager.audit_definitions, provision_manager.audit_starts, provision_manager.audit_delayed_starts
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION provision_manager.note, audit.erase TO <<provision_manager>>;
