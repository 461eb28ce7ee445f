-- The archive: what runs have left behind that ended a while ago. They look as they did, and are found as they were; only the
-- engine, which has the tables of migration 0004 alone, knows nothing of them. Operators bring one back when they change it.

CREATE TABLE provision_manager.archived_orchestration (
  LIKE provision_manager.orchestration INCLUDING DEFAULTS INCLUDING GENERATED,
  PRIMARY KEY (id)
);

CREATE INDEX archived_orchestration_correlation ON provision_manager.archived_orchestration (correlation_id);
-- What users see whose rights have bounds. Among the runs that are not archived yet they are looked for one by one: an index
-- there would cost every run.
CREATE INDEX archived_orchestration_tenant ON provision_manager.archived_orchestration (tenant_id, id);
CREATE INDEX archived_orchestration_state ON provision_manager.archived_orchestration (state_number, id) WHERE state_number <> 2;
CREATE INDEX archived_orchestration_type ON provision_manager.archived_orchestration (type, def_id);
CREATE INDEX archived_orchestration_created ON provision_manager.archived_orchestration (created_at);
CREATE INDEX archived_orchestration_parent ON provision_manager.archived_orchestration (parent, parent_phase, parent_ord)
  WHERE parent IS NOT NULL;
CREATE INDEX archived_orchestration_ended ON provision_manager.archived_orchestration (state_at);

CREATE TABLE provision_manager.archived_orchestration_data (
  LIKE provision_manager.orchestration_data INCLUDING DEFAULTS,
  PRIMARY KEY (orch_id)
);

CREATE TABLE provision_manager.archived_activity (
  LIKE provision_manager.activity INCLUDING DEFAULTS,
  PRIMARY KEY (orch_id, phase, ord)
);

CREATE TABLE provision_manager.archived_activity_output (
  LIKE provision_manager.activity_output,
  PRIMARY KEY (orch_id, phase, ord)
);

CREATE TABLE provision_manager.archived_fan_out (
  LIKE provision_manager.fan_out,
  PRIMARY KEY (orch_id, ord)
);

-- What can be asked about: a run is in the one or in the other place whenever one looks.
CREATE VIEW provision_manager.run AS
SELECT * FROM provision_manager.orchestration UNION ALL SELECT * FROM provision_manager.archived_orchestration;

CREATE VIEW provision_manager.run_data AS
SELECT * FROM provision_manager.orchestration_data UNION ALL SELECT * FROM provision_manager.archived_orchestration_data;

CREATE VIEW provision_manager.run_activity AS
SELECT * FROM provision_manager.activity UNION ALL SELECT * FROM provision_manager.archived_activity;

-- What is listed: runs, and those that are to start, or were to. One that has been started before its time is here twice.
CREATE VIEW provision_manager.entry AS
SELECT o.id, o.version, o.correlation_id, o.tenant_id, o.type, o.state, o.state_number, o.state_at, o.created_at, o.parent,
       NULL::timestamptz AS start_at
  FROM provision_manager.orchestration o
UNION ALL
SELECT o.id, o.version, o.correlation_id, o.tenant_id, o.type, o.state, o.state_number, o.state_at, o.created_at, o.parent,
       NULL::timestamptz
  FROM provision_manager.archived_orchestration o
UNION ALL
SELECT d.id, d.version, d.correlation_id, d.tenant_id, d.type COLLATE "C", d.state,
       (CASE d.state WHEN 'SCHEDULED' THEN 0 ELSE 3 END)::smallint, d.state_at, d.created_at, NULL::text COLLATE "C", d.start_at
  FROM provision_manager.delayed_start d;

-- An orchestration as it is listed.
CREATE FUNCTION provision_manager.entry_json(o provision_manager.entry) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || to_json(o.id)::text || ',"correlationId":' || to_json(o.correlation_id)::text
    || ',"state":' || o.state_number
    || ',"stateTimestamp":"' || provision_manager.instant(o.state_at)
    || '","createdTimestamp":"' || provision_manager.instant(o.created_at)
    || '","orchestrationType":' || to_json(o.type)::text || ',"definitionId":' || to_json(o.type)::text
    || CASE WHEN o.start_at IS NULL THEN ''
            ELSE ',"startAt":"' || provision_manager.instant(o.start_at)
                 || '","status":"' || CASE o.state WHEN 'SCHEDULED' THEN 'queued' ELSE lower(o.state) END || '"' END
    || '}';

-- Whether nothing more happens to a run unless somebody wants it to.
CREATE FUNCTION provision_manager.is_over(o provision_manager.orchestration) RETURNS boolean
LANGUAGE sql STABLE
RETURN o.state IN ('COMPLETED', 'ERRORED', 'CANCELLED', 'COMPENSATED', 'COMPENSATION_FAILED')
   AND o.remaining = 0 AND o.resend_at IS NULL;

-- These runs, and all that have to do with them: what was started for their activities and what for, what they undo and what
-- undoes them. They are archived, brought back and forgotten together.
CREATE FUNCTION provision_manager.family(ids text[]) RETURNS text[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    WITH RECURSIVE kin AS (
      SELECT r.id, r.parent FROM provision_manager.run r WHERE r.id = ANY (ids)
       UNION
      SELECT n.id, n.parent
        FROM kin
        CROSS JOIN LATERAL (
          SELECT r.id, r.parent FROM provision_manager.run r WHERE r.parent = kin.id
           UNION ALL
          SELECT r.id, r.parent
            FROM provision_manager.run r
           WHERE r.id = ANY (ARRAY[kin.parent, kin.id || '.compensate', provision_manager.compensated_by(kin.id)])) n)
    SELECT kin.id FROM kin);
END
$$;

-- Moves all that is stored of these runs from the tables of the engine to the archive, or back, with whatever columns they have.
CREATE FUNCTION provision_manager.move_runs(ids text[], from_prefix text, to_prefix text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  name    text;
  key     text;
  columns text;
BEGIN
  FOREACH name IN ARRAY ARRAY['orchestration', 'orchestration_data', 'activity', 'activity_output', 'fan_out'] LOOP
    key := CASE name WHEN 'orchestration' THEN 'id' ELSE 'orch_id' END;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
      INTO columns
      FROM pg_attribute a
     WHERE a.attrelid = ('provision_manager.' || name)::regclass
       AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    EXECUTE format('WITH gone AS (DELETE FROM provision_manager.%I WHERE %I = ANY ($1) RETURNING %s)
                    INSERT INTO provision_manager.%I (%s) SELECT %s FROM gone ORDER BY %I',
                   from_prefix || name, key, columns, to_prefix || name, columns, columns, key) USING ids;
  END LOOP;
END
$$;

-- Archives families of which the last one ended longer ago than ``after``, until these are ``most`` runs or a few more. Gives how
-- many. What somebody else holds is left to the next time: this waits for nobody, and two at once share the work.
CREATE FUNCTION provision_manager.archive_runs(after interval, most integer) RETURNS integer
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  before timestamptz := now() - after;
  root   text;
  kin    text[];
  held   text[];
  found  text[] := '{}';
BEGIN
  FOR root IN
    SELECT o.id
      FROM provision_manager.orchestration o
     WHERE o.state_number <> 1 AND o.state_at < before AND provision_manager.is_over(o)
       -- Of each family one is looked at, the first ancestor.
       AND o.parent IS NULL
       AND NOT EXISTS (SELECT FROM provision_manager.run u WHERE u.id = provision_manager.compensated_by(o.id))
     ORDER BY o.state_at
  LOOP
    kin := provision_manager.family(ARRAY[root]);
    held := ARRAY(
      SELECT k.id
        FROM provision_manager.orchestration k
       WHERE k.id = ANY (kin) AND k.state_at < before AND provision_manager.is_over(k)
         FOR UPDATE SKIP LOCKED);
    IF NOT EXISTS (SELECT FROM provision_manager.orchestration k WHERE k.id = ANY (kin) AND k.id <> ALL (held)) THEN
      found := found || held;
    END IF;
    EXIT WHEN cardinality(found) >= most;
  END LOOP;
  PERFORM provision_manager.move_runs(found, '', 'archived_');
  RETURN cardinality(found);
END
$$;

-- The runs that go on below these: those that were started for their activities, and for the activities of those.
CREATE FUNCTION provision_manager.running_below(ids text[]) RETURNS text[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    WITH RECURSIVE below AS (
      SELECT i.id COLLATE "C" AS id FROM unnest(ids) i (id)
       UNION ALL
      SELECT o.id FROM below JOIN provision_manager.orchestration o ON o.parent = below.id AND o.state = 'RUNNING')
    SELECT b.id FROM below b);
END
$$;

-- Locks these runs, what they undo, and what undoes them, ``with_below`` also those that go on below them, and brings those back
-- before that are archived. Archived rows are always locked before others, and each in the order of their ids. The caller holds no
-- run yet.
CREATE FUNCTION provision_manager.hold_runs(ids text[], with_below boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  named  text[] := ARRAY(
    SELECT DISTINCT w.id
      FROM unnest(ids) i (id), unnest(ARRAY[i.id, i.id || '.compensate', provision_manager.compensated_by(i.id)]) w (id)
     WHERE w.id IS NOT NULL);
  wanted text[];
  found  text[];
  held   text[];
BEGIN
  LOOP
    BEGIN
      wanted := named || CASE WHEN with_below THEN provision_manager.running_below(ids) END;
      IF EXISTS (SELECT FROM provision_manager.archived_orchestration a WHERE a.id = ANY (wanted)) THEN
        found := ARRAY(
          SELECT a.id
            FROM provision_manager.archived_orchestration a
           WHERE a.id = ANY (provision_manager.family(wanted))
           ORDER BY a.id
             FOR UPDATE);
        PERFORM provision_manager.move_runs(found, 'archived_', '');
      END IF;
      held := ARRAY(SELECT o.id FROM provision_manager.orchestration o WHERE o.id = ANY (wanted) ORDER BY o.id FOR UPDATE);
      wanted := named || CASE WHEN with_below THEN provision_manager.running_below(ids) END;
      EXIT WHEN NOT EXISTS (SELECT FROM provision_manager.run r WHERE r.id = ANY (wanted) AND r.id <> ALL (held));
      -- One has just been archived, or brought back, or started below: again, without holding any.
      RAISE SQLSTATE 'CFM01';
    EXCEPTION WHEN SQLSTATE 'CFM01' THEN
      NULL;
    END;
  END LOOP;
END
$$;

-- Forgets archived families of which the last one ended longer ago than ``kept``, until these are ``most`` runs or a few more.
-- Gives how many. It waits for nobody.
CREATE FUNCTION provision_manager.forget_archived(kept interval, most integer) RETURNS integer
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  before timestamptz := now() - kept;
  root   text;
  kin    text[];
  held   text[];
  found  text[] := '{}';
BEGIN
  FOR root IN
    SELECT a.id
      FROM provision_manager.archived_orchestration a
     WHERE a.state_at < before AND a.parent IS NULL
       AND NOT EXISTS (SELECT FROM provision_manager.run u WHERE u.id = provision_manager.compensated_by(a.id))
     ORDER BY a.state_at
  LOOP
    kin := provision_manager.family(ARRAY[root]);
    held := ARRAY(
      SELECT k.id
        FROM provision_manager.archived_orchestration k
       WHERE k.id = ANY (kin) AND k.state_at < before
         FOR UPDATE SKIP LOCKED);
    IF kin <@ held THEN
      found := found || held;
    END IF;
    EXIT WHEN cardinality(found) >= most;
  END LOOP;
  DELETE FROM provision_manager.archived_fan_out WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_activity_output WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_activity WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_orchestration_data WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_orchestration WHERE id = ANY (found);
  RETURN cardinality(found);
END
$$;
