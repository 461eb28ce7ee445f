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
  phase          smallint NOT NULL DEFAULT 0,     -- 1: its own activities are being undone, or have been
  remaining      integer NOT NULL,                -- activities of the phase that have not ended
  paused         boolean NOT NULL DEFAULT false,  -- nothing is sent
  retries        integer NOT NULL DEFAULT 0,      -- how often an operator has let it go on after its end
  is_erased      boolean NOT NULL DEFAULT false,  -- its data are gone, because they were about a person
  error_detail   text NOT NULL DEFAULT '',
  resend_at      timestamptz,                     -- when its compensation is asked for, first or again; null: it is not
  state_at       timestamptz NOT NULL,
  created_at     timestamptz NOT NULL,
  parent         text COLLATE "C",                -- the run for one of whose activities it was started; null: for none
  parent_phase   smallint,
  parent_ord     smallint,
  element        integer                          -- the place in the list of elements; null: there is none
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX orchestration_correlation ON provision_manager.orchestration USING hash (correlation_id);
-- What is searched for: runs that have not ended well, those of a rare type, those of a time. Completed ones are left out of
-- the first, which stays small; the last costs nearly nothing, because runs are stored in the order of their starts. Each
-- other index would cost every run some hundredths of what all its steps do.
CREATE INDEX orchestration_state ON provision_manager.orchestration (state_number, id) WHERE state_number <> 2;
CREATE INDEX orchestration_type ON provision_manager.orchestration (type, def_id); -- with whose help definitions are forgotten
CREATE INDEX orchestration_created ON provision_manager.orchestration USING brin (created_at)
  WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX orchestration_parent ON provision_manager.orchestration (parent, parent_phase, parent_ord) WHERE parent IS NOT NULL;
CREATE INDEX orchestration_resend ON provision_manager.orchestration (resend_at) WHERE resend_at IS NOT NULL;
CREATE INDEX orchestration_ended ON provision_manager.orchestration (state_at) WHERE state_number <> 1; -- to be archived

-- RFC 3339 in UTC, without trailing zeros.
CREATE FUNCTION provision_manager.instant(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
RETURN rtrim(rtrim(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z';

CREATE TABLE provision_manager.orchestration_data (
  orch_id text COLLATE "C" PRIMARY KEY,
  input   jsonb NOT NULL,                         -- the manifest's payload, for ever as it came
  values  jsonb,                                  -- the processing data; null while no activity has changed it
  outputs jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 70);

-- An activity that waits for time to pass has due_at: the earliest of all times at which something has to happen with it. One
-- without is blocked, held back, or has ended. Hence nothing is forgotten.
CREATE TABLE provision_manager.activity (
  orch_id       text COLLATE "C" NOT NULL,
  phase         smallint NOT NULL,
  ord           smallint NOT NULL,
  state         text NOT NULL CONSTRAINT activity_state CHECK (state IN
                  ('BLOCKED', 'READY', 'DISPATCHED', 'WAITING', 'BACKOFF', 'DONE', 'FAILED', 'CANCELLED', 'SKIPPED')),
  deps_left     smallint NOT NULL,
  dispatches    integer NOT NULL DEFAULT 0,      -- how often it was sent
  unanswered    integer NOT NULL DEFAULT 0,      -- of these, since the agent's last sign of life
  failures      integer NOT NULL DEFAULT 0,      -- reported by the agent
  token         uuid,                             -- of the last dispatch
  dispatched_at timestamptz,
  started_at    timestamptz,                      -- the agent's first sign of life since then
  close_by      timestamptz,                      -- all its attempts; null: no matter when
  due_at        timestamptz,
  progress      jsonb,                            -- what the agent has said last of how far it is
  -- How somebody outside has ended it before its agent was heard {"token", "kind", "reason", "values", "outputs"}; counts as soon
  -- as that one is, or will not be any more.
  ending        jsonb,
  PRIMARY KEY (orch_id, phase, ord),
  CONSTRAINT activity_due CHECK (
    (due_at IS NOT NULL) = (state IN ('DISPATCHED', 'WAITING', 'BACKOFF') OR state = 'READY' AND close_by IS NOT NULL))
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

-- The elements that an activity is carried out for, as they were when that began.
CREATE TABLE provision_manager.fan_out (
  orch_id  text COLLATE "C" NOT NULL,
  ord      smallint NOT NULL,
  elements jsonb NOT NULL,
  PRIMARY KEY (orch_id, ord)
);

-- How each dispatch ended; only ever added to, and dropped by the day.
CREATE TABLE provision_manager.history (
  at            timestamptz NOT NULL,
  orch_id       text COLLATE "C" NOT NULL,
  phase         smallint NOT NULL,
  ord           smallint NOT NULL,
  -- An outcome, 'resolved', 'skipped', 'invalid input', 'invalid output', 'lease over', 'heartbeat over', 'wait over', 'time over',
  -- or 'fenced: ' and an outcome.
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
  -- To an activity type, a schedule, a dead letter, or a run, or to one of its activities; '' is what it was not.
  orch_id       text COLLATE "C" NOT NULL DEFAULT '',
  activity_id   text NOT NULL DEFAULT '',
  activity_type text NOT NULL DEFAULT '',
  schedule_id   text COLLATE "C" NOT NULL DEFAULT '',
  dead_letter   text COLLATE "C" NOT NULL DEFAULT '',
  reason        text NOT NULL,                    -- '': nobody is asked for one
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
    || CASE o.schedule_id WHEN '' THEN '' ELSE ',"scheduleId":' || to_json(o.schedule_id)::text END
    || CASE o.dead_letter WHEN '' THEN '' ELSE ',"deadLetterId":' || to_json(o.dead_letter)::text END
    || CASE o.reason WHEN '' THEN '' ELSE ',"reason":' || to_json(o.reason)::text END
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

CREATE INDEX dead_letter_at ON provision_manager.dead_letter (at);

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
-- it has written. Their plans are nested loops over keys whatever the statistics say: batches are small, tables are not. What they
-- look up is cheap, and each row that they read is dear, so that a table which was empty when a plan was made is not read as a whole.
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

-- How long a failed attempt is followed by none: the limit doubles with each failure, and the delay is anywhere below it.
CREATE FUNCTION provision_manager.backoff(failures integer, first_seconds double precision, limit_seconds double precision)
RETURNS interval
LANGUAGE sql VOLATILE
RETURN make_interval(secs => random() * least(limit_seconds, first_seconds * 2 ^ least(failures, 60)));

CREATE FUNCTION provision_manager.cloud_event(id text, type text, orch_id text, data jsonb) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
  'specversion', '1.0', 'id', id, 'source', 'cfm/provision-manager', 'type', type, 'subject', orch_id,
  'datacontenttype', 'application/json', 'data', data);

-- The run that a compensation undoes; null for any other id.
CREATE FUNCTION provision_manager.compensated_by(id text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN id LIKE '%.compensate' THEN left(id, -11) END;

-- Whether activities of a run are sent: those of what it does, or those that undo it.
CREATE FUNCTION provision_manager.goes_on(state text, phase smallint) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN state = CASE phase WHEN 1 THEN 'COMPENSATING' ELSE 'RUNNING' END;

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
CREATE FUNCTION provision_manager.mapped_inputs(inputs jsonb, run text, data jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(i.target, found.value) FILTER (WHERE found.value IS NOT NULL), '{}')
      FROM jsonb_to_recordset(inputs) AS i (target text, key text, ord smallint)
      LEFT JOIN provision_manager.activity_output r
        ON r.orch_id = run AND r.phase = 0 AND r.ord = i.ord
      CROSS JOIN LATERAL (SELECT coalesce(r.values->i.key, r.outputs->i.key, data->i.key) AS value) found);
END
$$;

-- All that an activity of phase 0 has recorded.
CREATE FUNCTION provision_manager.recorded(run text, place smallint) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN coalesce((
    SELECT coalesce(r.values, '{}') || coalesce(r.outputs, '{}')
      FROM provision_manager.activity_output r
     WHERE r.orch_id = run AND r.phase = 0 AND r.ord = place), '{}');
END
$$;

-- What an activity gets of the processing data ``data``; what undoes another one gets what that one has recorded, too.
CREATE FUNCTION provision_manager.values_for(run text, phase smallint, place smallint, inputs jsonb, data jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN CASE WHEN inputs IS NULL THEN data ELSE provision_manager.mapped_inputs(inputs, run, data) END
         || CASE phase WHEN 1 THEN provision_manager.recorded(run, place) ELSE '{}' END;
END
$$;

-- Whether an activity's condition holds for the processing data as they are.
CREATE FUNCTION provision_manager.condition_holds(condition jsonb, run text) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN query.holds(condition, (SELECT coalesce(d.values, d.input)
                                   FROM provision_manager.orchestration_data d
                                  WHERE d.orch_id = run));
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
    SELECT CASE WHEN n.calls THEN 'event.cfm.calls'
                WHEN n.input_schema IS NULL THEN 'event.cfm.activity.' || n.type
                ELSE 'event.cfm.inputs' END AS subject,
           to_jsonb(array_agg(provision_manager.cloud_event( -- for large events many times as fast as jsonb_agg
             concat_ws('/', a.orch_id, a.phase, a.ord, a.dispatches),
             CASE WHEN n.calls THEN 'cfm.activity.call' ELSE 'cfm.activity.dispatch' END, a.orch_id,
             CASE WHEN n.calls OR n.input_schema IS NULL THEN e.data
                  ELSE e.data || jsonb_build_object('inputSchema', n.input_schema) END))) AS events
      FROM unnest(keys) k
      JOIN provision_manager.activity a ON a.orch_id = k.orch_id AND a.phase = k.phase AND a.ord = k.ord
      JOIN provision_manager.orchestration o ON o.id = a.orch_id
      JOIN provision_manager.orchestration_data d ON d.orch_id = a.orch_id
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord + 0
      CROSS JOIN LATERAL (
        SELECT CASE WHEN n.calls THEN '{}'
                    WHEN n.inputs IS NULL AND a.phase <> 1 THEN coalesce(d.values, d.input)
                    ELSE provision_manager.values_for(a.orch_id, a.phase, a.ord, n.inputs, coalesce(d.values, d.input))
               END AS values) v
      CROSS JOIN LATERAL (
        SELECT CASE WHEN n.calls THEN jsonb_build_object('orchestrationId', a.orch_id, 'phase', a.phase, 'ord', a.ord)
               ELSE jsonb_build_object(
                 'orchestrationId', a.orch_id, 'phase', a.phase, 'ord', a.ord, 'token', a.token,
                 'activityId', n.activity_id, 'activityType', n.type,
                 'discriminator', CASE a.phase % 2 WHEN 0 THEN o.type ELSE 'cfm.orchestration.vpa.dispose' END,
                 'correlationId', o.correlation_id, 'attempt', a.failures + 1,
                 'deadline', least(
                   a.dispatched_at + make_interval(secs => coalesce(n.start_seconds, 0) + n.timeout_seconds), a.close_by),
                 'values', v.values, 'outputs', d.outputs)
               -- Whoever has to give a sign of life gets the whole timeout from then on.
               || CASE WHEN n.start_seconds IS NULL THEN '{}'
                       ELSE jsonb_build_object('timeoutSeconds', n.timeout_seconds) END END AS data
        OFFSET 0) e -- made once
     GROUP BY 1)
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT subject, events, clock_timestamp() + lease FROM sent
  RETURNING written.id, written.subject, written.events;
END
$$;

-- Tells whoever started them how these runs have ended, and how those in ``undone`` have been undone by their own activities;
-- one outbox row. The response to one end always has the same id. Archived ones are told of only if ``archived``.
CREATE FUNCTION provision_manager.announce_endings(
  ids text[], undone text[], lease interval, archived boolean DEFAULT false)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH ended AS (
    SELECT to_jsonb(array_agg(provision_manager.cloud_event(
             gen_random_uuid()::text, 'cfm.orchestration.response', o.id,
             jsonb_build_object(
               'id', md5(concat('response to ', r.manifest_id, '#' || nullif(o.retries, 0)))::uuid,
               'manifestId', r.manifest_id, 'correlationId', coalesce(nullif(o.correlation_id, ''), o.id),
               'orchestrationType', r.type, 'success', o.state = r.good, 'properties', o.outputs)
             || CASE WHEN o.error_detail = '' OR o.state = r.good THEN '{}'
                     ELSE jsonb_build_object('errorDetail', o.error_detail) END
             || CASE o.retries WHEN 0 THEN '{}' ELSE jsonb_build_object('retries', o.retries) END)
             ORDER BY r.manifest_id)) AS events
      FROM unnest(ids || undone) WITH ORDINALITY e (id, n)
      CROSS JOIN LATERAL (SELECT e.n > coalesce(cardinality(ids), 0) AS undone) x
      CROSS JOIN LATERAL (
        SELECT o.id, o.type, o.correlation_id, o.state, o.error_detail, o.retries, d.outputs
          FROM provision_manager.orchestration o
          JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
         WHERE o.id = e.id AND o.parent IS NULL
         UNION ALL
        SELECT o.id, o.type, o.correlation_id, o.state, o.error_detail, o.retries, d.outputs
          FROM provision_manager.archived_orchestration o
          JOIN provision_manager.archived_orchestration_data d ON d.orch_id = o.id
         WHERE archived AND o.id = e.id AND o.parent IS NULL) o
      CROSS JOIN LATERAL (
        SELECT CASE WHEN x.undone THEN o.id || '.compensate' ELSE o.id END AS manifest_id,
               CASE WHEN x.undone THEN 'cfm.orchestration.vpa.dispose' ELSE o.type END AS type,
               CASE WHEN x.undone THEN 'COMPENSATED' ELSE 'COMPLETED' END AS good) r
     -- One that has been brought back from the archive just now, and goes on, tells its end when it comes.
     WHERE o.state <> CASE WHEN x.undone THEN 'COMPENSATING' ELSE 'RUNNING' END)
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT 'event.cfm-orchestration-response', events, clock_timestamp() + lease FROM ended WHERE events IS NOT NULL
  RETURNING written.id, written.subject, written.events;
  RETURN QUERY SELECT * FROM provision_manager.announce_to_parents(ids || undone, lease);
END
$$;

-- Has somebody look after activities that are carried out by runs of their own; one outbox row.
CREATE FUNCTION provision_manager.announce_keys(keys provision_manager.activity_key[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE sql
AS $$
  INSERT INTO eventing.outbox AS written (subject, events, claimable_at)
  SELECT 'event.cfm.calls',
         jsonb_agg(provision_manager.cloud_event(
           gen_random_uuid()::text, 'cfm.activity.call', k.orch_id,
           jsonb_build_object('orchestrationId', k.orch_id, 'phase', k.phase, 'ord', k.ord))),
         clock_timestamp() + lease
    FROM unnest(keys) k
  HAVING count(*) > 0
  RETURNING written.id, written.subject, written.events;
$$;

-- Tells those for whose activities ended runs were started, or runs that these have undone.
CREATE FUNCTION provision_manager.announce_to_parents(ids text[], lease interval) RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  keys provision_manager.activity_key[];
BEGIN
  SELECT array_agg(DISTINCT (o.parent, o.parent_phase, o.parent_ord)::provision_manager.activity_key)
    INTO keys
    FROM provision_manager.orchestration o
   WHERE o.id = ANY (ids || ARRAY(SELECT provision_manager.compensated_by(i.id) FROM unnest(ids) i (id)))
     AND o.parent IS NOT NULL;
  IF keys IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_keys(keys, lease);
  END IF;
END
$$;

-- Has the runs ended that were started for activities of runs that have failed.
CREATE FUNCTION provision_manager.announce_calls(ids text[], lease interval) RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  keys provision_manager.activity_key[];
BEGIN
  SELECT array_agg((a.orch_id, a.phase, a.ord)::provision_manager.activity_key)
    INTO keys
    FROM provision_manager.orchestration o
    JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = o.phase AND a.state IN ('DISPATCHED', 'WAITING')
    JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord + 0 AND n.calls
   WHERE o.id = ANY (ids);
  IF keys IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_keys(keys, lease);
  END IF;
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
    SELECT to_jsonb(array_agg(provision_manager.cloud_event(
             o.id || '.compensate', 'cfm.orchestration.manifest', o.id,
             jsonb_build_object(
               'id', o.id || '.compensate', 'correlationId', o.correlation_id,
               'orchestrationType', 'cfm.orchestration.vpa.dispose',
               'payload', coalesce(d.values, d.input) || jsonb_build_object(
                 'cfm.vpa.state', CASE jsonb_typeof(coalesce(d.values, d.input)->'cfm.vpa.state')
                   WHEN 'object' THEN coalesce(d.values, d.input)->'cfm.vpa.state' ELSE '{}' END || d.outputs)))
             ORDER BY o.id)) AS events
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
     AND o.state = 'COMPENSATING' AND o.phase = 0;
END
$$;

-- How a run can be undone: 'manifest' if the template that it came from, or that its type is started with now, has a dispose
-- definition; 'activities' if its activities say what undoes each; null if it cannot.
CREATE FUNCTION provision_manager.way_to_undo(run_type text, run_def_id bigint, run_phase smallint) RETURNS text
LANGUAGE sql STABLE
RETURN CASE
  WHEN run_type = 'cfm.orchestration.vpa.dispose' OR run_phase > 1 THEN NULL
  WHEN EXISTS (
    SELECT FROM provision_manager.definition x
     WHERE x.type = 'cfm.orchestration.vpa.dispose' AND x.is_current
       AND (x.template_ref = (SELECT d.template_ref FROM provision_manager.definition d WHERE d.id = run_def_id)
            OR x.is_active AND x.template_ref = (
                 SELECT d.template_ref
                   FROM provision_manager.definition d
                  WHERE d.type = run_type AND d.is_current AND d.is_active
                  ORDER BY d.posted DESC
                  LIMIT 1))) THEN 'manifest'
  WHEN EXISTS (SELECT FROM provision_manager.def_node n WHERE n.def_id = run_def_id AND n.phase = 1) THEN 'activities'
END;

-- Whether a run changes a live participant, whose state goes along: such a one must not end because the change has failed.
CREATE FUNCTION provision_manager.changes_live(run_type text, input jsonb) RETURNS boolean
LANGUAGE sql STABLE
RETURN run_type = 'cfm.orchestration.vpa.deploy' AND input ? 'cfm.vpa.state';

-- Ends runs early, each for its reason: what was not sent is cancelled, what was sent may still report, and then the run is
-- undone if it can be, and ``undoes``, or, where that is null, its definition says so. ``final`` is its state otherwise. One that
-- is being undone fails to be. Gives which are to be undone at once.
CREATE FUNCTION provision_manager.fail_runs(
  ids text[], reasons text[], final text, undoes boolean, instant timestamptz)
RETURNS TABLE (orch_id text, phase smallint, undo boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
  UPDATE provision_manager.activity a
     SET state = 'CANCELLED', due_at = NULL
   WHERE a.orch_id = ANY (ids) AND a.state IN ('BLOCKED', 'READY', 'BACKOFF', 'WAITING')
     -- What is carried out by runs of its own ends when those have ended.
     AND NOT (a.state = 'WAITING' AND EXISTS (
           SELECT FROM provision_manager.orchestration o
             JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord + 0
            WHERE o.id = a.orch_id AND n.calls));
  DELETE FROM provision_manager.admission s WHERE s.orch_id = ANY (ids) AND NOT s.in_flight;

  RETURN QUERY
  WITH out_now AS (
    SELECT f.id, f.reason, out_there.n, way.compensable AND coalesce(undoes, d.undo = 'auto') AS undone,
           CASE WHEN way.compensable AND undoes IS NULL THEN d.undo_after END AS later
      FROM unnest(ids, reasons) f (id, reason)
      JOIN provision_manager.orchestration o ON o.id = f.id
      JOIN provision_manager.definition d ON d.id = o.def_id
      CROSS JOIN LATERAL (
        SELECT o.phase = 0 AND provision_manager.way_to_undo(o.type, o.def_id, o.phase) IS NOT NULL
                 AND NOT provision_manager.changes_live(o.type, (
                   SELECT i.input FROM provision_manager.orchestration_data i WHERE i.orch_id = o.id)) AS compensable) way
      CROSS JOIN LATERAL (
        SELECT count(*)::integer AS n
          FROM provision_manager.activity a
         WHERE a.orch_id = f.id AND a.phase = o.phase AND a.state IN ('DISPATCHED', 'WAITING')) out_there
  )
  UPDATE provision_manager.orchestration o
     SET state = CASE WHEN o.phase = 1 THEN 'COMPENSATION_FAILED'
                      WHEN f.undone THEN 'COMPENSATING'
                      WHEN final = 'CANCELLED' AND f.n > 0 THEN 'CANCELLING'
                      ELSE final END,
         state_at = instant, version = o.version + 1, remaining = f.n, paused = false,
         error_detail = CASE o.phase WHEN 1 THEN format('%s; not undone: %s', o.error_detail, f.reason) ELSE f.reason END,
         resend_at = CASE WHEN f.undone AND f.n = 0 THEN instant + interval '1 min' ELSE instant + f.later END
    FROM out_now f
   WHERE o.id = f.id
  RETURNING o.id, o.phase, f.undone AND f.n = 0;
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
           token = gen_random_uuid(), dispatched_at = instant, started_at = NULL,
           due_at = least(instant + n.start_in, a.close_by)
      FROM provision_manager.orchestration o
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = o.phase
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

-- Undoes runs that are COMPENSATING and of which nothing is under way any more: asks for what their template has, or takes
-- what undoes their activities, the last ones first. The caller has locked them.
CREATE FUNCTION provision_manager.undo_runs(ids text[], instant timestamptz, lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  by_manifest   text[];
  by_activities text[];
  done          text[];
BEGIN
  SELECT array_agg(o.id) FILTER (WHERE NOT own.ones), array_agg(o.id) FILTER (WHERE own.ones)
    INTO by_manifest, by_activities
    FROM provision_manager.orchestration o
    CROSS JOIN LATERAL (SELECT provision_manager.way_to_undo(o.type, o.def_id, o.phase) IS NOT DISTINCT FROM 'activities' AS ones) own
   WHERE o.id = ANY (ids);
  IF by_manifest IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_compensations(by_manifest, lease);
  END IF;
  IF by_activities IS NULL THEN
    RETURN;
  END IF;

  WITH born AS (
    INSERT INTO provision_manager.activity (orch_id, phase, ord, state, deps_left, close_by, due_at)
    SELECT o.id, n.phase, n.ord, CASE later.n WHEN 0 THEN 'READY' ELSE 'BLOCKED' END, later.n, ready.close_by, ready.close_by
      FROM provision_manager.orchestration o
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = 1
      JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = 0 AND a.ord = n.ord + 0
       AND (a.dispatches > 0 OR a.state = 'DONE')
      CROSS JOIN LATERAL (
        SELECT count(*)::smallint AS n
          FROM provision_manager.def_edge e
          JOIN provision_manager.activity l ON l.orch_id = o.id AND l.phase = 0 AND l.ord = e.from_ord
           AND (l.dispatches > 0 OR l.state = 'DONE')
         WHERE e.def_id = o.def_id AND e.phase = 1 AND e.to_ord = n.ord) later
      CROSS JOIN LATERAL (SELECT CASE later.n WHEN 0 THEN instant + n.close_in END AS close_by) ready
     WHERE o.id = ANY (by_activities)
    RETURNING orch_id
  ), begun AS (
    UPDATE provision_manager.orchestration o
       SET phase = 1, remaining = b.n, resend_at = NULL, version = o.version + 1,
           state = CASE b.n WHEN 0 THEN 'COMPENSATED' ELSE o.state END, state_at = instant
      FROM unnest(by_activities) i (id)
      CROSS JOIN LATERAL (SELECT count(*)::integer AS n FROM born WHERE born.orch_id = i.id) b
     WHERE o.id = i.id
    RETURNING o.id, o.remaining)
  SELECT array_agg(id) FILTER (WHERE remaining = 0) INTO done FROM begun;
  RETURN QUERY SELECT * FROM provision_manager.release(by_activities, instant, lease);
  IF done IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_endings('{}', done, lease);
  END IF;
END
$$;

-- Tells the children of activities that have ended well, or were skipped: each has one parent less to wait for, and is sent when
-- it has none left and its run is among ``going``; or it is held back, or skipped, and then its own children are told. The caller
-- announces what is sent.
CREATE FUNCTION provision_manager.unlock(
  ended provision_manager.activity_key[], going text[], instant timestamptz,
  OUT sent provision_manager.activity_key[], OUT held provision_manager.activity_key[],
  OUT skipped provision_manager.activity_key[])
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  told  provision_manager.activity_key[] := ended;
  round record;
BEGIN
  WHILE told IS NOT NULL LOOP
    WITH parents AS (
      SELECT t.orch_id, t.phase, o.def_id, o.paused, e.to_ord, count(*)::smallint AS done
        FROM unnest(told) t
        JOIN provision_manager.orchestration o ON o.id = t.orch_id
        JOIN provision_manager.def_edge e ON e.def_id = o.def_id AND e.phase = t.phase AND e.from_ord = t.ord
       GROUP BY t.orch_id, t.phase, o.def_id, o.paused, e.to_ord
    ), children AS (
      SELECT p.*, n.start_in, n.close_in, n.condition, p.paused OR n.gated AS held, p.orch_id = ANY (going) AS open
        FROM parents p
        JOIN provision_manager.node n ON n.def_id = p.def_id AND n.phase = p.phase AND n.ord = p.to_ord + 0
    ), unlocked AS (
      UPDATE provision_manager.activity a
         SET deps_left = a.deps_left - c.done,
             (state, due_at, close_by, dispatches, unanswered, token, dispatched_at) = (
               SELECT CASE WHEN goes THEN 'DISPATCHED' WHEN skip THEN 'SKIPPED' WHEN free THEN 'READY' ELSE a.state END,
                      CASE WHEN goes THEN instant + least(c.start_in, c.close_in)
                           WHEN free AND NOT skip THEN instant + c.close_in ELSE a.due_at END,
                      CASE WHEN free AND NOT skip THEN instant + c.close_in ELSE a.close_by END,
                      a.dispatches + goes::integer,
                      a.unanswered + goes::integer,
                      CASE WHEN goes THEN gen_random_uuid() ELSE a.token END,
                      CASE WHEN goes THEN instant ELSE a.dispatched_at END
                 FROM (SELECT c.open AND a.deps_left = c.done AND a.state = 'BLOCKED' AS free) f,
                      LATERAL (SELECT free AND c.condition IS NOT NULL
                                      AND NOT provision_manager.condition_holds(c.condition, a.orch_id) AS skip) s,
                      LATERAL (SELECT free AND NOT skip AND NOT c.held AS goes) g)
        FROM children c
       WHERE a.orch_id = c.orch_id AND a.phase = c.phase AND a.ord = c.to_ord
      RETURNING a.orch_id, a.phase, a.ord, a.state)
    -- No child was out, held or skipped before: one that is now has become so by this.
    SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED') AS sent,
           array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY') AS held,
           array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'SKIPPED') AS skipped
      INTO round
      FROM unlocked;
    sent := sent || round.sent;
    held := held || round.held;
    skipped := skipped || round.skipped;
    told := round.skipped;
  END LOOP;
  IF skipped IS NOT NULL THEN
    INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind)
    SELECT instant, s.orch_id, s.phase, s.ord, 'skipped' FROM unnest(skipped) s;
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
  skipped provision_manager.activity_key[];
  crossed text[];
  failing text[];
  reasons text[];
  ended   text[];
  undoing text[];
  undone  text[];
  stopped text[];
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
           CASE WHEN m.due_in IS NOT NULL THEN least(instant + m.due_in, a.close_by) END, m.reason
      FROM unnest(moves) m
      JOIN provision_manager.activity a ON a.orch_id = m.orch_id AND a.phase = m.phase AND a.ord = m.ord
     WHERE m.kind IS NOT NULL
  ), moved AS (
    UPDATE provision_manager.activity a
       SET state = m.state,
           due_at = CASE WHEN m.state NOT IN ('DONE', 'FAILED', 'CANCELLED') THEN least(instant + m.due_in, a.close_by) END,
           failures = a.failures + m.failed,
           dispatches = a.dispatches + CASE m.state WHEN 'DISPATCHED' THEN 1 ELSE 0 END,
           -- One that is only held back has given no sign of life either.
           unanswered = CASE m.state WHEN 'DISPATCHED' THEN a.unanswered + 1 WHEN 'READY' THEN a.unanswered ELSE 0 END,
           -- One that was ended with the token of an earlier dispatch is known by that one to whoever asks again.
           token = CASE WHEN m.state = 'DISPATCHED' THEN gen_random_uuid()
                        WHEN m.state IN ('DONE', 'FAILED') THEN coalesce((a.ending->>'token')::uuid, a.token)
                        ELSE a.token END,
           dispatched_at = CASE m.state WHEN 'DISPATCHED' THEN instant ELSE a.dispatched_at END,
           started_at = CASE m.state WHEN 'DISPATCHED' THEN NULL ELSE a.started_at END,
           ending = CASE WHEN m.state IN ('DONE', 'FAILED') THEN NULL ELSE a.ending END
      FROM unnest(moves) m
     WHERE a.orch_id = m.orch_id AND a.phase = m.phase AND a.ord = m.ord
    RETURNING a.orch_id, a.phase, a.ord, a.state)
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED'),
         array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY')
    INTO sent, held
    FROM moved;

  -- Children: deps_left falls in any case, sent are those of runs that go on, unless the run or their type holds them back.
  SELECT u.sent, u.held, u.skipped
    INTO kids, waiting, skipped
    FROM provision_manager.unlock(
           (SELECT array_agg((m.orch_id, m.phase, m.ord)::provision_manager.activity_key)
              FROM unnest(moves) m WHERE m.state = 'DONE'),
           ARRAY(SELECT m.orch_id FROM unnest(moves) m WHERE m.state = 'DONE' AND m.open), instant) u;

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
           count(*) FILTER (WHERE m.state IN ('DONE', 'FAILED', 'CANCELLED'))::integer
           + (SELECT count(*)::integer FROM unnest(skipped) s WHERE s.orch_id = m.orch_id) AS n
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
                         WHEN o.state = 'RUNNING' THEN CASE WHEN left_out.reason IS NULL THEN 'COMPLETED' ELSE 'ERRORED' END
                         WHEN undoes THEN CASE WHEN left_out.reason IS NULL THEN 'COMPENSATED' ELSE 'COMPENSATION_FAILED' END
                         ELSE o.state END,
                    CASE WHEN left_out.reason IS NULL THEN o.error_detail
                         WHEN undoes THEN format('%s; not undone: %s', o.error_detail, left_out.reason)
                         ELSE left_out.reason END
               FROM (SELECT o.remaining = e.n AS last, o.state = 'COMPENSATING' AND o.phase = 1 AS undoes) l
               LEFT JOIN LATERAL (
                 -- Only where an operator has let some activities be retried can others have failed before.
                 SELECT format('activity %s (%s) was not retried', n.activity_id, n.type) AS reason
                   FROM provision_manager.activity a
                   JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
                  WHERE last AND o.retries > 0 AND (o.state = 'RUNNING' OR undoes)
                    AND a.orch_id = o.id AND a.phase = o.phase AND a.state IN ('FAILED', 'CANCELLED')
                  ORDER BY a.ord
                  LIMIT 1) left_out ON true),
           state_at = CASE WHEN o.remaining = e.n AND (o.state IN ('RUNNING', 'CANCELLING') OR o.phase = 1) THEN instant
                           ELSE o.state_at END,
           paused = o.paused AND o.remaining <> e.n,
           resend_at = CASE WHEN o.state = 'COMPENSATING' AND o.phase = 0 AND o.remaining = e.n
                            THEN instant + interval '1 min' ELSE o.resend_at END,
           version = o.version + 1
      FROM ends e
     WHERE o.id = e.orch_id
    RETURNING o.id, o.state, o.phase, o.remaining, o.parent, e.open)
  SELECT array_agg(id) FILTER (WHERE open AND phase <> 1), array_agg(id) FILTER (WHERE open AND phase = 1),
         array_agg(id) FILTER (WHERE state = 'COMPENSATING'), array_agg(id) FILTER (WHERE NOT open AND parent IS NOT NULL)
    INTO ended, undone, undoing, stopped
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
    SELECT ended || array_agg(f.orch_id) FILTER (WHERE f.phase <> 1), undone || array_agg(f.orch_id) FILTER (WHERE f.phase = 1),
           undoing || array_agg(f.orch_id) FILTER (WHERE f.undo)
      INTO ended, undone, undoing
      FROM provision_manager.fail_runs(failing, reasons, 'ERRORED', NULL, instant) f;
    RETURN QUERY SELECT * FROM provision_manager.announce_calls(failing, lease);
  END IF;

  IF sent IS NOT NULL OR kids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_dispatches(sent || kids, lease);
  END IF;
  IF ended IS NOT NULL OR undone IS NOT NULL THEN
    PERFORM provision_manager.settle_compensated(ended);
    RETURN QUERY SELECT * FROM provision_manager.announce_endings(ended, undone, lease);
  END IF;
  IF undoing IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.undo_runs(undoing, instant, lease);
  END IF;
  IF stopped IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_to_parents(stopped, lease);
  END IF;
  IF crossed IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.admit(crossed, lease);
  END IF;
END
$$;

-- Counts what was skipped outside of a move. Gives the runs that have nothing left to do by that.
CREATE FUNCTION provision_manager.count_skipped(skipped provision_manager.activity_key[], instant timestamptz) RETURNS text[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  ended text[];
BEGIN
  WITH counted AS (
    UPDATE provision_manager.orchestration o
       SET remaining = o.remaining - s.n, version = o.version + 1,
           state = CASE o.remaining WHEN s.n THEN 'COMPLETED' ELSE o.state END,
           state_at = CASE o.remaining WHEN s.n THEN instant ELSE o.state_at END
      FROM (SELECT k.orch_id, count(*)::integer AS n FROM unnest(skipped) k GROUP BY k.orch_id) s
     WHERE o.id = s.orch_id
    RETURNING o.id, o.remaining)
  SELECT array_agg(id) INTO ended FROM counted WHERE remaining = 0;
  RETURN ended;
END
$$;

-- Starts a run for each manifest [{"id", "correlationId", "type", "templateRef", "tenantId", "payload"}], no id twice, with the
-- newest active definition of its type, in the template if one is named; what undoes a run, with that run's own template if it
-- has one; a run for an activity ("parent", "parentPhase", "parentOrd", "element") perhaps with that of its parent ("defId",
-- "phase"). A known id starts nothing; if ``answers``, its response is given again where it has ended, and an unknown type is
-- answered with a failure.
CREATE FUNCTION provision_manager.start_orchestrations(manifests jsonb, lease interval, answers boolean)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET random_page_cost = 0.1
SET cpu_tuple_cost = 1
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz := clock_timestamp();
  started text[];
  others  text[];
  compensations text[];
  roots   provision_manager.activity_key[];
  held    provision_manager.activity_key[];
  skipped provision_manager.activity_key[];
  crossed text[];
  ended   text[];
  further record;
BEGIN
  WITH begun AS (
    INSERT INTO provision_manager.orchestration
      (id, def_id, type, correlation_id, tenant_id, remaining, state_at, created_at, phase,
       parent, parent_phase, parent_ord, element)
    SELECT m.id, d.id, m.type, m."correlationId", m."tenantId", d.n_nodes, instant, instant, coalesce(m.phase, 0),
           m.parent, m."parentPhase", m."parentOrd", m.element
      FROM jsonb_to_recordset(manifests)
        AS m (id text, "correlationId" text, type text, "templateRef" text, "tenantId" text, parent text,
              "parentPhase" smallint, "parentOrd" smallint, element integer, "defId" bigint, phase smallint)
      LEFT JOIN provision_manager.run undone ON undone.id = provision_manager.compensated_by(m.id)
      LEFT JOIN provision_manager.definition own ON own.id = undone.def_id
     CROSS JOIN LATERAL (
       SELECT m."defId" AS id, 1 AS n_nodes WHERE m."defId" IS NOT NULL
        UNION ALL
       (SELECT x.id, x.n_nodes
         FROM provision_manager.definition x
        WHERE m."defId" IS NULL AND x.type = m.type AND x.is_current
          AND (x.template_ref = own.template_ref
               OR x.is_active AND x.template_ref = coalesce(nullif(m."templateRef", ''), x.template_ref))
        ORDER BY (x.template_ref = own.template_ref) IS TRUE DESC, x.posted DESC
        LIMIT 1)) d
     -- What is moved to the archive and back is in one of the two for this statement.
     WHERE NOT EXISTS (SELECT FROM provision_manager.run r WHERE r.id = m.id)
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
        (orch_id, phase, ord, state, deps_left, dispatches, unanswered, token, dispatched_at, close_by, due_at)
      SELECT o.id, o.phase, n.ord,
             CASE WHEN n.n_deps > 0 THEN 'BLOCKED' WHEN skip THEN 'SKIPPED' WHEN n.gated THEN 'READY' ELSE 'DISPATCHED' END,
             n.n_deps, root.n, root.n, CASE root.n WHEN 1 THEN gen_random_uuid() END, CASE root.n WHEN 1 THEN instant END,
             ready.close_by, CASE root.n WHEN 1 THEN least(instant + n.start_in, ready.close_by) ELSE ready.close_by END
        FROM unnest(started) s (id)
        JOIN provision_manager.orchestration o ON o.id = s.id
        JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = o.phase
        CROSS JOIN LATERAL (SELECT n.n_deps = 0 AND n.condition IS NOT NULL
                                   AND NOT provision_manager.condition_holds(n.condition, o.id) AS skip) looked
        CROSS JOIN LATERAL (SELECT (n.n_deps = 0 AND NOT skip AND NOT n.gated)::integer AS n) root
        CROSS JOIN LATERAL (SELECT CASE WHEN n.n_deps = 0 AND NOT skip THEN instant + n.close_in END AS close_by) ready
      RETURNING orch_id, phase, ord, state)
    SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED'),
           array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY'),
           array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'SKIPPED')
      INTO roots, held, skipped
      FROM born;

    IF skipped IS NOT NULL THEN
      INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind)
      SELECT instant, s.orch_id, s.phase, s.ord, 'skipped' FROM unnest(skipped) s;
      further := provision_manager.unlock(skipped, started, instant);
      roots := roots || further.sent;
      held := held || further.held;
      ended := provision_manager.count_skipped(skipped || further.skipped, instant);
    END IF;

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
    IF ended IS NOT NULL THEN
      PERFORM provision_manager.settle_compensated(ended);
      RETURN QUERY SELECT * FROM provision_manager.announce_endings(ended, NULL, lease);
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
    SELECT o.id FROM provision_manager.run o
     WHERE o.id = ANY (ids || ARRAY(SELECT i.id || '.compensate' FROM unnest(ids) i (id))) AND o.state <> 'RUNNING');
  PERFORM provision_manager.settle_compensated(ended);
  RETURN QUERY SELECT * FROM provision_manager.announce_endings(
    ended,
    ARRAY(SELECT o.id FROM provision_manager.run o
           WHERE o.id = ANY (ids) AND o.phase = 1 AND o.state <> 'COMPENSATING'), lease, true);

  RETURN QUERY
  WITH unknown AS (
    SELECT m.*
      FROM jsonb_to_recordset(manifests) AS m (id text, "correlationId" text, type text, "templateRef" text)
     WHERE m.id = ANY (ids)
       AND NOT EXISTS (SELECT FROM provision_manager.run o WHERE o.id = m.id)
  ), never_undone AS (
    UPDATE provision_manager.orchestration o
       SET state = 'COMPENSATION_FAILED', state_at = clock_timestamp(), version = o.version + 1, resend_at = NULL
      FROM unknown u
     WHERE o.id = provision_manager.compensated_by(u.id) AND o.state = 'COMPENSATING' AND o.phase = 0
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

-- Takes in outcomes [{"orchestrationId", "phase", "ord", "token", "kind", "begun", "after" (seconds), "reason", "values", "deleted",
-- "outputs", "told" (what the history calls it, if not by its kind), "checked", "outside" (somebody else than the agent says it)}].
-- An outcome counts if its token is that of the activity's last dispatch, and nothing has been heard of it. One from outside comes
-- too early where the agent has not been heard yet: it is kept as the activity's ``ending``. What completes an activity with an output schema is left as it was
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
SET random_page_cost = 0.1
SET cpu_tuple_cost = 1
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz;
  moves   provision_manager.move[];
  held    jsonb;
  kept    bigint[];
BEGIN
  -- What is read from here on is fresh, and stays so until the end.
  PERFORM provision_manager.lock_runs(ARRAY(SELECT o->>'orchestrationId' FROM jsonb_array_elements(outcomes) o));
  instant := clock_timestamp();

  WITH heard AS (
    -- Where an agent has said two things about one dispatch, the one that ends it counts.
    SELECT DISTINCT ON (a.orch_id, a.phase, a.ord)
           u.pos, a.orch_id, a.phase, a.ord, o.def_id, provision_manager.goes_on(o.state, o.phase) AS running, u.kind, a.failures, u.after,
           u.told, u.token, u.begun, u.reason, u.values, u.deleted, u.outputs, a.ending,
           u.kind = 'complete' AND n.output_schema IS NOT NULL AND u.checked IS NOT TRUE AND a.ending IS NULL AS held,
           u.outside IS TRUE AND a.state = 'DISPATCHED' AS early, n.output_schema,
           n.max_attempts, n.backoff_seconds, n.backoff_limit_seconds, n.wait_seconds,
           n.activity_id, n.type, u.kind = 'retry' AND a.failures + 1 >= n.max_attempts AS exhausted
      FROM ROWS FROM (jsonb_to_recordset(outcomes) AS
             ("orchestrationId" text, phase smallint, ord smallint, token text, kind text, after double precision,
              reason text, values jsonb, deleted jsonb, outputs jsonb, told text, checked boolean, outside boolean,
              begun boolean))
           WITH ORDINALITY
             AS u (orch_id, phase, ord, token, kind, after, reason, values, deleted, outputs, told, checked, outside, begun, pos)
      JOIN provision_manager.orchestration o ON o.id = u.orch_id AND o.phase = u.phase
      JOIN provision_manager.activity a
        ON a.orch_id = u.orch_id AND a.phase = u.phase AND a.ord = u.ord AND a.token::text = u.token
       AND (a.state = 'DISPATCHED' AND (u.outside IS NOT TRUE OR a.ending IS NULL)
            OR a.state = 'WAITING' AND u.kind <> 'wait')
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = u.phase AND n.ord = u.ord + 0
     ORDER BY a.orch_id, a.phase, a.ord,
              array_position(ARRAY['complete', 'fatal', 'retry', 'schedule', 'wait'], u.kind), u.pos
  ), early AS (
    UPDATE provision_manager.activity a
       SET ending = jsonb_build_object('token', h.token, 'kind', h.kind, 'reason', h.reason,
                                       'values', coalesce(h.values, '{}'), 'outputs', coalesce(h.outputs, '{}'))
      FROM heard h
     WHERE h.early AND NOT h.held AND a.orch_id = h.orch_id AND a.phase = h.phase AND a.ord = h.ord
    RETURNING h.pos
  ), joined AS (
    -- What somebody outside has said before counts now, over what the agent has recorded; but for one that is to be tried again,
    -- or was not begun, whose records may be missing.
    SELECT h.pos, h.orch_id, h.phase, h.ord, h.def_id, h.running, h.failures, h.after, h.deleted, h.activity_id, h.type,
           h.backoff_seconds, h.backoff_limit_seconds, h.wait_seconds, x.*
      FROM heard h
      CROSS JOIN LATERAL (
        SELECT h.ending IS NOT NULL
               AND (h.kind <> 'retry' AND h.begun IS NOT FALSE OR h.exhausted OR NOT h.running OR h.ending->>'kind' = 'fatal') AS ends) e
      CROSS JOIN LATERAL (
        SELECT h.kind, h.told, h.reason, h.exhausted, h.values, h.outputs WHERE NOT e.ends
         UNION ALL
        SELECT h.ending->>'kind', NULL, h.ending->>'reason', false,
               coalesce(h.values, '{}') || (h.ending->'values'), coalesce(h.outputs, '{}') || (h.ending->'outputs')
         WHERE e.ends) x
     WHERE NOT h.held AND NOT h.early
  ), decided AS (
    SELECT j.*,
           CASE WHEN kind = 'complete' THEN 'DONE'
                WHEN kind = 'fatal' OR exhausted THEN 'FAILED'
                WHEN NOT running THEN 'CANCELLED'
                WHEN kind = 'wait' THEN 'WAITING'
                ELSE 'BACKOFF' END AS state
      FROM joined j
  ), seen AS (
    SELECT d.*, running AND NOT bool_or(state = 'FAILED') OVER (PARTITION BY orch_id) AS open FROM decided d
  )
  SELECT array_agg((
           pos, orch_id, phase, ord, def_id, running, open, coalesce(told, kind), state,
           CASE WHEN state = 'WAITING' THEN make_interval(secs => coalesce(after, wait_seconds))
                WHEN state = 'BACKOFF' AND kind = 'schedule' THEN make_interval(secs => coalesce(after, backoff_seconds))
                WHEN state = 'BACKOFF' THEN coalesce(
                  make_interval(secs => after), provision_manager.backoff(failures, backoff_seconds, backoff_limit_seconds)) END,
           CASE kind WHEN 'retry' THEN 1 ELSE 0 END,
           CASE WHEN exhausted
                THEN format('activity %s (%s) failed after %s attempts: %s', activity_id, type, failures + 1, reason)
                WHEN kind = 'fatal' THEN format('activity %s (%s): %s', activity_id, type, reason)
                ELSE reason END,
           nullif(values, '{}'), deleted, nullif(outputs, '{}'))::provision_manager.move
         ORDER BY orch_id, phase, ord),
         (SELECT jsonb_agg(jsonb_build_object(
                   'place', h.pos - 1, 'schema', h.output_schema, 'known', (
                     SELECT coalesce(jsonb_object_agg(k.key, coalesce(d.values, d.input)->k.key), '{}')
                       FROM jsonb_array_elements_text(h.output_schema->'required') k (key)
                      WHERE coalesce(d.values, d.input) ? k.key)))
            FROM heard h
            JOIN provision_manager.orchestration_data d ON d.orch_id = h.orch_id
           WHERE h.held),
         (SELECT array_agg(pos) FROM early)
    INTO moves, held, kept
    FROM seen;

  IF coalesce(cardinality(moves), 0) + coalesce(jsonb_array_length(held), 0) + coalesce(cardinality(kept), 0)
     < jsonb_array_length(outcomes) THEN
    INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind, reason)
    SELECT instant, u.orch_id, u.phase, u.ord, 'fenced: ' || u.kind, u.reason
      FROM ROWS FROM (jsonb_to_recordset(outcomes) AS
             ("orchestrationId" text, phase smallint, ord smallint, kind text, reason text))
           WITH ORDINALITY AS u (orch_id, phase, ord, kind, reason, pos)
     WHERE u.pos <> ALL (ARRAY(SELECT m.pos FROM unnest(moves) m))
       AND u.pos <> ALL (coalesce(kept, '{}'))
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

-- Takes a sign of life from an agent, and what it says of how far it is; null: nothing. Gives until when the next one, or the
-- outcome, has to be there: null where the token is not that of the activity's last dispatch, or the agent has been heard.
CREATE FUNCTION provision_manager.heartbeat(run text, activity text, shown text, said jsonb) RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
  instant timestamptz;
  before  record;
  until   timestamptz;
BEGIN
  PERFORM FROM provision_manager.orchestration o WHERE o.id = run FOR UPDATE;
  instant := clock_timestamp();
  SELECT a.phase, a.ord, coalesce(a.started_at, instant) AS started_at, CASE WHEN a.started_at IS NULL THEN NULL ELSE a.progress END
         AS progress,
         least(instant + n.beat_in, coalesce(a.started_at, instant) + provision_manager.lease(n.timeout_seconds), a.close_by)
         AS due_at
    INTO before
    FROM provision_manager.orchestration o
    JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = o.phase AND n.activity_id = activity
    JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = o.phase AND a.ord = n.ord
   WHERE o.id = run AND a.state = 'DISPATCHED' AND a.token::text = shown;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE provision_manager.activity a
     SET started_at = before.started_at, due_at = before.due_at, unanswered = 0, progress = coalesce(said, before.progress)
   WHERE a.orch_id = run AND a.phase = before.phase AND a.ord = before.ord
  RETURNING a.due_at INTO until;
  IF said IS DISTINCT FROM before.progress AND said IS NOT NULL THEN
    UPDATE provision_manager.orchestration o SET version = o.version + 1 WHERE o.id = run;
  END IF;
  RETURN until;
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
SET random_page_cost = 0.1
SET cpu_tuple_cost = 1
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz := clock_timestamp();
  ids     text[];
  parents text[];
  held    text[];
  called  provision_manager.activity_key[];
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

    -- What is carried out by runs of its own has no time to be over; somebody looks after it again.
    WITH called AS (
      UPDATE provision_manager.activity a
         SET due_at = instant + interval '1 min'
        FROM unnest(ids) i (id)
        JOIN provision_manager.orchestration o ON o.id = i.id
        JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = o.phase AND n.calls
       WHERE a.orch_id = o.id AND a.phase = o.phase AND a.ord = n.ord AND a.due_at <= instant
      RETURNING a.orch_id, a.phase, a.ord)
    SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) INTO called FROM called;
    IF called IS NOT NULL THEN
      RETURN QUERY SELECT * FROM provision_manager.announce_keys(called, lease);
    END IF;

    WITH late AS (
      SELECT a.orch_id, a.phase, a.ord, o.def_id, g.running, n.start_in, n.activity_id, n.type, a.failures,
             n.backoff_seconds, n.backoff_limit_seconds, o.paused OR n.gated AS held,
             a.close_by <= instant AS closes, a.started_at IS NOT NULL AS started,
             a.unanswered >= 10 AS unanswered, a.failures + 1 >= n.max_attempts AS last, a.ending, a.state AS was,
             CASE WHEN a.close_by <= instant THEN 'time over' WHEN a.state = 'WAITING' THEN 'wait over'
                  WHEN a.state = 'DISPATCHED' AND a.started_at IS NOT NULL THEN 'heartbeat over'
                  WHEN a.state = 'DISPATCHED' THEN 'lease over' END AS kind
        FROM unnest(ids) i (id)
        JOIN provision_manager.orchestration o ON o.id = i.id
        CROSS JOIN LATERAL (SELECT provision_manager.goes_on(o.state, o.phase) AS running) g
        JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = o.phase AND a.due_at <= instant
        JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord + 0
       WHERE a.state <> 'READY' OR a.close_by <= instant
    ), decided AS (
      SELECT l.*, l.was = 'DISPATCHED' AND l.started AND NOT coalesce(l.closes, false) AS silent,
             CASE WHEN NOT running THEN 'CANCELLED'
                  WHEN closes OR was = 'WAITING' THEN 'FAILED'
                  -- An attempt that had begun has failed; one of which nobody knows was perhaps never heard of.
                  WHEN was = 'DISPATCHED' AND started THEN CASE WHEN last THEN 'FAILED' ELSE 'BACKOFF' END
                  WHEN was = 'DISPATCHED' AND unanswered THEN 'FAILED'
                  WHEN held THEN 'READY'
                  ELSE 'DISPATCHED' END AS state
        FROM late l
    ), told AS (
      -- What somebody outside has said counts where the agent will not be heard any more.
      SELECT d.*, d.ending IS NOT NULL AND (d.state IN ('FAILED', 'CANCELLED') OR d.ending->>'kind' = 'fatal') AS ends
        FROM decided d
    ), concluded AS (
      SELECT t.orch_id, t.phase, t.ord, t.def_id, t.running, t.start_in, x.*
        FROM told t
        CROSS JOIN LATERAL (
          SELECT t.kind, t.state,
                 CASE WHEN t.state = 'DISPATCHED' THEN t.start_in
                      WHEN t.state = 'BACKOFF'
                      THEN provision_manager.backoff(t.failures, t.backoff_seconds, t.backoff_limit_seconds) END AS due_in,
                 (t.running AND t.silent)::integer AS failed,
                 CASE WHEN NOT t.running THEN ''
                      WHEN t.closes THEN format('activity %s (%s): schedule to close timed out', t.activity_id, t.type)
                      WHEN t.was = 'WAITING' THEN format('activity %s (%s): wait timed out', t.activity_id, t.type)
                      WHEN t.silent AND t.last
                      THEN format('activity %s (%s) failed after %s attempts: its agent fell silent',
                                  t.activity_id, t.type, t.failures + 1)
                      WHEN t.silent THEN 'its agent fell silent'
                      WHEN t.state = 'FAILED'
                      THEN format('activity %s (%s): no agent answered for activity type %s', t.activity_id, t.type, t.type)
                      ELSE '' END AS reason,
                 NULL::jsonb AS values, NULL::jsonb AS outputs
           WHERE NOT t.ends
           UNION ALL
          SELECT t.ending->>'kind', CASE t.ending->>'kind' WHEN 'complete' THEN 'DONE' ELSE 'FAILED' END, NULL, 0,
                 CASE t.ending->>'kind' WHEN 'complete' THEN t.ending->>'reason'
                      ELSE format('activity %s (%s): %s', t.activity_id, t.type, t.ending->>'reason') END,
                 nullif(t.ending->'values', '{}'), nullif(t.ending->'outputs', '{}')
           WHERE t.ends) x
    ), seen AS (
      SELECT c.*, bool_or(running AND state = 'FAILED') OVER (PARTITION BY orch_id) AS fails FROM concluded c
    )
    SELECT array_agg((
             0, orch_id, phase, ord, def_id, running, running AND NOT fails, kind,
             CASE WHEN fails AND state IN ('DISPATCHED', 'READY') THEN 'CANCELLED' ELSE state END,
             CASE WHEN NOT (fails AND state = 'DISPATCHED') THEN due_in END, failed, reason, values, NULL, outputs
           )::provision_manager.move
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
         SET resend_at = CASE o.remaining WHEN 0 THEN instant + interval '1 min' END,
             -- One that was to be undone a while after it had failed.
             state = 'COMPENSATING',
             state_at = CASE o.state WHEN 'COMPENSATING' THEN o.state_at ELSE instant END,
             version = CASE o.state WHEN 'COMPENSATING' THEN o.version ELSE o.version + 1 END
        FROM locked
       WHERE o.id = locked.id
      RETURNING o.id, o.remaining)
    SELECT array_agg(id) FILTER (WHERE remaining = 0) INTO late FROM asked;
    IF late IS NOT NULL THEN
      RETURN QUERY SELECT * FROM provision_manager.undo_runs(late, instant, lease);
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
  instant timestamptz := clock_timestamp();
  undone  text[];
BEGIN
  SELECT array_agg(f.orch_id) FILTER (WHERE f.undo)
    INTO undone
    FROM provision_manager.fail_runs(ARRAY[run], ARRAY[reason], 'CANCELLED', undoes, instant) f;
  RETURN QUERY SELECT * FROM provision_manager.announce_calls(ARRAY[run], lease);
  PERFORM provision_manager.settle_compensated(ARRAY[run]);
  RETURN QUERY SELECT * FROM provision_manager.announce_endings(ARRAY[run], NULL, lease);
  IF undone IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.undo_runs(undone, instant, lease);
  END IF;
END
$$;

-- Lets a failed or cancelled run go on, or its failed compensation, with the activities ``ords``, or with all that have not been
-- done. One that has nothing left to do has ended well.
CREATE FUNCTION provision_manager.retry_run(run text, ords smallint[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  instant timestamptz := clock_timestamp();
  skipped provision_manager.activity_key[];
  kids    provision_manager.activity_key[];
  ended   text[];
  undone  text[];
BEGIN
  WITH freed AS (
    UPDATE provision_manager.activity a
       SET failures = 0, unanswered = 0,
           (state, close_by, due_at) = (
             -- The condition of one that has never been sent has not been looked at.
             SELECT CASE WHEN free AND skip THEN 'SKIPPED' WHEN free THEN 'READY' ELSE 'BLOCKED' END, c.close_by, c.close_by
               FROM (SELECT a.deps_left = 0 AS free,
                            a.deps_left = 0 AND a.dispatches = 0 AND n.condition IS NOT NULL
                            AND NOT provision_manager.condition_holds(n.condition, run) AS skip) f,
                    LATERAL (SELECT CASE WHEN free AND NOT skip THEN instant + n.close_in END AS close_by) c)
      FROM provision_manager.orchestration o
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = o.phase
     WHERE o.id = run AND a.orch_id = o.id AND a.phase = o.phase AND a.ord = n.ord AND a.state IN ('FAILED', 'CANCELLED')
       AND (ords IS NULL OR a.ord = ANY (ords))
    RETURNING a.orch_id, a.phase, a.ord, a.state)
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) INTO skipped FROM freed WHERE state = 'SKIPPED';
  IF skipped IS NOT NULL THEN
    INSERT INTO provision_manager.history (at, orch_id, phase, ord, kind)
    SELECT instant, s.orch_id, s.phase, s.ord, 'skipped' FROM unnest(skipped) s;
    kids := (SELECT u.sent FROM provision_manager.unlock(skipped, ARRAY[run], instant) u);
  END IF;

  WITH counted AS (
    UPDATE provision_manager.orchestration o
       SET state = CASE WHEN l.n > 0 THEN CASE o.phase WHEN 1 THEN 'COMPENSATING' ELSE 'RUNNING' END
                        ELSE CASE o.phase WHEN 1 THEN 'COMPENSATED' ELSE 'COMPLETED' END END,
           error_detail = CASE o.phase WHEN 1 THEN split_part(o.error_detail, '; not undone: ', 1) ELSE '' END,
           remaining = l.n, retries = o.retries + 1, paused = false, resend_at = NULL, state_at = instant,
           version = o.version + 1
      FROM (SELECT count(*)::integer AS n
              FROM provision_manager.orchestration r
              JOIN provision_manager.activity a ON a.orch_id = r.id AND a.phase = r.phase
             WHERE r.id = run AND a.state NOT IN ('DONE', 'FAILED', 'CANCELLED', 'SKIPPED')) l
     WHERE o.id = run
    RETURNING o.id, o.state)
  SELECT array_agg(id) FILTER (WHERE state = 'COMPLETED'), array_agg(id) FILTER (WHERE state = 'COMPENSATED')
    INTO ended, undone
    FROM counted;

  UPDATE provision_manager.orchestration o
     SET state = 'COMPENSATING', state_at = instant, version = o.version + 1
   WHERE o.id = provision_manager.compensated_by(run) AND o.state = 'COMPENSATION_FAILED' AND o.phase = 0;

  IF kids IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.announce_dispatches(kids, lease);
  END IF;
  RETURN QUERY SELECT * FROM provision_manager.release(ARRAY[run], instant, lease);
  IF ended IS NOT NULL OR undone IS NOT NULL THEN
    PERFORM provision_manager.settle_compensated(ended);
    RETURN QUERY SELECT * FROM provision_manager.announce_endings(ended, undone, lease);
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
  IF EXISTS (SELECT FROM provision_manager.orchestration o WHERE o.id = run AND o.phase = 1) THEN
    RETURN QUERY SELECT * FROM provision_manager.retry_run(run, NULL, lease);
    RETURN;
  ELSIF EXISTS (SELECT FROM provision_manager.orchestration o WHERE o.id = run || '.compensate') THEN
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
    RETURN QUERY SELECT * FROM provision_manager.undo_runs(undoable, instant, lease);
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
           0, o.id, o.phase, place, o.def_id, g.running, g.running, 'resolved', 'DONE', NULL, 0,
           reason, recorded, NULL, outputs)::provision_manager.move)
    INTO moves
    FROM provision_manager.orchestration o
    CROSS JOIN LATERAL (SELECT provision_manager.goes_on(o.state, o.phase) AS running) g
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
     SET state = 'READY', due_at = a.close_by
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
  PERFORM provision_manager.hold_runs(ARRAY(SELECT r.id FROM provision_manager.run r WHERE r.correlation_id = correlation));
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
  UPDATE provision_manager.activity a
     SET progress = NULL, ending = NULL
   WHERE a.orch_id = ANY (ids) AND (a.progress IS NOT NULL OR a.ending IS NOT NULL);
  DELETE FROM provision_manager.fan_out f WHERE f.orch_id = ANY (ids);
  UPDATE provision_manager.history h SET reason = '' WHERE h.orch_id = ANY (ids) AND h.reason <> '';
  UPDATE provision_manager.orchestration o
     SET is_erased = true, error_detail = '', version = o.version + 1
   WHERE o.id = ANY (ids) AND NOT o.is_erased;
  GET DIAGNOSTICS erased = ROW_COUNT;
END
$$;
