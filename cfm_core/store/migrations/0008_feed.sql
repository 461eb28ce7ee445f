-- What has happened to the Tenant Manager's entities, for whoever wants to follow. Triggers write it in the transaction of
-- the change. It tells ids, versions and states: nothing that callers have written freely, and nothing secret.
CREATE TABLE eventing.feed (
  xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
  serial    bigint GENERATED ALWAYS AS IDENTITY,
  kind      text COLLATE "C" NOT NULL,            -- of the entity, and the first part of the event's subject
  entity_id uuid NOT NULL,                        -- its second part
  type      text NOT NULL,
  data      json NOT NULL,
  at        timestamptz NOT NULL DEFAULT now(),
  -- The order of the feed. Numbers of transactions are given before the changes that they number, and commits come in any
  -- order; so readers get what has a lower number than every transaction that is still running, and nothing comes before
  -- what they have got.
  PRIMARY KEY (xid, serial)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX feed_kind ON eventing.feed (kind, xid, serial);
CREATE INDEX feed_entity ON eventing.feed (entity_id, xid, serial);

-- A place in the feed as a text of one length, so that texts are in the order of places.
CREATE FUNCTION eventing.place(xid xid8, serial bigint) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN lpad(to_hex(xid::text::bigint), 16, '0') || lpad(to_hex(serial), 16, '0');

CREATE FUNCTION eventing.event_json(f eventing.feed, source text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"specversion":"1.0","id":"' || eventing.place(f.xid, f.serial) || '","source":"' || source
    || '","type":"' || f.type || '","subject":"' || f.kind || '/' || f.entity_id
    || '","time":"' || tenant_manager.instant(f.at) || '","datacontenttype":"application/json","sequence":"'
    || eventing.place(f.xid, f.serial) || '","data":' || f.data::text || '}';

-- Each takes the kind and the type of the events as arguments, and the rows that a statement has written as ``written``.

CREATE FUNCTION tenant_manager.feed_entities() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO eventing.feed (kind, entity_id, type, data)
  SELECT TG_ARGV[0], id, TG_ARGV[1], ('{"id":"' || id || '","version":' || version || '}')::json
    FROM written;
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.feed_cells() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO eventing.feed (kind, entity_id, type, data)
  SELECT TG_ARGV[0], id, TG_ARGV[1],
         ('{"id":"' || id || '","version":' || version || ',"state":"' || state || '"}')::json
    FROM written;
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.feed_dataspace_profiles() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO eventing.feed (kind, entity_id, type, data)
  SELECT TG_ARGV[0], id, TG_ARGV[1],
         ('{"id":"' || id || '","version":' || version || ',"cellIds":' || to_json(ARRAY(
           SELECT cell_id FROM tenant_manager.dataspace_deployments WHERE dataspace_profile_id = written.id ORDER BY cell_id))
         || '}')::json
    FROM written;
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.participant_profile_event(p tenant_manager.participant_profiles) RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ('{"id":"' || p.id || '","version":' || p.version || ',"tenantId":"' || p.tenant_id || '","state":"' || p.state
    || '","manifestId":' || to_json(p.manifest_id)::text || '}')::json;

CREATE FUNCTION tenant_manager.feed_participant_profiles() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO eventing.feed (kind, entity_id, type, data)
  SELECT TG_ARGV[0], p.id, TG_ARGV[1], tenant_manager.participant_profile_event(p)
    FROM written p;
  RETURN NULL;
END
$$;

-- A manifest that is only sent again changes nothing that the API shows.
CREATE FUNCTION tenant_manager.feed_participant_profile_changes() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO eventing.feed (kind, entity_id, type, data)
  SELECT TG_ARGV[0], p.id, TG_ARGV[1], tenant_manager.participant_profile_event(p)
    FROM written p
    JOIN before b ON b.id = p.id
   WHERE b.version <> p.version;
  RETURN NULL;
END
$$;

CREATE TRIGGER tenants_created AFTER INSERT ON tenant_manager.tenants REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('tenants', 'cfm.tenant.created');
CREATE TRIGGER tenants_changed AFTER UPDATE ON tenant_manager.tenants REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('tenants', 'cfm.tenant.changed');
CREATE TRIGGER tenants_deleted AFTER DELETE ON tenant_manager.tenants REFERENCING OLD TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('tenants', 'cfm.tenant.deleted');

CREATE TRIGGER cells_created AFTER INSERT ON tenant_manager.cells REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_cells('cells', 'cfm.cell.created');
CREATE TRIGGER cells_changed AFTER UPDATE ON tenant_manager.cells REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_cells('cells', 'cfm.cell.changed');
CREATE TRIGGER cells_deleted AFTER DELETE ON tenant_manager.cells REFERENCING OLD TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_cells('cells', 'cfm.cell.deleted');

CREATE TRIGGER dataspace_profiles_created AFTER INSERT ON tenant_manager.dataspace_profiles
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
EXECUTE FUNCTION tenant_manager.feed_dataspace_profiles('dataspace-profiles', 'cfm.dataspace-profile.created');
CREATE TRIGGER dataspace_profiles_changed AFTER UPDATE ON tenant_manager.dataspace_profiles
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
EXECUTE FUNCTION tenant_manager.feed_dataspace_profiles('dataspace-profiles', 'cfm.dataspace-profile.changed');
CREATE TRIGGER dataspace_profiles_deleted AFTER DELETE ON tenant_manager.dataspace_profiles
REFERENCING OLD TABLE AS written FOR EACH STATEMENT
EXECUTE FUNCTION tenant_manager.feed_dataspace_profiles('dataspace-profiles', 'cfm.dataspace-profile.deleted');

CREATE TRIGGER participant_profiles_created AFTER INSERT ON tenant_manager.participant_profiles
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
EXECUTE FUNCTION tenant_manager.feed_participant_profiles('participant-profiles', 'cfm.participant-profile.created');
CREATE TRIGGER participant_profiles_changed AFTER UPDATE ON tenant_manager.participant_profiles
REFERENCING OLD TABLE AS before NEW TABLE AS written FOR EACH STATEMENT
EXECUTE FUNCTION tenant_manager.feed_participant_profile_changes('participant-profiles', 'cfm.participant-profile.changed');
CREATE TRIGGER participant_profiles_deleted AFTER DELETE ON tenant_manager.participant_profiles
REFERENCING OLD TABLE AS written FOR EACH STATEMENT
EXECUTE FUNCTION tenant_manager.feed_participant_profiles('participant-profiles', 'cfm.participant-profile.deleted');

CREATE TRIGGER roles_created AFTER INSERT ON tenant_manager.roles REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('roles', 'cfm.role.created');
CREATE TRIGGER roles_changed AFTER UPDATE ON tenant_manager.roles REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('roles', 'cfm.role.changed');
CREATE TRIGGER roles_deleted AFTER DELETE ON tenant_manager.roles REFERENCING OLD TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('roles', 'cfm.role.deleted');

CREATE TRIGGER users_created AFTER INSERT ON tenant_manager.users REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('users', 'cfm.user.created');
CREATE TRIGGER users_changed AFTER UPDATE ON tenant_manager.users REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('users', 'cfm.user.changed');
CREATE TRIGGER users_deleted AFTER DELETE ON tenant_manager.users REFERENCING OLD TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.feed_entities('users', 'cfm.user.deleted');
