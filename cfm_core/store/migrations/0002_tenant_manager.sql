-- The Tenant Manager's entities. Functions named *_json give an entity as the API shows it, so that an answer takes one
-- round trip and no rebuilding. Lists of state words repeat the enums of cfm_core.tenancy; a test compares them.
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
  participant_roles     jsonb NOT NULL,           -- dataspace profile id to an array of roles
  vpas                  jsonb NOT NULL,           -- an array of objects; all have the state of the profile
  properties            jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object'),
  error                 boolean NOT NULL DEFAULT false,
  error_detail          text NOT NULL DEFAULT '',
  state                 text NOT NULL DEFAULT 'pending'
    CONSTRAINT participant_profiles_state CHECK (state IN ('pending', 'active', 'disposing', 'disposed', 'error')),
  deploy_failed         boolean NOT NULL DEFAULT false,
  manifest_id           text NOT NULL,            -- of the manifest sent last, whose response counts
  sent_manifest_ids     text[] NOT NULL,          -- of all that were sent for this profile
  manifest              jsonb,                    -- the one whose response is awaited
  sends                 integer NOT NULL DEFAULT 1, -- of that manifest
  due_at                timestamptz,              -- then it is sent again
  bytes                 integer GENERATED ALWAYS AS (octet_length(properties::text) + octet_length(vpas::text)) STORED,
  CONSTRAINT participant_profiles_awaiting CHECK (
    (state IN ('pending', 'disposing')) = (due_at IS NOT NULL) AND (due_at IS NULL) = (manifest IS NULL))
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
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object(
                 'id', p.id, 'version', 0, 'state', p.state, 'stateTimestamp', tenant_manager.instant(p.state_at),
                 'cellId', p.cell_id, 'externalCellId', c.external_id) ORDER BY p.state_at, p.id), '[]')
          FROM tenant_manager.dataspace_deployments p
          JOIN tenant_manager.cells c ON c.id = p.cell_id
         WHERE p.dataspace_profile_id = profile_id);

CREATE FUNCTION tenant_manager.dataspace_profile_json(d tenant_manager.dataspace_profiles) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || d.id || '","version":' || d.version || ',"dataspaceSpec":' || d.spec::text
    || CASE WHEN json_array_length(d.artifacts) = 0 THEN '' ELSE ',"artifacts":' || d.artifacts::text END
    || coalesce((
         SELECT ',"deployments":[' || string_agg(
                  '{"id":"' || p.id || '","version":0,"state":"' || p.state
                  || '","stateTimestamp":"' || tenant_manager.instant(p.state_at) || '","cellId":"' || p.cell_id
                  || '","externalCellId":' || to_json(c.external_id)::text || '}', ',' ORDER BY p.state_at, p.id) || ']'
           FROM tenant_manager.dataspace_deployments p
           JOIN tenant_manager.cells c ON c.id = p.cell_id
          WHERE p.dataspace_profile_id = d.id), '')
    || tenant_manager.object_member('properties', d.properties) || '}';

CREATE FUNCTION tenant_manager.vpa_json(v jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || (v->>'id') || '","version":' || (v->>'version') || ',"state":"' || (v->>'state')
    || '","stateTimestamp":"' || (v->>'stateTimestamp') || '","type":"' || (v->>'type')
    || '","cellId":"' || (v->>'cellId') || '"' || tenant_manager.object_member('properties', v->'properties') || '}';

CREATE FUNCTION tenant_manager.participant_profile_json(p tenant_manager.participant_profiles) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":"' || p.id || '","version":' || p.version || ',"identifier":' || to_json(p.identifier)::text
    || ',"tenantId":"' || p.tenant_id || '","participantRoles":' || p.participant_roles::text
    || coalesce((
         SELECT ',"vpas":[' || string_agg(tenant_manager.vpa_json(v), ',' ORDER BY n) || ']'
           FROM jsonb_array_elements(p.vpas) WITH ORDINALITY AS each_vpa(v, n)), '')
    || tenant_manager.object_member('properties', p.properties)
    || ',"error":' || p.error
    || CASE WHEN p.error_detail = '' THEN '' ELSE ',"errorDetail":' || to_json(p.error_detail)::text END || '}';

-- The VPAs after a change of their state; one without a version is new.
CREATE FUNCTION tenant_manager.vpas_in(vpas jsonb, state text, at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_agg(v || jsonb_build_object(
                 'version', coalesce((v->>'version')::integer + 1, 0),
                 'state', state,
                 'stateTimestamp', tenant_manager.instant(at)) ORDER BY n), '[]')
          FROM jsonb_array_elements(vpas) WITH ORDINALITY AS each_vpa(v, n));
