-- The engine: how runs start, advance, end early, and are undone.
--
-- Each of the three entry functions takes a batch, is called as a transaction of its own, and gives the outbox rows that
-- it has written. Their plans are nested loops over keys whatever the statistics say: batches are small, tables are not. What they
-- look up is cheap, and each row that they read is dear, so that a table which was empty when a plan was made is not read as a whole.
-- Where a node is looked up, "+ 0" keeps the planner from looking up activities by their ord alone, which it takes for cheap
-- as long as the table is small.

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
  batch   record;
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
  -- Most batches need little of what follows, and a statement that finds nothing to do costs as much as another.
  SELECT bool_or(m.values IS NOT NULL OR m.deleted IS NOT NULL OR m.outputs IS NOT NULL) AS has_data,
         array_agg((m.orch_id, m.phase, m.ord)::provision_manager.activity_key) FILTER (WHERE m.state = 'DONE') AS done,
         coalesce(array_agg(m.orch_id) FILTER (WHERE m.state = 'DONE' AND m.open), '{}') AS going,
         bool_or(m.running AND m.state = 'FAILED') AS fails,
         EXISTS (SELECT FROM provision_manager.admission) AS has_queues,
         bool_or(m.failed = 1) OR EXISTS (SELECT FROM provision_manager.gate g WHERE g.failures > 0) AS has_failures
    INTO batch
    FROM unnest(moves) m;

  -- The processing data first, so that what is dispatched below carries it. The last word on each key counts.
  IF batch.has_data THEN
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
           -- What somebody outside has completed is completed if it is tried again.
           ending = CASE WHEN m.state = 'DONE' OR m.state = 'FAILED' AND a.ending->>'kind' = 'fatal' THEN NULL ELSE a.ending END
      FROM unnest(moves) m
     WHERE a.orch_id = m.orch_id AND a.phase = m.phase AND a.ord = m.ord
    RETURNING a.orch_id, a.phase, a.ord, a.state)
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'DISPATCHED'),
         array_agg((orch_id, phase, ord)::provision_manager.activity_key) FILTER (WHERE state = 'READY')
    INTO sent, held
    FROM moved;

  -- Children: deps_left falls in any case, sent are those of runs that go on, unless the run or their type holds them back.
  IF batch.done IS NOT NULL THEN
    SELECT u.sent, u.held, u.skipped
      INTO kids, waiting, skipped
      FROM provision_manager.unlock(batch.done, batch.going, instant) u;
  END IF;

  -- Whatever has moved makes room.
  IF batch.has_queues THEN
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
  IF batch.has_failures THEN
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
  IF batch.fails THEN
    SELECT array_agg(f.orch_id), array_agg(f.reason)
      INTO failing, reasons
      FROM (SELECT DISTINCT ON (m.orch_id) m.orch_id, m.reason
              FROM unnest(moves) m
             WHERE m.running AND m.state = 'FAILED'
             ORDER BY m.orch_id, m.pos, m.ord) f;
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

-- Starts a run for each manifest [{"id", "correlationId", "type", "templateRef", "tenantId", "payload", "trace"}], no id twice, with
-- the newest active definition of its type, in the template if one is named; what undoes a run, with that run's own template if it
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
       parent, parent_phase, parent_ord, element, trace_context)
    SELECT m.id, d.id, m.type, m."correlationId", m."tenantId", d.n_nodes, instant, instant, coalesce(m.phase, 0),
           m.parent, m."parentPhase", m."parentOrd", m.element, m.trace
      FROM jsonb_to_recordset(manifests)
        AS m (id text, "correlationId" text, type text, "templateRef" text, "tenantId" text, parent text,
              "parentPhase" smallint, "parentOrd" smallint, element integer, "defId" bigint, phase smallint, trace jsonb)
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
      FROM jsonb_to_recordset(manifests) AS m (id text, "correlationId" text, type text, "templateRef" text, trace jsonb)
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
               'properties', '{}'::jsonb), u.trace)) AS events
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
-- until it comes ``checked`` (the token of the ending that it was looked at with, '' for none): the last row, which has no id,
-- then holds [{"place" (in the batch), "schema", "known" (what the schema requires and the processing data have), "ending"}].
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
           u.pos, a.orch_id, a.phase, a.ord, o.def_id, g.running, u.kind, a.failures, u.after,
           u.told, u.token, u.reason, u.values, u.deleted, u.outputs, a.ending, e.ends,
           n.output_schema IS NOT NULL AND u.checked IS DISTINCT FROM coalesce(a.ending->>'token', '')
           AND CASE WHEN e.ends THEN a.ending->>'kind' = 'complete' ELSE u.kind = 'complete' AND a.ending IS NULL END AS held,
           u.outside IS TRUE AND a.state = 'DISPATCHED' AS early, n.output_schema,
           n.max_attempts, n.backoff_seconds, n.backoff_limit_seconds, n.wait_seconds,
           n.activity_id, n.type, g.exhausted
      FROM ROWS FROM (jsonb_to_recordset(outcomes) AS
             ("orchestrationId" text, phase smallint, ord smallint, token text, kind text, after double precision,
              reason text, values jsonb, deleted jsonb, outputs jsonb, told text, checked text, outside boolean,
              begun boolean))
           WITH ORDINALITY
             AS u (orch_id, phase, ord, token, kind, after, reason, values, deleted, outputs, told, checked, outside, begun, pos)
      JOIN provision_manager.orchestration o ON o.id = u.orch_id AND o.phase = u.phase
      JOIN provision_manager.activity a
        ON a.orch_id = u.orch_id AND a.phase = u.phase AND a.ord = u.ord AND a.token::text = u.token
       AND (a.state = 'DISPATCHED' AND (u.outside IS NOT TRUE OR a.ending IS NULL)
            OR a.state = 'WAITING' AND u.kind <> 'wait')
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = u.phase AND n.ord = u.ord + 0
      CROSS JOIN LATERAL (
        SELECT provision_manager.goes_on(o.state, o.phase) AS running,
               u.kind = 'retry' AND a.failures + 1 >= n.max_attempts AS exhausted) g
      -- What somebody outside has said before counts now, over what the agent has recorded; but for one that is to be tried again,
      -- perhaps with its run, or was not begun, whose records may be missing.
      CROSS JOIN LATERAL (
        SELECT a.ending IS NOT NULL
               AND (u.kind <> 'retry' AND u.begun IS NOT FALSE OR g.exhausted AND g.running OR a.ending->>'kind' = 'fatal') AS ends) e
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
    SELECT h.pos, h.orch_id, h.phase, h.ord, h.def_id, h.running, h.failures, h.after, h.deleted, h.activity_id, h.type,
           h.backoff_seconds, h.backoff_limit_seconds, h.wait_seconds, x.*
      FROM heard h
      CROSS JOIN LATERAL (
        SELECT h.kind, h.told, h.reason, h.exhausted, h.values, h.outputs WHERE NOT h.ends
         UNION ALL
        SELECT h.ending->>'kind', NULL, h.ending->>'reason', false,
               coalesce(h.values, '{}') || (h.ending->'values'), coalesce(h.outputs, '{}') || (h.ending->'outputs')
         WHERE h.ends) x
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
                   'place', h.pos - 1, 'schema', h.output_schema, 'ending', h.ending, 'known', (
                     SELECT coalesce(jsonb_object_agg(k.key, coalesce(d.values, d.input)->k.key), '{}')
                       FROM jsonb_array_elements_text(h.output_schema->'required') k (key)
                      WHERE coalesce(d.values, d.input) ? k.key))
                   ORDER BY h.pos)
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
      SELECT d.*, d.ending IS NOT NULL AND (d.state = 'FAILED' OR d.ending->>'kind' = 'fatal') AS ends
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
