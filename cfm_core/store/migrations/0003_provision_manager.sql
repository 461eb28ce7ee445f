-- The Provision Manager: definitions, orchestrations, and the engine that advances them. Lists of state words repeat the
-- enums of cfm_core.provisioning; a test compares them. Ids are compared byte by byte ("C"), which is what an id needs.
CREATE SCHEMA provision_manager;

-- Definitions ---------------------------------------------------------------------------------------------------------

CREATE TABLE provision_manager.activity_definition (
  type                  text COLLATE "C" PRIMARY KEY,
  version               integer NOT NULL DEFAULT 0, -- rises with every write
  document              json NOT NULL CHECK (jsonb_typeof(document::jsonb) = 'object'), -- as the API shows it
  timeout_seconds       double precision,         -- these four override what the agent has announced
  max_attempts          integer,
  backoff_seconds       double precision,
  backoff_limit_seconds double precision,
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
  n_nodes      integer NOT NULL,
  is_active    boolean NOT NULL DEFAULT true,    -- runs may start with it
  beside       boolean NOT NULL DEFAULT false,   -- as its template
  is_current   boolean NOT NULL DEFAULT true,    -- in force
  retired_at   timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  place        text COLLATE "C" NOT NULL         -- in the list of those in force
                 GENERATED ALWAYS AS (type || CASE WHEN beside THEN E'\x01' || md5(template_ref) ELSE '' END) STORED,
  UNIQUE (type, version),
  CHECK ((retired_at IS NULL) = is_current)
);

-- Of the templates that take types over, one has a type; of the others, each has it once.
CREATE UNIQUE INDEX definition_place ON provision_manager.definition (place) WHERE is_current;
CREATE INDEX definition_current ON provision_manager.definition (type) WHERE is_current;
CREATE INDEX definition_template ON provision_manager.definition (template_ref);
CREATE INDEX definition_retired ON provision_manager.definition (retired_at) WHERE NOT is_current;

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
  ord           smallint NOT NULL,
  activity_id   text NOT NULL,
  type          text COLLATE "C" NOT NULL,
  n_deps        smallint NOT NULL,
  inputs        jsonb,                            -- [{"target", "key", "ord"}]; null: all processing data
  input_schema  jsonb,
  output_schema jsonb,
  PRIMARY KEY (def_id, ord)
);

CREATE INDEX def_node_type ON provision_manager.def_node (type);

CREATE TABLE provision_manager.def_edge (
  def_id   bigint NOT NULL REFERENCES provision_manager.definition ON DELETE CASCADE,
  from_ord smallint NOT NULL,
  to_ord   smallint NOT NULL,
  PRIMARY KEY (def_id, from_ord, to_ord)
);

-- A node with the policy in force: the definition's word, else the agent's, else the default.
CREATE VIEW provision_manager.node AS
SELECT n.def_id, n.ord, n.activity_id, n.type, n.n_deps, n.inputs, n.input_schema, n.output_schema,
       coalesce(d.timeout_seconds, p.timeout_seconds, 30) AS timeout_seconds,
       coalesce(d.max_attempts, p.max_attempts, 5) AS max_attempts,
       coalesce(d.backoff_seconds, p.backoff_seconds, 1) AS backoff_seconds,
       coalesce(d.backoff_limit_seconds, p.backoff_limit_seconds, 60) AS backoff_limit_seconds,
       p.type IS NOT NULL AS has_agent,
       d.max_in_flight IS NOT NULL OR d.max_per_tenant IS NOT NULL OR d.rate_count IS NOT NULL
         OR d.tenant_rate_count IS NOT NULL OR g.paused IS TRUE OR g.probe_at IS NOT NULL AS gated
  FROM provision_manager.def_node n
  LEFT JOIN provision_manager.activity_definition d ON d.type = n.type
  LEFT JOIN provision_manager.activity_type_policy p ON p.type = n.type
  LEFT JOIN provision_manager.gate g ON g.type = n.type;

-- Runs ----------------------------------------------------------------------------------------------------------------

-- Whoever changes anything of a run locks this row first, several in the order of their ids.
CREATE TABLE provision_manager.orchestration (
  id             text COLLATE "C" PRIMARY KEY,    -- the manifest's: the same manifest twice is one run
  def_id         bigint NOT NULL,                 -- no foreign key: each start would lock the definition's row
  type           text COLLATE "C" NOT NULL,
  correlation_id text NOT NULL,
  tenant_id      text NOT NULL DEFAULT '',
  version        integer NOT NULL DEFAULT 0,
  state          text NOT NULL DEFAULT 'RUNNING' CONSTRAINT orchestration_state CHECK (state IN
                   ('RUNNING', 'COMPLETED', 'ERRORED', 'CANCELLING', 'CANCELLED', 'COMPENSATING', 'COMPENSATED',
                    'COMPENSATION_FAILED')),
  state_number   smallint NOT NULL GENERATED ALWAYS AS ( -- the state in the wire contract's terms
                   CASE state WHEN 'RUNNING' THEN 1 WHEN 'COMPLETED' THEN 2 ELSE 3 END) STORED,
  phase          smallint NOT NULL DEFAULT 0,
  remaining      integer NOT NULL,                -- activities of the phase that have not ended
  paused         boolean NOT NULL DEFAULT false,  -- nothing is sent
  retries        integer NOT NULL DEFAULT 0,      -- how often an operator has let it go on after its end
  is_erased      boolean NOT NULL DEFAULT false,  -- its data are gone, because they were about a person
  error_detail   text NOT NULL DEFAULT '',
  resend_at      timestamptz,                     -- when the compensation's manifest is sent again; null: no need
  state_at       timestamptz NOT NULL,
  created_at     timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX orchestration_correlation ON provision_manager.orchestration USING hash (correlation_id);
-- What is searched for: runs that have not ended well, those of a rare type, those of a time. Completed ones are left out of
-- the first, which stays small; the last costs nearly nothing, because runs are stored in the order of their starts. Each
-- other index would cost every run some hundredths of what all its steps do.
CREATE INDEX orchestration_state ON provision_manager.orchestration (state_number, id) WHERE state_number <> 2;
CREATE INDEX orchestration_type ON provision_manager.orchestration (type, def_id); -- with whose help definitions are forgotten
CREATE INDEX orchestration_created ON provision_manager.orchestration USING brin (created_at)
  WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX orchestration_resend ON provision_manager.orchestration (resend_at) WHERE resend_at IS NOT NULL;

-- RFC 3339 in UTC, without trailing zeros.
CREATE FUNCTION provision_manager.instant(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
RETURN rtrim(rtrim(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z';

-- An orchestration as it is listed.
CREATE FUNCTION provision_manager.entry_json(o provision_manager.orchestration) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || to_json(o.id)::text || ',"correlationId":' || to_json(o.correlation_id)::text
    || ',"state":' || o.state_number
    || ',"stateTimestamp":"' || provision_manager.instant(o.state_at)
    || '","createdTimestamp":"' || provision_manager.instant(o.created_at)
    || '","orchestrationType":' || to_json(o.type)::text || ',"definitionId":' || to_json(o.type)::text || '}';

CREATE TABLE provision_manager.orchestration_data (
  orch_id text COLLATE "C" PRIMARY KEY,
  input   jsonb NOT NULL,                         -- the manifest's payload, for ever as it came
  values  jsonb,                                  -- the processing data; null while no activity has changed it
  outputs jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 70);

-- An activity that waits for time to pass has due_at; one without is blocked, held back, or has ended. Hence nothing is
-- forgotten.
CREATE TABLE provision_manager.activity (
  orch_id       text COLLATE "C" NOT NULL,
  phase         smallint NOT NULL,
  ord           smallint NOT NULL,
  state         text NOT NULL CONSTRAINT activity_state CHECK (state IN
                  ('BLOCKED', 'READY', 'DISPATCHED', 'WAITING', 'BACKOFF', 'DONE', 'FAILED', 'CANCELLED')),
  deps_left     smallint NOT NULL,
  dispatches    integer NOT NULL DEFAULT 0,      -- how often it was sent
  unanswered    integer NOT NULL DEFAULT 0,      -- of these, since the agent's last sign of life
  failures      integer NOT NULL DEFAULT 0,      -- reported by the agent
  token         uuid,                             -- of the last dispatch
  dispatched_at timestamptz,
  due_at        timestamptz,
  PRIMARY KEY (orch_id, phase, ord),
  CONSTRAINT activity_due CHECK ((due_at IS NULL) = (state IN ('BLOCKED', 'READY', 'DONE', 'FAILED', 'CANCELLED')))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX activity_due ON provision_manager.activity (due_at) WHERE due_at IS NOT NULL;

-- What an activity has recorded, once it is done; none where it recorded nothing.
CREATE TABLE provision_manager.activity_output (
  orch_id text COLLATE "C" NOT NULL,
  phase   smallint NOT NULL,
  ord     smallint NOT NULL,
  values  jsonb,
  deleted jsonb,
  outputs jsonb,
  PRIMARY KEY (orch_id, phase, ord)
);

-- How each dispatch ended; only ever added to, and dropped by the day.
CREATE TABLE provision_manager.history (
  at            timestamptz NOT NULL,
  orch_id       text COLLATE "C" NOT NULL,
  phase         smallint NOT NULL,
  ord           smallint NOT NULL,
  -- An outcome, 'resolved', 'invalid input', 'invalid output', 'lease over', 'wait over', or 'fenced: ' and an outcome.
  kind          text NOT NULL,
  dispatch      integer,
  attempt       integer,
  dispatched_at timestamptz,
  next_at       timestamptz,
  reason        text NOT NULL DEFAULT ''
) PARTITION BY RANGE (at);

CREATE INDEX history_of ON provision_manager.history (orch_id);
-- What is told on a day for which nobody has made a partition is not lost.
CREATE TABLE provision_manager.history_of_other_days PARTITION OF provision_manager.history DEFAULT;

-- Makes the partitions of the days to come, and drops those of days longer than ``kept`` ago. Gives how many it has made and
-- dropped. Whoever comes second leaves it to the first.
CREATE FUNCTION provision_manager.keep_history(kept interval) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer := 0;
  today   date := (now() AT TIME ZONE 'UTC')::date;
  day     date;
  old     record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('provision_manager.history', 0)) THEN
    RETURN 0;
  END IF;
  -- Rather next time than hold up whoever tells something.
  SET LOCAL lock_timeout = '2s';
  FOR day IN SELECT today + n FROM generate_series(0, 2) n LOOP
    CONTINUE WHEN to_regclass('provision_manager.history_' || to_char(day, 'YYYYMMDD')) IS NOT NULL
               OR EXISTS (SELECT FROM provision_manager.history_of_other_days o
                           WHERE o.at >= day::timestamp AT TIME ZONE 'UTC' AND o.at < (day + 1)::timestamp AT TIME ZONE 'UTC');
    EXECUTE format('CREATE TABLE provision_manager.%I PARTITION OF provision_manager.history FOR VALUES FROM (%L) TO (%L)',
                   'history_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
    changed := changed + 1;
  END LOOP;
  FOR old IN
    SELECT c.relname
      FROM pg_inherits i
      JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'provision_manager.history'::regclass
       AND c.relname ~ '^history_[0-9]{8}$'
       AND to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (now() - kept) AT TIME ZONE 'UTC'
  LOOP
    EXECUTE format('DROP TABLE provision_manager.%I', old.relname);
    changed := changed + 1;
  END LOOP;
  DELETE FROM provision_manager.history_of_other_days o WHERE o.at < now() - kept;
  RETURN changed;
END
$$;

SELECT provision_manager.keep_history(interval '1000 years');

-- What operators have done, and why; only ever added to.
CREATE TABLE provision_manager.operation (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at            timestamptz NOT NULL DEFAULT now(),
  actor         text NOT NULL,                    -- the subject of the token
  action        text NOT NULL,
  -- To an activity type, or to a run, or to one of its activities; '' is what it was not.
  orch_id       text COLLATE "C" NOT NULL DEFAULT '',
  activity_id   text NOT NULL DEFAULT '',
  activity_type text NOT NULL DEFAULT '',
  reason        text NOT NULL,
  before        text NOT NULL,                    -- its state
  after         text NOT NULL,
  request_id    text NOT NULL
);

CREATE INDEX operation_of ON provision_manager.operation (orch_id);

CREATE FUNCTION provision_manager.operation_json(o provision_manager.operation) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || o.id || ',"at":"' || provision_manager.instant(o.at)
    || '","actor":' || to_json(o.actor)::text || ',"action":' || to_json(o.action)::text
    || CASE o.orch_id WHEN '' THEN '' ELSE ',"orchestrationId":' || to_json(o.orch_id)::text END
    || CASE o.activity_id WHEN '' THEN '' ELSE ',"activityId":' || to_json(o.activity_id)::text END
    || CASE o.activity_type WHEN '' THEN '' ELSE ',"activityType":' || to_json(o.activity_type)::text END
    || ',"reason":' || to_json(o.reason)::text
    || ',"before":' || to_json(o.before)::text || ',"after":' || to_json(o.after)::text
    || ',"requestId":' || to_json(o.request_id)::text || '}';

-- What the engine could not take in, and the trigger not deliver; an operator has to look.
CREATE TABLE provision_manager.dead_letter (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version     integer NOT NULL DEFAULT 0,
  at          timestamptz NOT NULL DEFAULT now(),
  key         text UNIQUE,                        -- of the delivery, so that it is kept once; null: the engine's own
  subject     text NOT NULL,
  target      text NOT NULL DEFAULT '',           -- the function that was to take it
  reason      text NOT NULL,
  deliveries  integer NOT NULL DEFAULT 1,
  event       text,                               -- JSON, which may hold what jsonb refuses
  raw         bytea,                              -- the message, where it is no event
  replayed_at timestamptz,
  CONSTRAINT dead_letter_content CHECK ((event IS NULL) <> (raw IS NULL))
);

-- A dead letter as it is listed, without what it holds.
CREATE FUNCTION provision_manager.dead_letter_json(l provision_manager.dead_letter) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || l.id || ',"version":' || l.version || ',"at":"' || provision_manager.instant(l.at)
    || '","subject":' || to_json(l.subject)::text
    || CASE l.target WHEN '' THEN '' ELSE ',"target":' || to_json(l.target)::text END
    || ',"reason":' || to_json(l.reason)::text || ',"deliveries":' || l.deliveries
    || coalesce(',"replayedAt":"' || provision_manager.instant(l.replayed_at) || '"', '') || '}';

-- The engine ----------------------------------------------------------------------------------------------------------
-- Each of the three entry functions takes a batch, is called as a transaction of its own, and gives the outbox rows that
-- it has written. Their plans are nested loops over keys whatever the statistics say: batches are small, tables are not.
-- Where a node is looked up, "+ 0" keeps the planner from looking up activities by their ord alone, which it takes for cheap
-- as long as the table is small.

CREATE TYPE provision_manager.written AS (id bigint, subject text, events jsonb);

CREATE TYPE provision_manager.activity_key AS (orch_id text, phase smallint, ord smallint);

-- A change of one activity that has been decided on, under the lock of its run.
CREATE TYPE provision_manager.move AS (
  pos     integer,                                -- the outcome's place in the batch
  orch_id text,
  phase   smallint,
  ord     smallint,
  def_id  bigint,
  running boolean,                                -- its run goes on, as far as is known before this batch
  open    boolean,                                -- and no move of this batch fails it
  kind    text,                                   -- for the history; null: nothing has ended
  state   text,                                   -- what the activity becomes
  due_in  interval,
  failed  smallint,                               -- 1 where the agent has reported a failure
  reason  text,
  values  jsonb,
  deleted jsonb,
  outputs jsonb
);

CREATE FUNCTION provision_manager.lease(timeout_seconds double precision) RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => timeout_seconds + 15);

CREATE FUNCTION provision_manager.cloud_event(id text, type text, orch_id text, data jsonb) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
  'specversion', '1.0', 'id', id, 'source', 'cfm/provision-manager', 'type', type, 'subject', orch_id,
  'datacontenttype', 'application/json', 'data', data);

-- The run that a compensation undoes; null for any other id.
CREATE FUNCTION provision_manager.compensated_by(id text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN id LIKE '%.compensate' THEN left(id, -11) END;

-- Locks these runs, and those that they compensate. Always in the order of ids, so that no two batches wait for each other.
CREATE FUNCTION provision_manager.lock_runs(ids text[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM
     FROM provision_manager.orchestration o
    WHERE o.id = ANY (ids || ARRAY(SELECT provision_manager.compensated_by(i.id)
                                     FROM unnest(ids) i (id)
                                    WHERE provision_manager.compensated_by(i.id) IS NOT NULL))
    ORDER BY o.id
      FOR UPDATE;
END
$$;

-- What an activity with ``inputs`` gets. What another one has recorded is looked for with that one first, and then, because it
-- may have been recorded before the attempt that completed, among the processing data.
CREATE FUNCTION provision_manager.mapped_inputs(inputs jsonb, run text, phase smallint, data jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(i.target, found.value) FILTER (WHERE found.value IS NOT NULL), '{}')
      FROM jsonb_to_recordset(inputs) AS i (target text, key text, ord smallint)
      LEFT JOIN provision_manager.activity_output r
        ON r.orch_id = run AND r.phase = mapped_inputs.phase AND r.ord = i.ord
      CROSS JOIN LATERAL (SELECT coalesce(r.values->i.key, r.outputs->i.key, data->i.key) AS value) found);
END
$$;

-- Tells the agents of activities that are DISPATCHED now: one outbox row for each activity type. Those whose values have to be
-- looked at first go to who does that, with the schema.
CREATE FUNCTION provision_manager.announce_dispatches(keys provision_manager.activity_key[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH sent AS (
    SELECT CASE WHEN n.input_schema IS NULL THEN 'event.cfm.activity.' || n.type ELSE 'event.cfm.inputs' END AS subject,
           jsonb_agg(provision_manager.cloud_event(
             concat_ws('/', a.orch_id, a.phase, a.ord, a.dispatches), 'cfm.activity.dispatch', a.orch_id,
             CASE WHEN n.input_schema IS NULL THEN e.data
                  ELSE e.data || jsonb_build_object('inputSchema', n.input_schema) END)) AS events
      FROM unnest(keys) k
      JOIN provision_manager.activity a ON a.orch_id = k.orch_id AND a.phase = k.phase AND a.ord = k.ord
      JOIN provision_manager.orchestration o ON o.id = a.orch_id
      JOIN provision_manager.orchestration_data d ON d.orch_id = a.orch_id
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.ord = a.ord + 0
      CROSS JOIN LATERAL (
        SELECT CASE WHEN n.inputs IS NULL THEN coalesce(d.values, d.input)
                    ELSE provision_manager.mapped_inputs(n.inputs, a.orch_id, a.phase, coalesce(d.values, d.input))
               END AS values) v
      CROSS JOIN LATERAL (
        SELECT jsonb_build_object(
                 'orchestrationId', a.orch_id, 'phase', a.phase, 'ord', a.ord, 'token', a.token,
                 'activityId', n.activity_id, 'activityType', n.type, 'discriminator', o.type,
                 'correlationId', o.correlation_id, 'attempt', a.failures + 1,
                 'deadline', a.dispatched_at + make_interval(secs => n.timeout_seconds),
                 'values', v.values, 'outputs', d.outputs) AS data
        OFFSET 0) e -- made once
     GROUP BY 1)
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT subject, events, clock_timestamp() + lease FROM sent
  RETURNING written.id, written.subject, written.events;
END
$$;

-- Tells whoever started them how these runs have ended; one outbox row. The response to one end always has the same id.
CREATE FUNCTION provision_manager.announce_endings(ids text[], lease interval) RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH ended AS (
    SELECT jsonb_agg(provision_manager.cloud_event(
             gen_random_uuid()::text, 'cfm.orchestration.response', o.id,
             jsonb_build_object(
               'id', md5(concat('response to ', o.id, '#' || nullif(o.retries, 0)))::uuid, 'manifestId', o.id,
               'correlationId', coalesce(nullif(o.correlation_id, ''), o.id), 'orchestrationType', o.type,
               'success', o.state = 'COMPLETED', 'properties', d.outputs)
             || CASE WHEN o.error_detail = '' THEN '{}' ELSE jsonb_build_object('errorDetail', o.error_detail) END
             || CASE o.retries WHEN 0 THEN '{}' ELSE jsonb_build_object('retries', o.retries) END)
             ORDER BY o.id) AS events
      FROM provision_manager.orchestration o
      JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
     WHERE o.id = ANY (ids))
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT 'event.cfm-orchestration-response', events, clock_timestamp() + lease FROM ended WHERE events IS NOT NULL
  RETURNING written.id, written.subject, written.events;
END
$$;

-- Asks for the compensation of failed runs; one outbox row. Its id is derived: however often it is asked for, it runs once.
CREATE FUNCTION provision_manager.announce_compensations(ids text[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH failed AS (
    SELECT jsonb_agg(provision_manager.cloud_event(
             o.id || '.compensate', 'cfm.orchestration.manifest', o.id,
             jsonb_build_object(
               'id', o.id || '.compensate', 'correlationId', o.correlation_id,
               'orchestrationType', 'cfm.orchestration.vpa.dispose', 'payload', coalesce(d.values, d.input)))
             ORDER BY o.id) AS events
      FROM provision_manager.orchestration o
      JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
     WHERE o.id = ANY (ids))
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT 'event.cfm-orchestration', events, clock_timestamp() + lease FROM failed WHERE events IS NOT NULL
  RETURNING written.id, written.subject, written.events;
END
$$;

-- Brings the runs up to date whose compensation is among the ended runs ``ids``; the caller has locked them.
CREATE FUNCTION provision_manager.settle_compensated(ids text[]) RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  UPDATE provision_manager.orchestration o
     SET state = CASE c.state WHEN 'COMPLETED' THEN 'COMPENSATED' ELSE 'COMPENSATION_FAILED' END,
         state_at = clock_timestamp(), version = o.version + 1, resend_at = NULL
    FROM provision_manager.orchestration c
   WHERE c.id = ANY (ids)
     AND o.id = provision_manager.compensated_by(c.id)
     AND o.state = 'COMPENSATING';
END
$$;

-- Whether a run can be undone: the template that it came from, or that its type is started with now, has a dispose definition.
CREATE FUNCTION provision_manager.is_compensable(o provision_manager.orchestration) RETURNS boolean
LANGUAGE sql STABLE
RETURN o.type <> 'cfm.orchestration.vpa.dispose' AND EXISTS (
  SELECT FROM provision_manager.definition x
   WHERE x.type = 'cfm.orchestration.vpa.dispose' AND x.is_current
     AND (x.template_ref = (SELECT d.template_ref FROM provision_manager.definition d WHERE d.id = o.def_id)
          OR x.is_active AND x.template_ref = (
               SELECT d.template_ref
                 FROM provision_manager.definition d
                WHERE d.type = o.type AND d.is_current AND d.is_active
                ORDER BY d.posted DESC
                LIMIT 1)));

-- Whether a run changes a live participant, whose state goes along: such a one must not end because the change has failed.
CREATE FUNCTION provision_manager.changes_live(o provision_manager.orchestration) RETURNS boolean
LANGUAGE sql STABLE
RETURN o.type = 'cfm.orchestration.vpa.deploy' AND EXISTS (
  SELECT FROM provision_manager.orchestration_data i WHERE i.orch_id = o.id AND i.input ? 'cfm.vpa.state');

-- Ends running runs early, each for its reason: what was not sent is cancelled, what was sent may still report, and then the
-- run is undone if ``undoes`` and it can be. ``final`` is its state otherwise. Gives which are to be undone at once.
CREATE FUNCTION provision_manager.fail_runs(
  ids text[], reasons text[], final text, undoes boolean, instant timestamptz)
RETURNS TABLE (orch_id text, undo boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  UPDATE provision_manager.activity a
     SET state = 'CANCELLED', due_at = NULL
   WHERE a.orch_id = ANY (ids) AND a.state IN ('BLOCKED', 'READY', 'BACKOFF', 'WAITING');
  DELETE FROM provision_manager.admission s WHERE s.orch_id = ANY (ids) AND NOT s.in_flight;

  RETURN QUERY
  WITH out_now AS (
    SELECT f.id, f.reason, out_there.n,
           undoes AND provision_manager.is_compensable(o) AND NOT provision_manager.changes_live(o) AS compensable
      FROM unnest(ids, reasons) f (id, reason)
      JOIN provision_manager.orchestration o ON o.id = f.id
      CROSS JOIN LATERAL (
        SELECT count(*)::integer AS n
          FROM provision_manager.activity a
         WHERE a.orch_id = f.id AND a.phase = o.phase AND a.state = 'DISPATCHED') out_there
  )
  UPDATE provision_manager.orchestration o
     SET state = CASE WHEN f.compensable THEN 'COMPENSATING'
                      WHEN final = 'CANCELLED' AND f.n > 0 THEN 'CANCELLING'
                      ELSE final END,
         state_at = instant, version = o.version + 1, error_detail = f.reason, remaining = f.n, paused = false,
         resend_at = CASE WHEN f.compensable AND f.n = 0 THEN instant + interval '1 min' END
    FROM out_now f
   WHERE o.id = f.id
  RETURNING o.id, o.resend_at IS NOT NULL;
END
$$;

-- Sends the activities of these runs that are READY, or queues them. The caller has locked the runs.
CREATE FUNCTION provision_manager.release(ids text[], instant timestamptz, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  sent    provision_manager.activity_key[];
  held    provision_manager.activity_key[];
  crossed text[];
BEGIN
  WITH freed AS (
    UPDATE provision_manager.activity a
       SET state = 'DISPATCHED', dispatches = a.dispatches + 1, unanswered = a.unanswered + 1,
           token = gen_random_uuid(), dispatched_at = instant,
           due_at = instant + provision_manager.lease(n.timeout_seconds)
      FROM provision_manager.orchestration o
      JOIN provision_manager.node n ON n.def_id = o.def_id
     WHERE o.id = ANY (ids) AND NOT o.paused AND NOT n.gated
       AND a.orch_id = o.id AND a.phase = o.phase AND a.ord = n.ord AND a.state = 'READY'
    RETURNING a.orch_id, a.phase, a.ord)
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) INTO sent FROM freed;
  IF sent IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_dispatches(sent, lease);
  END IF;
  SELECT array_agg((a.orch_id, a.phase, a.ord)::provision_manager.activity_key)
    INTO held
    FROM provision_manager.orchestration o
    JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = o.phase
   WHERE o.id = ANY (ids) AND a.state = 'READY';
  IF held IS NOT NULL THEN
    crossed := provision_manager.enqueue(held, instant);
    RETURN QUERY SELECT * FROM provision_manager.admit(crossed, lease);
  END IF;
END
$$;

-- Carries out moves: completes, unlocks, dispatches, fails, ends runs, writes the history and the outbox.
CREATE FUNCTION provision_manager.advance(
  moves provision_manager.move[], instant timestamptz, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  sent    provision_manager.activity_key[];
  kids    provision_manager.activity_key[];
  held    provision_manager.activity_key[];
  waiting provision_manager.activity_key[];
  crossed text[];
  failing text[];
  reasons text[];
  ended   text[];
  undone  text[];
BEGIN
  -- The processing data first, so that what is dispatched below carries it. The last word on each key counts.
  IF EXISTS (SELECT FROM unnest(moves) m
              WHERE m.values IS NOT NULL OR m.deleted IS NOT NULL OR m.outputs IS NOT NULL) THEN
    WITH said AS (
      SELECT m.pos, m.orch_id, 'value' AS what, e.key, e.value FROM unnest(moves) m, jsonb_each(m.values) e
       UNION ALL
      SELECT m.pos, m.orch_id, 'value', d.key, NULL FROM unnest(moves) m, jsonb_array_elements_text(m.deleted) d (key)
       UNION ALL
      SELECT m.pos, m.orch_id, 'output', e.key, e.value FROM unnest(moves) m, jsonb_each(m.outputs) e
    ), last_word AS (
      SELECT DISTINCT ON (orch_id, what, key) orch_id, what, key, value
        FROM said
       ORDER BY orch_id, what, key, pos DESC, value IS NULL
    ), merged AS (
      SELECT orch_id,
             coalesce(array_agg(key) FILTER (WHERE what = 'value' AND value IS NULL), '{}') AS deleted,
             coalesce(jsonb_object_agg(key, value) FILTER (WHERE what = 'value' AND value IS NOT NULL), '{}') AS values,
             coalesce(jsonb_object_agg(key, value) FILTER (WHERE what = 'output'), '{}') AS outputs
        FROM last_word
       GROUP BY orch_id)
    UPDATE provision_manager.orchestration_data d
       SET values = CASE WHEN m.values = '{}' AND m.deleted = '{}' THEN d.values
                         ELSE (coalesce(d.values, d.input) - m.deleted) || m.values END,
           outputs = d.outputs || m.outputs
      FROM merged m
     WHERE d.orch_id = m.orch_id;

    INSERT INTO provision_manager.activity_output (orch_id, phase, ord, values, deleted, outputs)
    SELECT m.orch_id, m.phase, m.ord, m.values, m.deleted, m.outputs
      FROM unnest(moves) m
     WHERE m.state = 'DONE'
       AND (m.values IS NOT NULL OR m.deleted IS NOT NULL OR m.outputs IS NOT NULL);
  END IF;

  WITH told AS (
    INSERT INTO provision_manager.history
      (at, orch_id, phase, ord, kind, dispatch, attempt, dispatched_at, next_at, reason)
    SELECT instant, m.orch_id, m.phase, m.ord, m.kind, a.dispatches, a.failures + 1, a.dispatched_at,
           instant + m.due_in, m.reason
      FROM unnest(moves) m
      JOIN provision_manager.activity a ON a.orch_id = m.orch_id AND a.phase = m.phase AND a.ord = m.ord
     WHERE m.kind IS NOT NULL
  ), moved AS (
    UPDATE provision_manager.activity a
       SET state = m.state,
           due_at = instant + m.due_in,
           failures = a.failures + m.failed,
           dispatches = a.dispatches + CASE m.state WHEN 'DISPATCHED' THEN 1 ELSE 0 END,
           -- One that is only held back has given no sign of life either.
           unanswered = CASE m.state WHEN 'DISPATCHED' THEN a.unanswered + 1 WHEN 'READY' THEN a.unanswered ELSE 0 END,
           token = CASE m.state WHEN 'DISPATCHED' THEN gen_random_uuid() ELSE a.token END,
           dispatched_at = CASE m.state WHEN 'DISPATCHED' THEN instant ELSE a.dispatched_at END
      FROM unnest(moves) m
     WHERE a.orch_id = m.orch_id AND a.phase = m.phase AND a.ord = m.ord
    RETURNING a.orch_id, a.phase, a.ord, a.state)
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED'),
         array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY')
    INTO sent, held
    FROM moved;

  -- Children: deps_left falls in any case, sent are those of runs that go on, unless the run or their type holds them back.
  WITH parents AS (
    SELECT m.orch_id, m.phase, m.def_id, e.to_ord, count(*)::smallint AS done, bool_and(m.open) AS open
      FROM unnest(moves) m
      JOIN provision_manager.def_edge e ON e.def_id = m.def_id AND e.from_ord = m.ord
     WHERE m.state = 'DONE'
     GROUP BY m.orch_id, m.phase, m.def_id, e.to_ord
  ), children AS (
    SELECT p.*, n.timeout_seconds, o.paused OR n.gated AS held
      FROM parents p
      JOIN provision_manager.orchestration o ON o.id = p.orch_id
      JOIN provision_manager.node n ON n.def_id = p.def_id AND n.ord = p.to_ord + 0
  ), unlocked AS (
    UPDATE provision_manager.activity a
       SET deps_left = a.deps_left - c.done,
           (state, due_at, dispatches, unanswered, token, dispatched_at) = (
             SELECT CASE WHEN goes THEN 'DISPATCHED' WHEN free THEN 'READY' ELSE a.state END,
                    CASE WHEN goes THEN instant + provision_manager.lease(c.timeout_seconds) ELSE a.due_at END,
                    a.dispatches + goes::integer,
                    a.unanswered + goes::integer,
                    CASE WHEN goes THEN gen_random_uuid() ELSE a.token END,
                    CASE WHEN goes THEN instant ELSE a.dispatched_at END
               FROM (SELECT c.open AND a.deps_left = c.done AND a.state = 'BLOCKED' AS free) f,
                    LATERAL (SELECT free AND NOT c.held AS goes) g)
      FROM children c
     WHERE a.orch_id = c.orch_id AND a.phase = c.phase AND a.ord = c.to_ord
    RETURNING a.orch_id, a.phase, a.ord, a.state)
  -- No child was out or held before: one that is now has been freed by this.
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED'),
         array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY')
    INTO kids, waiting
    FROM unlocked;

  -- Whatever has moved makes room.
  IF EXISTS (SELECT FROM provision_manager.admission) THEN
    WITH freed AS (
      DELETE FROM provision_manager.admission s
       USING unnest(moves) m
       WHERE s.orch_id = m.orch_id AND s.phase = m.phase AND s.ord = m.ord
      RETURNING s.type)
    SELECT array_agg(DISTINCT type) INTO crossed FROM freed;
  END IF;
  IF held IS NOT NULL OR waiting IS NOT NULL THEN
    crossed := crossed || provision_manager.enqueue(held || waiting, instant);
  END IF;
  IF EXISTS (SELECT FROM unnest(moves) m WHERE m.failed = 1)
     OR EXISTS (SELECT FROM provision_manager.gate g WHERE g.failures > 0) THEN
    crossed := crossed || provision_manager.count_failures(moves, instant);
  END IF;

  -- Runs that go on, end well, or had failed before and lose their last dispatched activity now. The version rises with
  -- whatever a reader of the run sees: its data too.
  WITH ends AS (
    SELECT m.orch_id, bool_and(m.open) AS open,
           count(*) FILTER (WHERE m.state IN ('DONE', 'FAILED', 'CANCELLED'))::integer AS n
      FROM unnest(moves) m
     WHERE (m.state IN ('DONE', 'FAILED', 'CANCELLED')
            OR m.values IS NOT NULL OR m.deleted IS NOT NULL OR m.outputs IS NOT NULL)
       AND (m.open OR NOT m.running)
     GROUP BY m.orch_id
  ), counted AS (
    UPDATE provision_manager.orchestration o
       SET remaining = o.remaining - e.n,
           (state, error_detail) = (
             SELECT CASE WHEN NOT last THEN o.state
                         WHEN o.state = 'CANCELLING' THEN 'CANCELLED'
                         WHEN o.state <> 'RUNNING' THEN o.state
                         WHEN left_out.reason IS NULL THEN 'COMPLETED'
                         ELSE 'ERRORED' END,
                    CASE WHEN last THEN coalesce(left_out.reason, o.error_detail) ELSE o.error_detail END
               FROM (SELECT o.remaining = e.n AS last) l
               LEFT JOIN LATERAL (
                 -- Only where an operator has let some activities be retried can others have failed before.
                 SELECT format('activity %s (%s) was not retried', n.activity_id, n.type) AS reason
                   FROM provision_manager.activity a
                   JOIN provision_manager.node n ON n.def_id = o.def_id AND n.ord = a.ord
                  WHERE last AND o.retries > 0 AND o.state = 'RUNNING'
                    AND a.orch_id = o.id AND a.phase = o.phase AND a.state IN ('FAILED', 'CANCELLED')
                  ORDER BY a.ord
                  LIMIT 1) left_out ON true),
           state_at = CASE WHEN o.state IN ('RUNNING', 'CANCELLING') AND o.remaining = e.n THEN instant ELSE o.state_at END,
           paused = o.paused AND o.remaining <> e.n,
           resend_at = CASE WHEN o.state = 'COMPENSATING' AND o.remaining = e.n THEN instant + interval '1 min'
                            ELSE o.resend_at END,
           version = o.version + 1
      FROM ends e
     WHERE o.id = e.orch_id
    RETURNING o.id, o.state, o.remaining, e.open)
  SELECT array_agg(id) FILTER (WHERE open), array_agg(id) FILTER (WHERE state = 'COMPENSATING')
    INTO ended, undone
    FROM counted
   WHERE remaining = 0;

  -- Runs that fail now: the first reason counts.
  SELECT array_agg(f.orch_id), array_agg(f.reason)
    INTO failing, reasons
    FROM (SELECT DISTINCT ON (m.orch_id) m.orch_id, m.reason
            FROM unnest(moves) m
           WHERE m.running AND m.state = 'FAILED'
           ORDER BY m.orch_id, m.pos, m.ord) f;
  IF failing IS NOT NULL THEN
    SELECT ended || array_agg(f.orch_id), undone || array_agg(f.orch_id) FILTER (WHERE f.undo)
      INTO ended, undone
      FROM provision_manager.fail_runs(failing, reasons, 'ERRORED', true, instant) f;
  END IF;

  IF sent IS NOT NULL OR kids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_dispatches(sent || kids, lease);
  END IF;
  IF ended IS NOT NULL THEN
    PERFORM provision_manager.settle_compensated(ended);
    RETURN QUERY SELECT * FROM provision_manager.announce_endings(ended, lease);
  END IF;
  IF undone IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_compensations(undone, lease);
  END IF;
  IF crossed IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.admit(crossed, lease);
  END IF;
END
$$;

-- Starts a run for each manifest [{"id", "correlationId", "type", "templateRef", "tenantId", "payload"}], no id twice, with the
-- newest active definition of its type, in the template if one is named; what undoes a run, with that run's own template if it
-- has one. A known id starts nothing; if ``answers``, its response is given again where it has ended, and an unknown type is
-- answered with a failure.
CREATE FUNCTION provision_manager.start_orchestrations(manifests jsonb, lease interval, answers boolean)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz := clock_timestamp();
  started text[];
  others  text[];
  compensations text[];
  roots   provision_manager.activity_key[];
  held    provision_manager.activity_key[];
  crossed text[];
BEGIN
  WITH begun AS (
    INSERT INTO provision_manager.orchestration
      (id, def_id, type, correlation_id, tenant_id, remaining, state_at, created_at)
    SELECT m.id, d.id, m.type, m."correlationId", m."tenantId", d.n_nodes, instant, instant
      FROM jsonb_to_recordset(manifests)
        AS m (id text, "correlationId" text, type text, "templateRef" text, "tenantId" text)
      LEFT JOIN provision_manager.orchestration undone ON undone.id = provision_manager.compensated_by(m.id)
      LEFT JOIN provision_manager.definition own ON own.id = undone.def_id
     CROSS JOIN LATERAL (
       SELECT x.id, x.n_nodes
         FROM provision_manager.definition x
        WHERE x.type = m.type AND x.is_current
          AND (x.template_ref = own.template_ref
               OR x.is_active AND x.template_ref = coalesce(nullif(m."templateRef", ''), x.template_ref))
        ORDER BY (x.template_ref = own.template_ref) IS TRUE DESC, x.posted DESC
        LIMIT 1) d
     ORDER BY m.id COLLATE "C"
        ON CONFLICT (id) DO NOTHING
    RETURNING id)
  SELECT coalesce(array_agg(id), '{}') INTO started FROM begun;

  others := ARRAY(SELECT m.id FROM jsonb_to_recordset(manifests) AS m (id text) WHERE m.id <> ALL (started));
  compensations := ARRAY(SELECT s.id FROM unnest(started) s (id) WHERE provision_manager.compensated_by(s.id) IS NOT NULL);
  IF compensations <> '{}' OR answers AND others <> '{}' THEN
    -- All at once: in two rounds they would not be taken in the order of their ids.
    PERFORM provision_manager.lock_runs(compensations || others);
  END IF;

  IF started <> '{}' THEN
    INSERT INTO provision_manager.orchestration_data (orch_id, input)
    SELECT m.id, m.payload
      FROM jsonb_to_recordset(manifests) AS m (id text, payload jsonb)
     WHERE m.id = ANY (started);

    WITH born AS (
      INSERT INTO provision_manager.activity
        (orch_id, phase, ord, state, deps_left, dispatches, unanswered, token, dispatched_at, due_at)
      SELECT o.id, o.phase, n.ord,
             CASE WHEN n.n_deps > 0 THEN 'BLOCKED' WHEN n.gated THEN 'READY' ELSE 'DISPATCHED' END, n.n_deps,
             root.n, root.n, CASE root.n WHEN 1 THEN gen_random_uuid() END, CASE root.n WHEN 1 THEN instant END,
             CASE root.n WHEN 1 THEN instant + provision_manager.lease(n.timeout_seconds) END
        FROM unnest(started) s (id)
        JOIN provision_manager.orchestration o ON o.id = s.id
        JOIN provision_manager.node n ON n.def_id = o.def_id
        CROSS JOIN LATERAL (SELECT (n.n_deps = 0 AND NOT n.gated)::integer AS n) root
      RETURNING orch_id, phase, ord, state)
    SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED'),
           array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY')
      INTO roots, held
      FROM born;

    IF compensations <> '{}' THEN
      UPDATE provision_manager.orchestration o
         SET resend_at = NULL
        FROM unnest(compensations) c (id)
       WHERE o.id = provision_manager.compensated_by(c.id) AND o.resend_at IS NOT NULL;
    END IF;

    IF roots IS NOT NULL THEN
      RETURN QUERY SELECT * FROM provision_manager.announce_dispatches(roots, lease);
    END IF;
    IF held IS NOT NULL THEN
      crossed := provision_manager.enqueue(held, instant);
      RETURN QUERY SELECT * FROM provision_manager.admit(crossed, lease);
    END IF;
  END IF;

  IF answers AND others <> '{}' THEN
    RETURN QUERY SELECT * FROM provision_manager.answer_others(manifests, others, lease);
  END IF;
END
$$;

-- Answers the manifests ``ids`` that have started nothing: ended runs and what has undone them again, unknown types with a
-- failure. The caller has locked the runs.
CREATE FUNCTION provision_manager.answer_others(manifests jsonb, ids text[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  ended text[];
BEGIN
  ended := ARRAY(
    SELECT o.id FROM provision_manager.orchestration o
     WHERE o.id = ANY (ids || ARRAY(SELECT i.id || '.compensate' FROM unnest(ids) i (id))) AND o.state <> 'RUNNING');
  PERFORM provision_manager.settle_compensated(ended);
  RETURN QUERY SELECT * FROM provision_manager.announce_endings(ended, lease);

  RETURN QUERY
  WITH unknown AS (
    SELECT m.*
      FROM jsonb_to_recordset(manifests) AS m (id text, "correlationId" text, type text, "templateRef" text)
     WHERE m.id = ANY (ids)
       AND NOT EXISTS (SELECT FROM provision_manager.orchestration o WHERE o.id = m.id)
  ), never_undone AS (
    UPDATE provision_manager.orchestration o
       SET state = 'COMPENSATION_FAILED', state_at = clock_timestamp(), version = o.version + 1, resend_at = NULL
      FROM unknown u
     WHERE o.id = provision_manager.compensated_by(u.id) AND o.state = 'COMPENSATING'
  ), refused AS (
    SELECT jsonb_agg(provision_manager.cloud_event(
             gen_random_uuid()::text, 'cfm.orchestration.response', u.id,
             jsonb_build_object(
               'id', md5('response to ' || u.id)::uuid, 'manifestId', u.id,
               'correlationId', coalesce(nullif(u."correlationId", ''), u.id), 'orchestrationType', u.type,
               'success', false, 'errorDetail',
               format('there is no active orchestration type %s', u.type)
               || coalesce(' in template ' || nullif(u."templateRef", ''), ''),
               'properties', '{}'::jsonb))) AS events
      FROM unknown u)
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT 'event.cfm-orchestration-response', events, clock_timestamp() + lease FROM refused WHERE events IS NOT NULL
  RETURNING written.id, written.subject, written.events;
END
$$;

-- Takes in outcomes [{"orchestrationId", "phase", "ord", "token", "kind", "after" (seconds), "reason", "values", "deleted",
-- "outputs", "told" (what the history calls it, if not by its kind), "checked"}]. An outcome counts if its token is that of the
-- activity's last dispatch, and nothing has been heard of it. What completes an activity with an output schema is left as it was
-- until it comes ``checked``: the last row, which has no id, then holds [{"place" (in the batch), "schema", "known" (what the
-- schema requires and the processing data have)}].
CREATE FUNCTION provision_manager.record_outcomes(outcomes jsonb, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz;
  moves   provision_manager.move[];
  held    jsonb;
BEGIN
  -- What is read from here on is fresh, and stays so until the end.
  PERFORM provision_manager.lock_runs(ARRAY(SELECT o->>'orchestrationId' FROM jsonb_array_elements(outcomes) o));
  instant := clock_timestamp();

  WITH heard AS (
    -- Where an agent has said two things about one dispatch, the one that ends it counts.
    SELECT DISTINCT ON (a.orch_id, a.phase, a.ord)
           u.pos, a.orch_id, a.phase, a.ord, o.def_id, o.state = 'RUNNING' AS running, u.kind, a.failures, u.after,
           u.told, u.kind = 'complete' AND n.output_schema IS NOT NULL AND u.checked IS NOT TRUE AS held, n.output_schema,
           u.reason, u.values, u.deleted, u.outputs, n.max_attempts, n.backoff_seconds, n.backoff_limit_seconds,
           n.activity_id, n.type, u.kind = 'retry' AND a.failures + 1 >= n.max_attempts AS exhausted
      FROM ROWS FROM (jsonb_to_recordset(outcomes) AS
             ("orchestrationId" text, phase smallint, ord smallint, token text, kind text, after double precision,
              reason text, values jsonb, deleted jsonb, outputs jsonb, told text, checked boolean))
           WITH ORDINALITY
             AS u (orch_id, phase, ord, token, kind, after, reason, values, deleted, outputs, told, checked, pos)
      JOIN provision_manager.orchestration o ON o.id = u.orch_id AND o.phase = u.phase
      JOIN provision_manager.activity a
        ON a.orch_id = u.orch_id AND a.phase = u.phase AND a.ord = u.ord AND a.token::text = u.token
       AND (a.state = 'DISPATCHED' OR a.state = 'WAITING' AND u.kind <> 'wait')
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.ord = u.ord + 0
     ORDER BY a.orch_id, a.phase, a.ord,
              array_position(ARRAY['complete', 'fatal', 'retry', 'schedule', 'wait'], u.kind), u.pos
  ), decided AS (
    SELECT h.*,
           CASE WHEN kind = 'complete' THEN 'DONE'
                WHEN kind = 'fatal' OR exhausted THEN 'FAILED'
                WHEN NOT running THEN 'CANCELLED'
                WHEN kind = 'wait' THEN 'WAITING'
                ELSE 'BACKOFF' END AS state
      FROM heard h
     WHERE NOT held
  ), seen AS (
    SELECT d.*, running AND NOT bool_or(state = 'FAILED') OVER (PARTITION BY orch_id) AS open FROM decided d
  )
  SELECT array_agg((
           pos, orch_id, phase, ord, def_id, running, open, coalesce(told, kind), state,
           CASE WHEN state = 'WAITING' THEN make_interval(secs => coalesce(after, 86400))
                WHEN state = 'BACKOFF' AND kind = 'schedule' THEN make_interval(secs => coalesce(after, backoff_seconds))
                WHEN state = 'BACKOFF' THEN make_interval(secs => coalesce(
                  after, random() * least(backoff_limit_seconds, backoff_seconds * 2 ^ least(failures, 60)))) END,
           CASE kind WHEN 'retry' THEN 1 ELSE 0 END,
           CASE WHEN exhausted
                THEN format('activity %s (%s) failed after %s attempts: %s', activity_id, type, failures + 1, reason)
                WHEN kind = 'fatal' THEN format('activity %s (%s): %s', activity_id, type, reason)
                ELSE reason END,
           values, deleted, outputs)::provision_manager.move
         ORDER BY orch_id, phase, ord),
         (SELECT jsonb_agg(jsonb_build_object(
                   'place', h.pos - 1, 'schema', h.output_schema, 'known', (
                     SELECT coalesce(jsonb_object_agg(k.key, coalesce(d.values, d.input)->k.key), '{}')
                       FROM jsonb_array_elements_text(h.output_schema->'required') k (key)
                      WHERE coalesce(d.values, d.input) ? k.key)))
            FROM heard h
            JOIN provision_manager.orchestration_data d ON d.orch_id = h.orch_id
           WHERE h.held)
    INTO moves, held
    FROM seen;

  IF coalesce(cardinality(moves), 0) + coalesce(jsonb_array_length(held), 0) < jsonb_array_length(outcomes) THEN
    INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind, reason)
    SELECT instant, u.orch_id, u.phase, u.ord, 'fenced: ' || u.kind, u.reason
      FROM ROWS FROM (jsonb_to_recordset(outcomes) AS
             ("orchestrationId" text, phase smallint, ord smallint, kind text, reason text))
           WITH ORDINALITY AS u (orch_id, phase, ord, kind, reason, pos)
     WHERE u.pos <> ALL (ARRAY(SELECT m.pos FROM unnest(moves) m))
       AND u.pos - 1 <> ALL (ARRAY(SELECT (h->'place')::bigint FROM jsonb_array_elements(held) h));
  END IF;
  IF moves IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.advance(moves, instant, lease);
  END IF;
  IF held IS NOT NULL THEN
    RETURN QUERY SELECT NULL::bigint, 'outputs to be checked', held;
  END IF;
END
$$;

-- Takes care of up to ``most`` activities that are overdue; of those of the runs ``among``, unless that is null. Runs that
-- somebody else holds are left to the next time, therefore this never waits for anybody.
CREATE FUNCTION provision_manager.sweep_activities(most integer, lease interval, among text[])
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz := clock_timestamp();
  ids     text[];
  parents text[];
  held    text[];
  moves   provision_manager.move[];
  late    text[];
BEGIN
  WITH locked AS (
    SELECT o.id
      FROM provision_manager.activity a
      JOIN provision_manager.orchestration o ON o.id = a.orch_id
     WHERE a.due_at <= instant AND (among IS NULL OR a.orch_id = ANY (among))
     ORDER BY a.due_at
     LIMIT most
       FOR UPDATE OF o SKIP LOCKED)
  SELECT array_agg(DISTINCT id) INTO ids FROM locked;

  IF ids IS NOT NULL THEN
    -- Whatever has happened to these runs was before this.
    instant := clock_timestamp();
    parents := ARRAY(SELECT provision_manager.compensated_by(id) FROM unnest(ids) id WHERE id LIKE '%.compensate');
    IF parents <> '{}' THEN
      WITH locked AS (
        SELECT o.id FROM provision_manager.orchestration o WHERE o.id = ANY (parents) FOR UPDATE SKIP LOCKED)
      SELECT coalesce(array_agg(id), '{}') INTO held FROM locked;
      ids := ARRAY(
        SELECT i.id
          FROM unnest(ids) i (id)
         WHERE provision_manager.compensated_by(i.id) = ANY (held)
            OR NOT EXISTS (SELECT FROM provision_manager.orchestration o
                            WHERE o.id = provision_manager.compensated_by(i.id)));
    END IF;

    WITH decided AS (
      SELECT a.orch_id, a.phase, a.ord, o.def_id, o.state = 'RUNNING' AS running, n.timeout_seconds,
             CASE a.state WHEN 'DISPATCHED' THEN 'lease over' WHEN 'WAITING' THEN 'wait over' END AS kind,
             CASE WHEN o.state <> 'RUNNING' THEN 'CANCELLED'
                  WHEN a.state = 'WAITING' OR a.state = 'DISPATCHED' AND a.unanswered >= 10 THEN 'FAILED'
                  WHEN o.paused OR n.gated THEN 'READY'
                  ELSE 'DISPATCHED' END AS state,
             CASE WHEN a.state = 'WAITING' THEN format('activity %s (%s): wait timed out', n.activity_id, n.type)
                  WHEN a.state = 'DISPATCHED' AND a.unanswered >= 10
                  THEN format('activity %s (%s): no agent answered for activity type %s', n.activity_id, n.type, n.type)
                  ELSE '' END AS reason
        FROM unnest(ids) i (id)
        JOIN provision_manager.orchestration o ON o.id = i.id
        JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = o.phase AND a.due_at <= instant
        JOIN provision_manager.node n ON n.def_id = o.def_id AND n.ord = a.ord + 0
    ), seen AS (
      SELECT d.*, bool_or(running AND state = 'FAILED') OVER (PARTITION BY orch_id) AS fails FROM decided d
    )
    SELECT array_agg((
             0, orch_id, phase, ord, def_id, running, running AND NOT fails, kind,
             CASE WHEN fails AND state IN ('DISPATCHED', 'READY') THEN 'CANCELLED' ELSE state END,
             CASE WHEN state = 'DISPATCHED' AND NOT fails THEN provision_manager.lease(timeout_seconds) END,
             0, reason, NULL, NULL, NULL)::provision_manager.move
           ORDER BY orch_id, phase, ord)
      INTO moves
      FROM seen;
    IF moves IS NOT NULL THEN
      RETURN QUERY SELECT * FROM provision_manager.advance(moves, instant, lease);
    END IF;
  END IF;

  IF among IS NULL THEN
    WITH locked AS (
      SELECT o.id
        FROM provision_manager.orchestration o
       WHERE o.resend_at <= instant
       ORDER BY o.resend_at
       LIMIT most
         FOR UPDATE SKIP LOCKED
    ), asked AS (
      UPDATE provision_manager.orchestration o
         SET resend_at = instant + interval '1 min'
        FROM locked
       WHERE o.id = locked.id
      RETURNING o.id)
    SELECT array_agg(id) INTO late FROM asked;
    IF late IS NOT NULL THEN
      RETURN QUERY SELECT * FROM provision_manager.announce_compensations(late, lease);
    END IF;
  END IF;
END
$$;

-- What operators do ----------------------------------------------------------------------------------------------------
-- The caller has locked the run, and found that its state allows it.

-- Ends a running run; with its compensation if ``undoes`` and there is one.
CREATE FUNCTION provision_manager.cancel_run(run text, reason text, undoes boolean, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  undone text[];
BEGIN
  SELECT array_agg(f.orch_id) FILTER (WHERE f.undo)
    INTO undone
    FROM provision_manager.fail_runs(ARRAY[run], ARRAY[reason], 'CANCELLED', undoes, clock_timestamp()) f;
  PERFORM provision_manager.settle_compensated(ARRAY[run]);
  RETURN QUERY SELECT * FROM provision_manager.announce_endings(ARRAY[run], lease);
  IF undone IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_compensations(undone, lease);
  END IF;
END
$$;

-- Lets a failed or cancelled run go on with the activities ``ords``, or with all that have not been done. One that has
-- nothing left to do is completed.
CREATE FUNCTION provision_manager.retry_run(run text, ords smallint[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz := clock_timestamp();
  ended   text[];
BEGIN
  UPDATE provision_manager.activity a
     SET state = CASE a.deps_left WHEN 0 THEN 'READY' ELSE 'BLOCKED' END, failures = 0, unanswered = 0
    FROM provision_manager.orchestration o
   WHERE o.id = run AND a.orch_id = o.id AND a.phase = o.phase AND a.state IN ('FAILED', 'CANCELLED')
     AND (ords IS NULL OR a.ord = ANY (ords));

  WITH counted AS (
    UPDATE provision_manager.orchestration o
       SET state = CASE l.n WHEN 0 THEN 'COMPLETED' ELSE 'RUNNING' END, remaining = l.n, retries = o.retries + 1,
           error_detail = '', paused = false, resend_at = NULL, state_at = instant, version = o.version + 1
      FROM (SELECT count(*)::integer AS n
              FROM provision_manager.orchestration r
              JOIN provision_manager.activity a ON a.orch_id = r.id AND a.phase = r.phase
             WHERE r.id = run AND a.state NOT IN ('DONE', 'FAILED', 'CANCELLED')) l
     WHERE o.id = run
    RETURNING o.id, o.state)
  SELECT array_agg(id) FILTER (WHERE state = 'COMPLETED') INTO ended FROM counted;

  UPDATE provision_manager.orchestration o
     SET state = 'COMPENSATING', state_at = instant, version = o.version + 1
   WHERE o.id = provision_manager.compensated_by(run) AND o.state = 'COMPENSATION_FAILED';

  RETURN QUERY SELECT * FROM provision_manager.release(ARRAY[run], instant, lease);
  IF ended IS NOT NULL THEN
    PERFORM provision_manager.settle_compensated(ended);
    RETURN QUERY SELECT * FROM provision_manager.announce_endings(ended, lease);
  END IF;
END
$$;

-- Undoes a run that has ended, once; if that has failed before, what has failed of it is repeated.
CREATE FUNCTION provision_manager.compensate_run(run text, lease interval) RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  instant  timestamptz := clock_timestamp();
  undoable text[];
BEGIN
  IF EXISTS (SELECT FROM provision_manager.orchestration o WHERE o.id = run || '.compensate') THEN
    RETURN QUERY SELECT * FROM provision_manager.retry_run(run || '.compensate', NULL, lease);
    RETURN;
  END IF;
  WITH undone AS (
    UPDATE provision_manager.orchestration o
       SET state = 'COMPENSATING', state_at = instant, version = o.version + 1,
           resend_at = CASE o.remaining WHEN 0 THEN instant + interval '1 min' END
     WHERE o.id = run
    RETURNING o.id, o.remaining)
  SELECT array_agg(id) FILTER (WHERE remaining = 0) INTO undoable FROM undone;
  IF undoable IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_compensations(undoable, lease);
  END IF;
END
$$;

-- Does an activity by hand, as if it had completed.
CREATE FUNCTION provision_manager.resolve_activity(
  run text, place smallint, reason text, recorded jsonb, outputs jsonb, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  moves provision_manager.move[];
BEGIN
  -- One that has ended already is counted once more, so that its end can be counted.
  UPDATE provision_manager.orchestration o
     SET remaining = o.remaining + 1
    FROM provision_manager.activity a
   WHERE o.id = run AND a.orch_id = o.id AND a.phase = o.phase AND a.ord = place AND a.state IN ('FAILED', 'CANCELLED');

  SELECT array_agg((
           0, o.id, o.phase, place, o.def_id, o.state = 'RUNNING', o.state = 'RUNNING', 'resolved', 'DONE', NULL, 0,
           reason, recorded, NULL, outputs)::provision_manager.move)
    INTO moves
    FROM provision_manager.orchestration o
   WHERE o.id = run;
  RETURN QUERY SELECT * FROM provision_manager.advance(moves, clock_timestamp(), lease);
END
$$;

-- Sends an activity at once that waits for its next attempt.
CREATE FUNCTION provision_manager.hasten_activity(run text, place smallint, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  UPDATE provision_manager.activity a
     SET state = 'READY', due_at = NULL
    FROM provision_manager.orchestration o
   WHERE o.id = run AND a.orch_id = o.id AND a.phase = o.phase AND a.ord = place AND a.state = 'BACKOFF';
  RETURN QUERY SELECT * FROM provision_manager.release(ARRAY[run], clock_timestamp(), lease);
END
$$;

-- Forgets what the ended runs with a correlation id have held and told of whom they were about; that they were, and how they
-- ended, stays. Gives how many there were, and the ids of some that have not ended: then nothing is forgotten.
CREATE FUNCTION provision_manager.erase_runs(correlation text, OUT erased integer, OUT going text[])
LANGUAGE plpgsql
AS $$
DECLARE
  ids text[];
BEGIN
  SELECT array_agg(o.id), array_agg(o.id) FILTER (WHERE o.remaining > 0 OR o.resend_at IS NOT NULL)
    INTO ids, going
    FROM (SELECT o.* FROM provision_manager.orchestration o WHERE o.correlation_id = correlation ORDER BY o.id FOR UPDATE) o;
  erased := 0;
  IF ids IS NULL OR going IS NOT NULL THEN
    going := going[1:10];
    RETURN;
  END IF;
  UPDATE provision_manager.orchestration_data d SET input = '{}', values = NULL, outputs = '{}' WHERE d.orch_id = ANY (ids);
  DELETE FROM provision_manager.activity_output a WHERE a.orch_id = ANY (ids);
  UPDATE provision_manager.history h SET reason = '' WHERE h.orch_id = ANY (ids) AND h.reason <> '';
  UPDATE provision_manager.orchestration o
     SET is_erased = true, error_detail = '', version = o.version + 1
   WHERE o.id = ANY (ids) AND NOT o.is_erased;
  GET DIAGNOSTICS erased = ROW_COUNT;
END
$$;
