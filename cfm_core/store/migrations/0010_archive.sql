-- The archive: what runs have left behind that ended a while ago. They look as they did, and are found as they were; only the
-- engine, which has the tables of migration 0003 alone, knows nothing of them. Operators bring one back when they change it.

CREATE TABLE provision_manager.archived_orchestration (
  LIKE provision_manager.orchestration INCLUDING DEFAULTS INCLUDING GENERATED,
  PRIMARY KEY (id)
);

CREATE INDEX archived_orchestration_correlation ON provision_manager.archived_orchestration (correlation_id);
CREATE INDEX archived_orchestration_state ON provision_manager.archived_orchestration (state_number, id) WHERE state_number <> 2;
CREATE INDEX archived_orchestration_type ON provision_manager.archived_orchestration (type, def_id);
CREATE INDEX archived_orchestration_created ON provision_manager.archived_orchestration (created_at);
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

-- What can be asked about: a run is in the one or in the other place whenever one looks.
CREATE VIEW provision_manager.run AS
SELECT * FROM provision_manager.orchestration UNION ALL SELECT * FROM provision_manager.archived_orchestration;

CREATE VIEW provision_manager.run_data AS
SELECT * FROM provision_manager.orchestration_data UNION ALL SELECT * FROM provision_manager.archived_orchestration_data;

CREATE VIEW provision_manager.run_activity AS
SELECT * FROM provision_manager.activity UNION ALL SELECT * FROM provision_manager.archived_activity;

-- An orchestration as it is listed.
CREATE FUNCTION provision_manager.entry_json(o provision_manager.run) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || to_json(o.id)::text || ',"correlationId":' || to_json(o.correlation_id)::text
    || ',"state":' || o.state_number
    || ',"stateTimestamp":"' || provision_manager.instant(o.state_at)
    || '","createdTimestamp":"' || provision_manager.instant(o.created_at)
    || '","orchestrationType":' || to_json(o.type)::text || ',"definitionId":' || to_json(o.type)::text || '}';

-- Whether nothing more happens to a run unless somebody wants it to.
CREATE FUNCTION provision_manager.is_over(o provision_manager.orchestration) RETURNS boolean
LANGUAGE sql STABLE
RETURN o.state IN ('COMPLETED', 'ERRORED', 'CANCELLED', 'COMPENSATED', 'COMPENSATION_FAILED')
   AND o.remaining = 0 AND o.resend_at IS NULL;

-- A run, what it undoes, and what undoes it: where one is, the others are.
CREATE FUNCTION provision_manager.with_partners(ids text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT DISTINCT p.id COLLATE "C"
               FROM unnest(ids) i (id), unnest(ARRAY[i.id, i.id || '.compensate', provision_manager.compensated_by(i.id)]) p (id)
              WHERE p.id IS NOT NULL);

-- Moves rows with these keys from one table to another, with whatever columns they have.
CREATE FUNCTION provision_manager.move_rows(source text, target text, key text, keys text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  columns text;
BEGIN
  SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
    INTO columns
    FROM pg_attribute a
   WHERE a.attrelid = ('provision_manager.' || source)::regclass
     AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
  EXECUTE format('WITH gone AS (DELETE FROM provision_manager.%I WHERE %I = ANY ($1) RETURNING %s)
                  INSERT INTO provision_manager.%I (%s) SELECT %s FROM gone ORDER BY %I',
                 source, key, columns, target, columns, columns, key) USING keys;
END
$$;

-- Archives up to about ``most`` runs that ended longer ago than ``after``, each with what it has undone or what has undone it.
-- Gives how many. What somebody else holds is left to the next time: this waits for nobody, and two at once share the work.
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
  found  text[];
BEGIN
  WITH ended AS (
    SELECT o.id
      FROM provision_manager.orchestration o
     WHERE o.state_number <> 1 AND o.state_at < before AND provision_manager.is_over(o)
       AND NOT EXISTS (
         SELECT FROM provision_manager.orchestration p
          WHERE p.id IN (o.id || '.compensate', provision_manager.compensated_by(o.id))
            AND NOT (p.state_at < before AND provision_manager.is_over(p)))
     ORDER BY o.state_at
     LIMIT most
       FOR UPDATE OF o SKIP LOCKED)
  SELECT array_agg(id) INTO found FROM ended;
  IF found IS NULL THEN
    RETURN 0;
  END IF;
  WITH partners AS (
    SELECT o.id
      FROM provision_manager.orchestration o
     WHERE o.id = ANY (provision_manager.with_partners(found)) AND o.id <> ALL (found)
       AND o.state_at < before AND provision_manager.is_over(o)
       FOR UPDATE SKIP LOCKED)
  SELECT found || array_agg(id) INTO found FROM partners;
  found := ARRAY(
    SELECT f.id
      FROM unnest(found) f (id)
     WHERE NOT EXISTS (SELECT FROM provision_manager.orchestration o
                        WHERE o.id = ANY (provision_manager.with_partners(ARRAY[f.id])) AND o.id <> ALL (found)));

  PERFORM provision_manager.move_rows('orchestration', 'archived_orchestration', 'id', found);
  PERFORM provision_manager.move_rows('orchestration_data', 'archived_orchestration_data', 'orch_id', found);
  PERFORM provision_manager.move_rows('activity', 'archived_activity', 'orch_id', found);
  PERFORM provision_manager.move_rows('activity_output', 'archived_activity_output', 'orch_id', found);
  RETURN cardinality(found);
END
$$;

-- Brings those of these runs back that are archived, with their partners. The caller holds no run yet: archived rows are always
-- locked before the others. Nobody else can change what was brought back before the commit.
CREATE FUNCTION provision_manager.restore_runs(ids text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  found text[];
BEGIN
  SELECT array_agg(a.id)
    INTO found
    FROM (SELECT a.id
            FROM provision_manager.archived_orchestration a
           WHERE a.id = ANY (provision_manager.with_partners(ids))
           ORDER BY a.id
             FOR UPDATE) a;
  IF found IS NOT NULL THEN
    PERFORM provision_manager.move_rows('archived_orchestration', 'orchestration', 'id', found);
    PERFORM provision_manager.move_rows('archived_orchestration_data', 'orchestration_data', 'orch_id', found);
    PERFORM provision_manager.move_rows('archived_activity', 'activity', 'orch_id', found);
    PERFORM provision_manager.move_rows('archived_activity_output', 'activity_output', 'orch_id', found);
  END IF;
END
$$;

-- Brings a run back if it is archived, and locks it, what it undoes, and what undoes it. False: it has just been archived, and
-- the caller begins a new transaction, so that it holds nothing when it tries again.
CREATE FUNCTION provision_manager.hold_run(run text) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  ids  text[] := provision_manager.with_partners(ARRAY[run]);
  held text[];
BEGIN
  PERFORM provision_manager.restore_runs(ARRAY[run]);
  held := ARRAY(SELECT o.id FROM provision_manager.orchestration o WHERE o.id = ANY (ids) ORDER BY o.id FOR UPDATE);
  RETURN NOT EXISTS (SELECT FROM provision_manager.run r WHERE r.id = ANY (ids) AND r.id <> ALL (held));
END
$$;

-- Forgets up to ``most`` archived runs that ended longer ago than ``kept``, but for those with a partner that did not. Gives how
-- many. It waits for nobody.
CREATE FUNCTION provision_manager.forget_archived(kept interval, most integer) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  before timestamptz := now() - kept;
  found  text[];
BEGIN
  WITH old AS (
    SELECT a.id
      FROM provision_manager.archived_orchestration a
     WHERE a.state_at < before
       AND NOT EXISTS (SELECT FROM provision_manager.run p
                        WHERE p.id IN (a.id || '.compensate', provision_manager.compensated_by(a.id)) AND p.state_at >= before)
     ORDER BY a.state_at
     LIMIT most
       FOR UPDATE OF a SKIP LOCKED)
  SELECT array_agg(id) INTO found FROM old;
  DELETE FROM provision_manager.archived_activity_output WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_activity WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_orchestration_data WHERE orch_id = ANY (found);
  DELETE FROM provision_manager.archived_orchestration WHERE id = ANY (found);
  RETURN coalesce(cardinality(found), 0);
END
$$;
