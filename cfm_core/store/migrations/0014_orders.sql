-- What operators do to runs.
-- The caller has locked the run, and found that its state allows it.

-- Sends nothing more of a run, and of those that go on below it; what was queued waits outside of the queue. One that is paused
-- already stays as it is, and so do those below it.
CREATE FUNCTION provision_manager.pause_run(run text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  ids text[] := ARRAY(
    WITH RECURSIVE below AS (
      SELECT run COLLATE "C" AS id
       UNION ALL
      SELECT o.id
        FROM below JOIN provision_manager.orchestration o ON o.parent = below.id AND o.state = 'RUNNING' AND NOT o.paused)
    SELECT b.id FROM below b);
BEGIN
  DELETE FROM provision_manager.admission s WHERE s.orch_id = ANY (ids) AND NOT s.in_flight;
  UPDATE provision_manager.orchestration o
     SET paused = true, paused_above = o.id <> run, version = o.version + 1
   WHERE o.id = ANY (ids);
END
$$;

-- Sends what was held back of a run, and of those below it that were paused with it.
CREATE FUNCTION provision_manager.resume_run(run text, lease interval) RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  ids text[] := ARRAY(
    WITH RECURSIVE below AS (
      SELECT run COLLATE "C" AS id
       UNION ALL
      SELECT o.id
        FROM below JOIN provision_manager.orchestration o ON o.parent = below.id AND o.paused AND o.paused_above)
    SELECT b.id FROM below b);
BEGIN
  UPDATE provision_manager.orchestration o SET paused = false, version = o.version + 1 WHERE o.id = ANY (ids);
  RETURN QUERY SELECT * FROM provision_manager.release(ids, clock_timestamp(), lease);
  RETURN QUERY SELECT * FROM provision_manager.announce_calls(ids, lease);
END
$$;

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
     SET is_erased = true, error_detail = '', trace_context = NULL, version = o.version + 1
   WHERE o.id = ANY (ids) AND NOT o.is_erased;
  GET DIAGNOSTICS erased = ROW_COUNT;
END
$$;
