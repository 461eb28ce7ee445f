-- Orchestrations: what is stored of each run, of what has happened to it, and of what could not be taken in.

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
  paused_above   boolean NOT NULL DEFAULT false,  -- where it is paused: because its parent is
  retries        integer NOT NULL DEFAULT 0,      -- how often an operator has let it go on after its end
  is_erased      boolean NOT NULL DEFAULT false,  -- its data are gone, because they were about a person
  error_detail   text NOT NULL DEFAULT '',
  resend_at      timestamptz,                     -- when its compensation is asked for, first or again; null: it is not
  state_at       timestamptz NOT NULL,
  created_at     timestamptz NOT NULL,
  parent         text COLLATE "C",                -- the run for one of whose activities it was started; null: for none
  parent_phase   smallint,
  parent_ord     smallint,
  element        integer,                         -- the place in the list of elements; null: there is none
  trace_context  jsonb                            -- {"traceparent", "tracestate", "baggage"} of whoever asked for it; null: none
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
  -- as that one is, or will not be any more. Where the run ends first, it is kept for a retry.
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

-- What the engine could not take in, and the trigger not deliver; an operator has to look.
CREATE TABLE provision_manager.dead_letter (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version     integer NOT NULL DEFAULT 0,
  at          timestamptz NOT NULL DEFAULT now(),
  key         text,                               -- of the delivery, so that it is kept once; null: the engine's own
  subject     text NOT NULL,
  target      text NOT NULL DEFAULT '',           -- the function that was to take it
  reason      text NOT NULL,
  deliveries  integer NOT NULL DEFAULT 1,
  event       text,                               -- JSON, which may hold what jsonb refuses
  raw         bytea,                              -- the message, where it is no event
  replayed_at timestamptz,
  CONSTRAINT dead_letter_once UNIQUE (subject, key),
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
