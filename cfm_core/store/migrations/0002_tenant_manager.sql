-- The Tenant Manager's entities. Functions named *_json give an entity as the API shows it, so that an answer takes one
-- round trip and no rebuilding. Lists of state words repeat the enums of cfm_core.tenancy; a test compares them.
-- Functions with a subquery keep one plan: a query is planned with its values, and with it each call of such a function
-- would be, which takes five times as long as what they do.
CREATE SCHEMA tenant_manager;

CREATE TABLE tenant_manager.tenants (
  id         uuid PRIMARY KEY,
  version    integer NOT NULL DEFAULT 0,          -- rises with every write, here and below
  properties jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object'),
  bytes      integer GENERATED ALWAYS AS (octet_length(properties::text)) STORED -- so that a page knows when it is full
);

-- Without a list of pending entries, which every query would have to read from end to end.
CREATE INDEX tenants_properties ON tenant_manager.tenants USING gin (properties jsonb_path_ops) WITH (fastupdate = off);

CREATE TABLE tenant_manager.cells (
  id          uuid PRIMARY KEY,
  version     integer NOT NULL DEFAULT 0,
  external_id text NOT NULL DEFAULT '',
  state       text NOT NULL
    CONSTRAINT cells_state CHECK (state IN
      ('initial', 'pending', 'active', 'disposing', 'disposed', 'locked', 'offline', 'error')),
  state_at    timestamptz NOT NULL,
  properties  jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object')
);

CREATE UNIQUE INDEX cells_external_id_key ON tenant_manager.cells (external_id) WHERE external_id <> '';

CREATE TABLE tenant_manager.dataspace_profiles (
  id         uuid PRIMARY KEY,
  version    integer NOT NULL DEFAULT 0,
  spec       json NOT NULL,                       -- as the API shows it, fields in its order
  artifacts  json NOT NULL,
  properties jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object')
);

CREATE TABLE tenant_manager.dataspace_deployments (
  id                   uuid PRIMARY KEY,
  dataspace_profile_id uuid NOT NULL REFERENCES tenant_manager.dataspace_profiles ON DELETE CASCADE,
  cell_id              uuid NOT NULL REFERENCES tenant_manager.cells,
  state                text NOT NULL DEFAULT 'active' CHECK (state = 'active'),
  state_at             timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT dataspace_deployments_once UNIQUE (dataspace_profile_id, cell_id)
);

CREATE INDEX dataspace_deployments_cell ON tenant_manager.dataspace_deployments (cell_id);

CREATE TABLE tenant_manager.participant_profiles (
  id                    uuid PRIMARY KEY,
  version               integer NOT NULL DEFAULT 0,
  identifier            text NOT NULL CHECK (identifier <> ''),
  tenant_id             uuid NOT NULL REFERENCES tenant_manager.tenants,
  dataspace_profile_ids jsonb NOT NULL,           -- an array of their ids
  names_dataspaces      boolean NOT NULL,         -- whether they were named; else they are all that there were
  participant_roles     jsonb NOT NULL,           -- dataspace profile id to an array of roles
  vpas                  jsonb NOT NULL            -- an array of objects; all have the state of the profile
    CONSTRAINT participant_profiles_vpas CHECK (jsonb_array_length(vpas) BETWEEN 1 AND 64),
  properties            jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object'),
  error                 boolean NOT NULL DEFAULT false,
  error_detail          text NOT NULL DEFAULT '',
  state                 text NOT NULL DEFAULT 'pending'
    CONSTRAINT participant_profiles_state CHECK (state IN ('pending', 'active', 'disposing', 'disposed', 'error')),
  live                  boolean NOT NULL DEFAULT false, -- a deployment has succeeded, and no disposal since
  failed_manifest_id    text NOT NULL DEFAULT '', -- of a deployment that failed and has not been undone
  manifest_id           text NOT NULL,            -- of the manifest sent last, whose response counts
  sent_manifest_ids     text[] NOT NULL,          -- of all that were sent for this profile
  manifest              jsonb,                    -- the one whose response is awaited, or whose end may still change
  trace_context         jsonb,                    -- of whoever asked for that manifest; null: none
  sends                 integer NOT NULL DEFAULT 1, -- of that manifest
  due_at                timestamptz,              -- then it is sent again
  bytes                 integer GENERATED ALWAYS AS (octet_length(properties::text) + octet_length(vpas::text)) STORED,
  CONSTRAINT participant_profiles_awaiting CHECK (
    (state NOT IN ('pending', 'disposing') OR due_at IS NOT NULL) AND (state NOT IN ('active', 'disposed') OR due_at IS NULL)
    AND (due_at IS NULL) = (manifest IS NULL) AND (trace_context IS NULL OR manifest IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE UNIQUE INDEX participant_profiles_identifier_key
  ON tenant_manager.participant_profiles (identifier) WHERE state <> 'disposed';
CREATE INDEX participant_profiles_identifier ON tenant_manager.participant_profiles (identifier);
CREATE INDEX participant_profiles_tenant ON tenant_manager.participant_profiles (tenant_id, id);
CREATE INDEX participant_profiles_due ON tenant_manager.participant_profiles (due_at) WHERE due_at IS NOT NULL;
-- One index of four columns: each change of state rewrites the row's entries, and one index has one list of pending
-- entries. The list is short, because every query reads it from end to end.
CREATE INDEX participant_profiles_json ON tenant_manager.participant_profiles USING gin
  (properties jsonb_path_ops, vpas jsonb_path_ops, dataspace_profile_ids jsonb_path_ops, participant_roles jsonb_path_ops)
  WITH (gin_pending_list_limit = 256);

-- RFC 3339 in UTC, without trailing zeros.
CREATE FUNCTION tenant_manager.instant(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
RETURN rtrim(rtrim(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z';

-- ',"name":value' for a free-form object, and nothing for an empty one.
CREATE FUNCTION tenant_manager.object_member(name text, value jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL OR value = '{}' THEN '' ELSE ',"' || name || '":' || value::text END;

CREATE FUNCTION tenant_manager.tenant_json(t tenant_manager.tenants) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || t.id || '","version":' || t.version
    || tenant_manager.object_member('properties', t.properties) || '}';

CREATE FUNCTION tenant_manager.cell_json(c tenant_manager.cells) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || c.id || '","version":' || c.version || ',"externalId":' || to_json(c.external_id)::text
    || ',"state":"' || c.state || '","stateTimestamp":"' || tenant_manager.instant(c.state_at) || '"'
    || tenant_manager.object_member('properties', c.properties) || '}';

-- The deployments of a dataspace profile, as a predicate may name them.
CREATE FUNCTION tenant_manager.deployments_of(profile_id uuid) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan
RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object(
                 'id', p.id, 'version', 0, 'state', p.state, 'stateTimestamp', tenant_manager.instant(p.state_at),
                 'cellId', p.cell_id, 'externalCellId', c.external_id) ORDER BY p.state_at, p.cell_id), '[]')
          FROM tenant_manager.dataspace_deployments p
          JOIN tenant_manager.cells c ON c.id = p.cell_id
         WHERE p.dataspace_profile_id = profile_id);

CREATE FUNCTION tenant_manager.dataspace_deployment_json(p tenant_manager.dataspace_deployments) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan
RETURN '{"id":"' || p.id || '","version":0,"state":"' || p.state
    || '","stateTimestamp":"' || tenant_manager.instant(p.state_at) || '","cellId":"' || p.cell_id
    || '","externalCellId":' || to_json((SELECT c.external_id FROM tenant_manager.cells c WHERE c.id = p.cell_id))::text
    || '}';

CREATE FUNCTION tenant_manager.dataspace_profile_json(d tenant_manager.dataspace_profiles) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan
RETURN '{"id":"' || d.id || '","version":' || d.version || ',"dataspaceSpec":' || d.spec::text
    || CASE WHEN json_array_length(d.artifacts) = 0 THEN '' ELSE ',"artifacts":' || d.artifacts::text END
    || coalesce((
         SELECT ',"deployments":['
                || string_agg(tenant_manager.dataspace_deployment_json(p), ',' ORDER BY p.state_at, p.cell_id) || ']'
           FROM tenant_manager.dataspace_deployments p
          WHERE p.dataspace_profile_id = d.id), '')
    || tenant_manager.object_member('properties', d.properties) || '}';

CREATE FUNCTION tenant_manager.vpa_json(v jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || (v->>'id') || '","version":' || (v->>'version') || ',"state":"' || (v->>'state')
    || '","stateTimestamp":"' || (v->>'stateTimestamp') || '","type":' || (v->'type')::text
    || ',"cellId":"' || (v->>'cellId') || '"' || tenant_manager.object_member('properties', v->'properties') || '}';

CREATE FUNCTION tenant_manager.participant_profile_json(p tenant_manager.participant_profiles) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan
RETURN '{"id":"' || p.id || '","version":' || p.version || ',"identifier":' || to_json(p.identifier)::text
    || ',"tenantId":"' || p.tenant_id || '","participantRoles":' || p.participant_roles::text
    || coalesce((
         SELECT ',"vpas":[' || string_agg(tenant_manager.vpa_json(v), ',' ORDER BY n) || ']'
           FROM jsonb_array_elements(p.vpas) WITH ORDINALITY AS each_vpa(v, n)), '')
    || tenant_manager.object_member('properties', p.properties)
    || ',"error":' || p.error
    || CASE WHEN p.error_detail = '' THEN '' ELSE ',"errorDetail":' || to_json(p.error_detail)::text END
    || ',"dataspaceProfileIds":' || p.dataspace_profile_ids::text || '}';

-- The VPAs after a change of their state; one without a version is new.
CREATE FUNCTION tenant_manager.vpas_in(vpas jsonb, state text, at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_agg(v || jsonb_build_object(
                 'version', coalesce((v->>'version')::integer + 1, 0),
                 'state', state,
                 'stateTimestamp', tenant_manager.instant(at)) ORDER BY n), '[]')
          FROM jsonb_array_elements(vpas) WITH ORDINALITY AS each_vpa(v, n));

-- The cells of VPAs, in their order, an array of ids.
CREATE FUNCTION tenant_manager.cells_of(vpas jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_path_query_array(vpas, '$[*].cellId');

-- Rules of the virtualization model ------------------------------------------------------------------------------------
--
-- Whoever breaks one gets the rule's name as that of a constraint, which cfm_core.store.constraints turns into an error.

-- Raises that ``rule`` does not hold: ``problem`` says why, ``pointer`` where in a participant profile.
CREATE FUNCTION tenant_manager.refuse(rule text, pointer text, problem text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = rule, MESSAGE = problem, DETAIL = pointer;
END
$$;

-- Looks at a participant profile that is to be deployed. What it rests on is held until the commit: its dataspace
-- profiles and their deployments are not deleted meanwhile, its cells not changed.
CREATE FUNCTION tenant_manager.check_deployment() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
  dataspaces uuid[] := ARRAY(SELECT jsonb_array_elements_text(NEW.dataspace_profile_ids)::uuid);
  known      uuid[];
  cell       record;
  target     record;
  served     uuid[];
BEGIN
  IF dataspaces = '{}' THEN
    PERFORM tenant_manager.refuse('participant_profiles_dataspaces', '/dataspaceProfileIds',
      'a participant takes part in at least one dataspace');
  END IF;
  known := ARRAY(SELECT id FROM tenant_manager.dataspace_profiles WHERE id = ANY (dataspaces) ORDER BY id FOR KEY SHARE);
  IF NOT dataspaces <@ known THEN
    PERFORM tenant_manager.refuse('participant_profiles_dataspaces', '/dataspaceProfileIds/' || n - 1,
      format('there is no dataspace profile ''%s''', id))
       FROM unnest(dataspaces) WITH ORDINALITY AS named (id, n)
      WHERE id <> ALL (known);
  END IF;
  IF NEW.participant_roles <> '{}'
     AND NEW.participant_roles - ARRAY(SELECT jsonb_array_elements_text(NEW.dataspace_profile_ids)) <> '{}' THEN
    PERFORM tenant_manager.refuse('participant_profiles_roles', '/participantRoles/' || id,
      format('roles are given for ''%s'', which is not among the dataspace profiles', id))
       FROM jsonb_object_keys(NEW.participant_roles) AS named (id)
      WHERE id NOT IN (SELECT jsonb_array_elements_text(NEW.dataspace_profile_ids));
  END IF;
  FOR cell IN
    SELECT (vpa->>'cellId')::uuid AS id, vpa->>'externalCellId' AS external_id,
           format('/vpas/%s/cellId', min(n) - 1) AS pointer
      FROM jsonb_array_elements(NEW.vpas) WITH ORDINALITY AS used (vpa, n)
     GROUP BY 1, 2 ORDER BY 1
  LOOP
    SELECT c.state, c.external_id INTO target FROM tenant_manager.cells c WHERE c.id = cell.id FOR SHARE;
    IF NOT FOUND THEN
      PERFORM tenant_manager.refuse('participant_profiles_cells', cell.pointer, format('there is no cell ''%s''', cell.id));
    ELSIF target.state <> 'active' THEN
      PERFORM tenant_manager.refuse('participant_profiles_cells', cell.pointer,
        format('cell %s is %s, not active', cell.id, target.state));
    ELSIF target.external_id IS DISTINCT FROM cell.external_id THEN
      PERFORM tenant_manager.refuse('participant_profiles_cells', cell.pointer,
        format('cell %s has another external id', cell.id));
    END IF;
    served := ARRAY(SELECT d.dataspace_profile_id
                      FROM tenant_manager.dataspace_deployments d
                     WHERE d.cell_id = cell.id AND d.dataspace_profile_id = ANY (dataspaces)
                     ORDER BY d.id
                       FOR KEY SHARE);
    IF served = '{}' OR NEW.names_dataspaces AND NOT dataspaces <@ served THEN
      PERFORM tenant_manager.refuse('participant_profiles_cells', cell.pointer,
        format('not deployed to cell %s: dataspace profile %s', cell.id, string_agg(id::text, ', ' ORDER BY n)))
         FROM unnest(dataspaces) WITH ORDINALITY AS named (id, n)
        WHERE id <> ALL (served);
    END IF;
  END LOOP;
  RETURN NEW;
END
$$;

CREATE TRIGGER participant_profiles_deploy BEFORE INSERT ON tenant_manager.participant_profiles
FOR EACH ROW WHEN (NEW.state <> 'disposed') EXECUTE FUNCTION tenant_manager.check_deployment();

CREATE TRIGGER participant_profiles_redeploy BEFORE UPDATE ON tenant_manager.participant_profiles
FOR EACH ROW WHEN (
  NEW.state <> 'disposed'
  AND (NEW.state = 'pending' AND OLD.state <> 'pending' OR OLD.state = 'disposed'
       OR OLD.names_dataspaces <> NEW.names_dataspaces
       OR OLD.dataspace_profile_ids <> NEW.dataspace_profile_ids
       OR OLD.participant_roles <> NEW.participant_roles
       OR tenant_manager.cells_of(OLD.vpas) <> tenant_manager.cells_of(NEW.vpas)))
EXECUTE FUNCTION tenant_manager.check_deployment();

CREATE FUNCTION tenant_manager.check_purge() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'participant_profiles_purge',
    MESSAGE = format('participant profile %s is %s, not disposed', OLD.id, OLD.state);
END
$$;

CREATE TRIGGER participant_profiles_purge BEFORE DELETE ON tenant_manager.participant_profiles
FOR EACH ROW WHEN (OLD.state <> 'disposed') EXECUTE FUNCTION tenant_manager.check_purge();

-- Raises that ``what`` is used, where ``users``, an array of kinds and ids, is not empty.
CREATE FUNCTION tenant_manager.refuse_if_used(rule text, what text, users jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  IF users <> '[]' THEN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', CONSTRAINT = rule, MESSAGE = what, DETAIL = users::text;
  END IF;
END
$$;

-- Some of the participant profiles that are not disposed, with a VPA on a cell and in a dataspace; null stands for any.
CREATE FUNCTION tenant_manager.users_of(cell uuid, dataspace uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  on_cell      jsonb := jsonb_build_array(jsonb_build_object('cellId', cell));
  in_dataspace jsonb := jsonb_build_array(dataspace);
BEGIN
  -- Each with a condition of its own, so that an index serves it.
  RETURN coalesce(jsonb_agg(jsonb_build_array('participantProfile', id)), '[]')
    FROM ((SELECT id FROM tenant_manager.participant_profiles
            WHERE dataspace IS NULL AND vpas @> on_cell AND state <> 'disposed' LIMIT 10)
          UNION ALL
          (SELECT id FROM tenant_manager.participant_profiles
            WHERE cell IS NULL AND dataspace_profile_ids @> in_dataspace AND state <> 'disposed' LIMIT 10)
          UNION ALL
          (SELECT id FROM tenant_manager.participant_profiles
            WHERE vpas @> on_cell AND dataspace_profile_ids @> in_dataspace AND state <> 'disposed' LIMIT 10)) AS users;
END
$$;

CREATE FUNCTION tenant_manager.check_cell_users() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    PERFORM tenant_manager.refuse_if_used(
      'cells_external_id_in_use', 'the external id of cell ' || OLD.id, tenant_manager.users_of(OLD.id, NULL));
    RETURN NEW;
  END IF;
  PERFORM tenant_manager.refuse_if_used('cells_in_use', 'cell ' || OLD.id, (
    SELECT coalesce(jsonb_agg(jsonb_build_array('dataspaceProfile', dataspace_profile_id)), '[]')
      FROM (SELECT dataspace_profile_id FROM tenant_manager.dataspace_deployments WHERE cell_id = OLD.id LIMIT 10) AS served)
    || tenant_manager.users_of(OLD.id, NULL));
  RETURN OLD;
END
$$;

CREATE TRIGGER cells_in_use BEFORE DELETE ON tenant_manager.cells
FOR EACH ROW EXECUTE FUNCTION tenant_manager.check_cell_users();

-- VPAs have been told the external id of their cell.
CREATE TRIGGER cells_external_id_in_use BEFORE UPDATE ON tenant_manager.cells
FOR EACH ROW WHEN (OLD.external_id <> NEW.external_id) EXECUTE FUNCTION tenant_manager.check_cell_users();

CREATE FUNCTION tenant_manager.check_dataspace_users() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM tenant_manager.refuse_if_used(
    'dataspace_profiles_in_use', 'dataspace profile ' || OLD.id, tenant_manager.users_of(NULL, OLD.id));
  RETURN OLD;
END
$$;

CREATE TRIGGER dataspace_profiles_in_use BEFORE DELETE ON tenant_manager.dataspace_profiles
FOR EACH ROW EXECUTE FUNCTION tenant_manager.check_dataspace_users();

CREATE FUNCTION tenant_manager.check_dataspace_deployment_users() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM tenant_manager.refuse_if_used(
    'dataspace_deployments_in_use', format('dataspace profile %s on cell %s', OLD.dataspace_profile_id, OLD.cell_id),
    tenant_manager.users_of(OLD.cell_id, OLD.dataspace_profile_id));
  RETURN OLD;
END
$$;

CREATE TRIGGER dataspace_deployments_in_use BEFORE DELETE ON tenant_manager.dataspace_deployments
FOR EACH ROW EXECUTE FUNCTION tenant_manager.check_dataspace_deployment_users();

-- How many participant profiles that are not disposed have VPAs on a cell: the sum of its rows.
CREATE TABLE tenant_manager.cell_loads (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cell_id  uuid NOT NULL REFERENCES tenant_manager.cells ON DELETE CASCADE,
  profiles integer NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX cell_loads_cell ON tenant_manager.cell_loads (cell_id);

-- Counts on a row that nobody holds, and begins a new one where all are held: deployments never wait for each other.
CREATE FUNCTION tenant_manager.count_participants(cell uuid, change integer) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE tenant_manager.cell_loads
     SET profiles = profiles + change
   WHERE id = (SELECT id FROM tenant_manager.cell_loads WHERE cell_id = cell LIMIT 1 FOR UPDATE SKIP LOCKED);
  IF NOT FOUND THEN
    INSERT INTO tenant_manager.cell_loads (cell_id, profiles) VALUES (cell, change);
  END IF;
END
$$;

-- Once for a statement: who loads many profiles at once would otherwise leave as many versions of a row.
CREATE FUNCTION tenant_manager.count_new_participants() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM tenant_manager.count_participants(cell::uuid, count(DISTINCT id)::integer)
     FROM added CROSS JOIN LATERAL jsonb_array_elements_text(tenant_manager.cells_of(vpas)) AS used (cell)
    WHERE state <> 'disposed'
    GROUP BY cell;
  RETURN NULL;
END
$$;

CREATE TRIGGER participant_profiles_count AFTER INSERT ON tenant_manager.participant_profiles
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tenant_manager.count_new_participants();

CREATE FUNCTION tenant_manager.count_changed_participant() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF OLD.state <> 'disposed' THEN
    PERFORM tenant_manager.count_participants(cell, -1)
       FROM (SELECT DISTINCT jsonb_array_elements_text(tenant_manager.cells_of(OLD.vpas))::uuid) AS used (cell);
  END IF;
  IF NEW.state <> 'disposed' THEN
    PERFORM tenant_manager.count_participants(cell, 1)
       FROM (SELECT DISTINCT jsonb_array_elements_text(tenant_manager.cells_of(NEW.vpas))::uuid) AS used (cell);
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER participant_profiles_recount AFTER UPDATE ON tenant_manager.participant_profiles
FOR EACH ROW WHEN ((OLD.state = 'disposed') <> (NEW.state = 'disposed')
                   OR tenant_manager.cells_of(OLD.vpas) <> tenant_manager.cells_of(NEW.vpas))
EXECUTE FUNCTION tenant_manager.count_changed_participant();

-- How often what deployments rest on has changed: cells, dataspace profiles, and which cells these are deployed to. The sum
-- of the rows, so that whoever has read all of it knows later whether it still holds.
CREATE TABLE tenant_manager.basis_changes (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  changes bigint NOT NULL
) WITH (fillfactor = 50);

-- Counts on a row that nobody holds, like ``count_participants``. A number that is drawn before the commit would not do:
-- whoever reads in between would take the old basis for the new one.
CREATE FUNCTION tenant_manager.count_basis_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE tenant_manager.basis_changes
     SET changes = changes + 1
   WHERE id = (SELECT id FROM tenant_manager.basis_changes LIMIT 1 FOR UPDATE SKIP LOCKED);
  IF NOT FOUND THEN
    INSERT INTO tenant_manager.basis_changes (changes) VALUES (1);
  END IF;
  RETURN NULL;
END
$$;

-- For each row: a statement that finds none, such as one that is refused for its version, has changed nothing.
CREATE TRIGGER cells_basis AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.cells
FOR EACH ROW EXECUTE FUNCTION tenant_manager.count_basis_change();
CREATE TRIGGER dataspace_profiles_basis AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.dataspace_profiles
FOR EACH ROW EXECUTE FUNCTION tenant_manager.count_basis_change();
CREATE TRIGGER dataspace_deployments_basis AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.dataspace_deployments
FOR EACH ROW EXECUTE FUNCTION tenant_manager.count_basis_change();

-- Declared indexes -----------------------------------------------------------------------------------------------------

-- Paths below an entity's properties that an operator has declared as indexed. What makes the indexes, and drops them,
-- is cfm_core.tenancy.query_indexes; their names follow from the ids.
CREATE TABLE tenant_manager.query_indexes (
  id         uuid PRIMARY KEY,
  version    integer NOT NULL DEFAULT 0,
  entity     text NOT NULL CONSTRAINT query_indexes_entity CHECK (entity IN ('tenants', 'participant-profiles')),
  path       text NOT NULL,                       -- as a predicate writes it
  keys       text[] NOT NULL,                     -- below the properties
  kind       text NOT NULL CONSTRAINT query_indexes_kind CHECK (kind IN ('number', 'time', 'text')),
  state      text NOT NULL DEFAULT 'building'
    CONSTRAINT query_indexes_state CHECK (state IN ('building', 'ready', 'failed', 'dropping')),
  reason     text NOT NULL DEFAULT '',            -- why it has failed
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT query_indexes_once UNIQUE (entity, keys, kind)
);

CREATE FUNCTION tenant_manager.query_index_json(q tenant_manager.query_indexes) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || q.id || '","version":' || q.version || ',"entity":"' || q.entity || '","path":' || to_json(q.path)::text
    || ',"kind":"' || q.kind || '","state":"' || q.state || '"'
    || CASE WHEN q.reason = '' THEN '' ELSE ',"reason":' || to_json(q.reason)::text END || '}';
