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
  subject    text NOT NULL CHECK (subject <> ''), -- what tokens call the user
  issuer     text NOT NULL DEFAULT '',            -- of these tokens; '': any that is trusted
  name       text NOT NULL DEFAULT '',
  role_ids   jsonb NOT NULL CHECK (jsonb_typeof(role_ids) = 'array'), -- an array of their ids
  rights     jsonb NOT NULL CHECK (jsonb_typeof(rights) = 'array'), -- besides those of the roles
  properties jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object'),
  CONSTRAINT users_subject_key UNIQUE (subject, issuer)
);

-- Whoever is a user whichever issuer names them is no other user for one of these.
CREATE FUNCTION tenant_manager.check_subject() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  -- One of 64 locks, so that a statement may write any number of users.
  PERFORM pg_advisory_xact_lock(hashtext('tenant_manager.users'), hashtext(NEW.subject) & 63);
  IF EXISTS (SELECT FROM tenant_manager.users u
              WHERE u.subject = NEW.subject AND u.id <> NEW.id AND u.issuer <> NEW.issuer AND '' IN (u.issuer, NEW.issuer)) THEN
    RAISE EXCEPTION USING ERRCODE = 'unique_violation', CONSTRAINT = 'users_subject_key';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER users_subject BEFORE INSERT OR UPDATE OF subject, issuer ON tenant_manager.users
FOR EACH ROW EXECUTE FUNCTION tenant_manager.check_subject();

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
    || tenant_manager.text_member('issuer', u.issuer)
    || tenant_manager.text_member('name', u.name)
    || ',"roleIds":' || u.role_ids::text
    || ',"rights":' || tenant_manager.rights_json(u.rights)
    || tenant_manager.object_member('properties', u.properties) || '}';

-- What somebody may do -------------------------------------------------------------------------------------------------

-- Who was a user once. Without a user they would have all that their token's scopes allow; so they have nothing until they
-- are a user again. Only a digest is kept, which tells nothing of who has gone.
CREATE TABLE tenant_manager.former_users (
  digest bytea PRIMARY KEY
);

CREATE FUNCTION tenant_manager.user_digest(issuer text, subject text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(to_json(ARRAY[issuer, subject])::text, 'UTF8'));

CREATE FUNCTION tenant_manager.remember_former_user() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO tenant_manager.former_users (digest) VALUES (tenant_manager.user_digest(OLD.issuer, OLD.subject))
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;

CREATE TRIGGER users_deleted_former AFTER DELETE ON tenant_manager.users
FOR EACH ROW EXECUTE FUNCTION tenant_manager.remember_former_user();
CREATE TRIGGER users_renamed_former AFTER UPDATE OF subject, issuer ON tenant_manager.users
FOR EACH ROW WHEN (OLD.subject <> NEW.subject OR OLD.issuer <> NEW.issuer)
EXECUTE FUNCTION tenant_manager.remember_former_user();

-- Rises with every change of users and roles: whoever remembers what somebody may do sees by it whether that still holds.
-- A row and not a sequence, whose number others would see before the change that it counts.
CREATE TABLE tenant_manager.access_version (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

INSERT INTO tenant_manager.access_version DEFAULT VALUES;

CREATE FUNCTION tenant_manager.count_access_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE tenant_manager.access_version SET version = version + 1;
  RETURN NULL;
END
$$;

CREATE TRIGGER users_access AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.users
FOR EACH ROW EXECUTE FUNCTION tenant_manager.count_access_change();
CREATE TRIGGER roles_access AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.roles
FOR EACH ROW EXECUTE FUNCTION tenant_manager.count_access_change();

-- The rights of a user, those of its roles included.
CREATE FUNCTION tenant_manager.rights_of_user(u tenant_manager.users) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_agg(DISTINCT r), '[]')
          FROM (SELECT jsonb_array_elements(u.rights)
                 UNION ALL
                SELECT jsonb_array_elements(role.rights)
                  FROM tenant_manager.user_roles has
                  JOIN tenant_manager.roles role ON role.id = has.role_id
                 WHERE has.user_id = u.id) AS each_right(r));

-- What both managers ask: whoever may use the schema need not be able to read users and roles.
CREATE SCHEMA access;

-- What somebody may do whom a token of ``issuer`` calls ``subject``: who that is, ``user``, ``former`` or ``nobody``, and the
-- rights: those of the user, or for nobody those of the roles with these names.
CREATE FUNCTION access.of_caller(issuer text, subject text, role_names text[])
RETURNS TABLE (version bigint, who text, rights text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT v.version,
         CASE
           WHEN u.row IS NOT NULL THEN 'user'
           WHEN EXISTS (SELECT FROM tenant_manager.former_users f
                         WHERE f.digest = ANY (ARRAY[tenant_manager.user_digest('', $2),
                                                     tenant_manager.user_digest($1, $2)])) THEN 'former'
           ELSE 'nobody'
         END,
         CASE
           WHEN u.row IS NOT NULL THEN tenant_manager.rights_of_user(u.row)
           ELSE (SELECT coalesce(jsonb_agg(DISTINCT r), '[]')
                   FROM tenant_manager.roles role, jsonb_array_elements(role.rights) AS r
                  WHERE role.name = ANY ($3))
         END::text
    FROM tenant_manager.access_version v
    LEFT JOIN LATERAL (SELECT one AS row
                         FROM tenant_manager.users one
                        WHERE one.subject = $2 AND one.issuer IN ('', $1)
                        LIMIT 1) u ON true
$$;

-- Makes the first user who may do everything, or gives that right to one who is there; raises where somebody has it already.
-- Whoever comes at the same time waits, and is refused. Gives the user's id.
CREATE FUNCTION tenant_manager.make_first_administrator(issuer text, subject text) RETURNS uuid
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  everything constant jsonb := '[{"action": "*", "resource": "*"}]';
  administrator uuid;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('tenant_manager.make_first_administrator', 0));
  IF EXISTS (SELECT FROM tenant_manager.users u WHERE tenant_manager.rights_of_user(u) @> everything) THEN
    RAISE EXCEPTION USING ERRCODE = 'unique_violation', CONSTRAINT = 'users_first_administrator';
  END IF;
  INSERT INTO tenant_manager.users AS u (id, subject, issuer, role_ids, rights, properties)
  VALUES (gen_random_uuid(), $2, $1, '[]', everything, '{}')
  ON CONFLICT ON CONSTRAINT users_subject_key DO UPDATE SET rights = u.rights || everything, version = u.version + 1
  RETURNING u.id INTO administrator;
  RETURN administrator;
END
$$;
