-- Who may do what: users, roles and rights. Rights are values: they name what they are bounded to and may outlive it.
CREATE TABLE tenant_manager.roles (
  id          uuid PRIMARY KEY,
  version     integer NOT NULL DEFAULT 0,
  name        text NOT NULL CONSTRAINT roles_name_key UNIQUE CHECK (name <> ''),
  description text NOT NULL DEFAULT '',
  rights      jsonb NOT NULL CHECK (jsonb_typeof(rights) = 'array'), -- an array of objects
  properties  jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object')
);

CREATE INDEX roles_json ON tenant_manager.roles USING gin (rights jsonb_path_ops, properties jsonb_path_ops)
  WITH (fastupdate = off);

CREATE TABLE tenant_manager.users (
  id         uuid PRIMARY KEY,
  version    integer NOT NULL DEFAULT 0,          -- rises also when roles are assigned or withdrawn
  subject    text NOT NULL CONSTRAINT users_subject_key UNIQUE CHECK (subject <> ''), -- what tokens call the user
  name       text NOT NULL DEFAULT '',
  role_ids   jsonb NOT NULL CHECK (jsonb_typeof(role_ids) = 'array'), -- an array of their ids
  rights     jsonb NOT NULL CHECK (jsonb_typeof(rights) = 'array'), -- besides those of the roles
  properties jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object')
);

CREATE INDEX users_json ON tenant_manager.users
  USING gin (role_ids jsonb_path_ops, rights jsonb_path_ops, properties jsonb_path_ops) WITH (fastupdate = off);

-- The roles of users as rows that foreign keys keep; only the trigger below writes them. A user takes its roles along when
-- it goes; a role that somebody has cannot go.
CREATE TABLE tenant_manager.user_roles (
  user_id uuid NOT NULL REFERENCES tenant_manager.users ON DELETE CASCADE,
  role_id uuid NOT NULL REFERENCES tenant_manager.roles,
  PRIMARY KEY (user_id, role_id)
);

CREATE INDEX user_roles_role ON tenant_manager.user_roles (role_id, user_id);

CREATE FUNCTION tenant_manager.keep_user_roles() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF OLD.role_ids IS DISTINCT FROM NEW.role_ids THEN
    DELETE FROM tenant_manager.user_roles WHERE user_id = NEW.id AND NOT NEW.role_ids ? role_id::text;
    INSERT INTO tenant_manager.user_roles (user_id, role_id)
    SELECT NEW.id, role_id::uuid FROM jsonb_array_elements_text(NEW.role_ids) AS role_id
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER users_roles AFTER INSERT OR UPDATE OF role_ids ON tenant_manager.users
FOR EACH ROW EXECUTE FUNCTION tenant_manager.keep_user_roles();

CREATE FUNCTION tenant_manager.check_role_users() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM tenant_manager.refuse_if_used('roles_in_use', 'role ' || OLD.id, (
    SELECT coalesce(jsonb_agg(jsonb_build_array('user', user_id)), '[]')
      FROM (SELECT user_id FROM tenant_manager.user_roles WHERE role_id = OLD.id ORDER BY user_id LIMIT 10) AS having_it));
  RETURN OLD;
END
$$;

CREATE TRIGGER roles_in_use BEFORE DELETE ON tenant_manager.roles
FOR EACH ROW EXECUTE FUNCTION tenant_manager.check_role_users();

-- ',"name":"value"' for a text, and nothing for an empty one.
CREATE FUNCTION tenant_manager.text_member(name text, value text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN coalesce(value, '') = '' THEN '' ELSE ',"' || name || '":' || to_json(value)::text END;

CREATE FUNCTION tenant_manager.rights_json(rights jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan
RETURN (SELECT '[' || coalesce(string_agg(
                 '{"action":"' || (r->>'action') || '","resource":"' || (r->>'resource') || '"'
                 || tenant_manager.text_member('tenantId', r->>'tenantId')
                 || tenant_manager.text_member('participantProfileId', r->>'participantProfileId')
                 || tenant_manager.text_member('vpaId', r->>'vpaId')
                 || tenant_manager.text_member('cellId', r->>'cellId') || '}', ',' ORDER BY n), '') || ']'
          FROM jsonb_array_elements(rights) WITH ORDINALITY AS each_right(r, n));

CREATE FUNCTION tenant_manager.role_json(r tenant_manager.roles) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || r.id || '","version":' || r.version || ',"name":' || to_json(r.name)::text
    || tenant_manager.text_member('description', r.description)
    || ',"rights":' || tenant_manager.rights_json(r.rights)
    || tenant_manager.object_member('properties', r.properties) || '}';

CREATE FUNCTION tenant_manager.user_json(u tenant_manager.users) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || u.id || '","version":' || u.version || ',"subject":' || to_json(u.subject)::text
    || tenant_manager.text_member('name', u.name)
    || ',"roleIds":' || u.role_ids::text
    || ',"rights":' || tenant_manager.rights_json(u.rights)
    || tenant_manager.object_member('properties', u.properties) || '}';
