-- The Provision Manager's definitions of activities and orchestrations, as the API and as the engine takes them. Here and in
-- what follows, lists of words repeat the enums of cfm_core.provisioning; a test compares them. Ids are compared byte by byte
-- ("C"), which is what an id needs.
CREATE SCHEMA provision_manager;

CREATE TABLE provision_manager.activity_definition (
  type                  text COLLATE "C" PRIMARY KEY,
  version               integer NOT NULL DEFAULT 0, -- rises with every write
  document              json NOT NULL CHECK (jsonb_typeof(document::jsonb) = 'object'), -- as the API shows it
  timeout_seconds       double precision,         -- these four override what the agent has announced
  max_attempts          integer,
  backoff_seconds       double precision,
  backoff_limit_seconds double precision,
  start_seconds         double precision,         -- how long one may be without a sign that an agent has it
  close_seconds         double precision,         -- how long all its attempts together may take
  heartbeat_seconds     double precision,         -- how long an agent that has given signs of life may give none
  wait_seconds          double precision,         -- how long one waits whose agent does not say how long
  max_in_flight         integer,                  -- how many may be with agents at a time; null: any number
  max_per_tenant        integer,                  -- of these, of one tenant
  rate_count            integer,                  -- how many may be sent within rate_seconds; null: any number
  rate_seconds          double precision,
  tenant_rate_count     integer,                  -- the same of one tenant
  tenant_rate_seconds   double precision,
  max_failures          integer                   -- so many in a row close the gate for a while; 0: never, null: 20
);

-- What agents announce of themselves: their defaults for an activity type.
CREATE TABLE provision_manager.activity_type_policy (
  type                  text COLLATE "C" PRIMARY KEY,
  timeout_seconds       double precision NOT NULL,
  max_attempts          integer NOT NULL,
  backoff_seconds       double precision NOT NULL,
  backoff_limit_seconds double precision NOT NULL,
  announced_at          timestamptz NOT NULL DEFAULT now()
);

-- What keeps activities of a type from being sent, beside the limits of its definition.
CREATE TABLE provision_manager.gate (
  type     text COLLATE "C" PRIMARY KEY,
  version  integer NOT NULL DEFAULT 0,
  paused   boolean NOT NULL DEFAULT false,        -- by an operator
  failures integer NOT NULL DEFAULT 0,            -- that agents have reported since the last success
  closings integer NOT NULL DEFAULT 0,            -- how often they have closed the gate since then
  probe_at timestamptz                            -- until then nothing is sent, then one at a time; null: they have not
);

-- No version of a template comes twice, even if it is deleted in between: an entity tag is safe.
CREATE SEQUENCE provision_manager.template_version;

-- The templates that have definitions in force.
CREATE TABLE provision_manager.template (
  ref     text COLLATE "C" PRIMARY KEY,
  version bigint NOT NULL,
  beside  boolean NOT NULL                       -- others keep the types that it names, and it keeps its own
);

-- One version of one orchestration type. Immutable but for is_active, and for being in force: runs keep the version that they
-- began with.
CREATE TABLE provision_manager.definition (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  type         text COLLATE "C" NOT NULL,
  version      integer NOT NULL,
  template_ref text COLLATE "C" NOT NULL,
  posted       bigint NOT NULL,                  -- the template's version then: of those in force, the newest one is taken
  document     json NOT NULL CHECK (jsonb_typeof(document::jsonb) = 'object'), -- as the API shows it while it is active
  n_nodes      integer NOT NULL,                 -- of phase 0
  secret_keys  text[] NOT NULL DEFAULT '{}',     -- what the schemas of its activity types mark: not shown
  undo         text NOT NULL DEFAULT 'auto',     -- when a run that has failed is undone: at once, later, or by hand
  undo_after   interval,                         -- how much later
  is_active    boolean NOT NULL DEFAULT true,    -- runs may start with it
  beside       boolean NOT NULL DEFAULT false,   -- as its template
  is_current   boolean NOT NULL DEFAULT true,    -- in force
  retired_at   timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  place        text COLLATE "C" NOT NULL         -- in the list of those in force
                 GENERATED ALWAYS AS (type || CASE WHEN beside THEN E'\x01' || md5(template_ref) ELSE '' END) STORED,
  UNIQUE (type, version),
  CHECK ((retired_at IS NULL) = is_current),
  CONSTRAINT definition_undo CHECK (undo IN ('auto', 'after', 'manual') AND (undo_after IS NOT NULL) = (undo = 'after'))
);

-- Of the templates that take types over, one has a type; of the others, each has it once.
CREATE UNIQUE INDEX definition_place ON provision_manager.definition (place) WHERE is_current;
CREATE INDEX definition_current ON provision_manager.definition (type) WHERE is_current;
CREATE INDEX definition_template ON provision_manager.definition (template_ref);
CREATE INDEX definition_retired ON provision_manager.definition (retired_at) WHERE NOT is_current;

CREATE INDEX definition_secret_keys ON provision_manager.definition (id) WHERE secret_keys <> '{}';

-- The keys whose values are not shown, because an activity type says so.
CREATE FUNCTION provision_manager.secret_keys() RETURNS text[]
LANGUAGE sql STABLE
RETURN ARRAY(SELECT DISTINCT k.key
               FROM provision_manager.definition d, unnest(d.secret_keys) k (key)
              WHERE d.secret_keys <> '{}');

-- A definition as the API shows it.
CREATE FUNCTION provision_manager.definition_json(d provision_manager.definition) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN d.is_active THEN d.document::text ELSE left(d.document::text, -1) || ',"active":false}' END;

-- What a run of this type starts with: the newest active definition, in the template if one is named; null: nothing.
CREATE FUNCTION provision_manager.definition_to_start(orchestration_type text, template text) RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN (
    SELECT d.id
      FROM provision_manager.definition d
     WHERE d.type = orchestration_type AND d.is_current AND d.is_active AND template IN ('', d.template_ref)
     ORDER BY d.posted DESC
     LIMIT 1);
END
$$;

-- The same activities compiled for the engine; ord is the place in the list. The schemas are those that the activity types had
-- when the definition was made; null: nothing is asked.
CREATE TABLE provision_manager.def_node (
  def_id        bigint NOT NULL REFERENCES provision_manager.definition ON DELETE CASCADE,
  phase         smallint NOT NULL DEFAULT 0,      -- 0: what the run does; 1: what undoes it; others: the one activity of a run
                                                  -- for one element, if even, or of one that undoes that
  ord           smallint NOT NULL,
  activity_id   text NOT NULL,
  type          text COLLATE "C" NOT NULL,
  n_deps        smallint NOT NULL,
  inputs        jsonb,                            -- [{"target", "key", "ord"}]; null: all processing data
  input_schema  jsonb,
  output_schema jsonb,
  condition     jsonb,                            -- of the processing data, as query.holds takes it; null: none
  calls         boolean NOT NULL DEFAULT false,   -- it is carried out by runs of its own
  for_each      jsonb,                            -- {"source": an input, "name", "concurrency"}: one run for each element
  child_phase   smallint,                         -- of these runs; null: they are of another definition
  PRIMARY KEY (def_id, phase, ord)
);

CREATE INDEX def_node_type ON provision_manager.def_node (type);

CREATE TABLE provision_manager.def_edge (
  def_id   bigint NOT NULL REFERENCES provision_manager.definition ON DELETE CASCADE,
  phase    smallint NOT NULL DEFAULT 0,
  from_ord smallint NOT NULL,
  to_ord   smallint NOT NULL,
  PRIMARY KEY (def_id, phase, from_ord, to_ord)
);

-- How long an agent has for an attempt: beyond the attempt's timeout something for the ways there and back.
CREATE FUNCTION provision_manager.lease(timeout_seconds double precision) RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => timeout_seconds + 15);

-- A node with the policy in force: the definition's word, else the agent's, else the default.
CREATE VIEW provision_manager.node AS
SELECT n.def_id, n.phase, n.ord, n.activity_id, n.type, n.n_deps, n.inputs, n.input_schema, n.output_schema, n.condition,
       n.calls, CASE WHEN n.calls THEN 15 ELSE coalesce(d.timeout_seconds, p.timeout_seconds, 30) END AS timeout_seconds,
       coalesce(d.max_attempts, p.max_attempts, 5) AS max_attempts,
       coalesce(d.backoff_seconds, p.backoff_seconds, 1) AS backoff_seconds,
       coalesce(d.backoff_limit_seconds, p.backoff_limit_seconds, 60) AS backoff_limit_seconds,
       d.start_seconds,
       CASE WHEN n.calls THEN provision_manager.lease(15)
            ELSE coalesce(make_interval(secs => d.start_seconds),
                          provision_manager.lease(coalesce(d.timeout_seconds, p.timeout_seconds, 30))) END
         AS start_in, -- until a sign of life
       CASE WHEN NOT n.calls THEN make_interval(secs => d.close_seconds) END AS close_in, -- null: no matter when
       make_interval(secs => d.heartbeat_seconds) AS beat_in, -- null: one is enough for the whole attempt
       coalesce(d.wait_seconds, 86400) AS wait_seconds,
       p.type IS NOT NULL AS has_agent,
       NOT n.calls AND (d.max_in_flight IS NOT NULL OR d.max_per_tenant IS NOT NULL OR d.rate_count IS NOT NULL
                        OR d.tenant_rate_count IS NOT NULL OR g.paused IS TRUE OR g.probe_at IS NOT NULL) AS gated
  FROM provision_manager.def_node n
  LEFT JOIN provision_manager.activity_definition d ON d.type = n.type
  LEFT JOIN provision_manager.activity_type_policy p ON p.type = n.type
  LEFT JOIN provision_manager.gate g ON g.type = n.type;
