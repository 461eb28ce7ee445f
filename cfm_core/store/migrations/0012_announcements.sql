-- What the engine looks up, and what it writes to the outbox: for agents, for whoever has started a run, and for itself.

-- How long a failed attempt is followed by none: the limit doubles with each failure, and the delay is anywhere below it.
CREATE FUNCTION provision_manager.backoff(failures integer, first_seconds double precision, limit_seconds double precision)
RETURNS interval
LANGUAGE sql VOLATILE
RETURN make_interval(secs => random() * least(limit_seconds, first_seconds * 2 ^ least(failures, 60)));

-- Where there is no trace context, nothing is copied.
CREATE FUNCTION provision_manager.cloud_event(id text, type text, orch_id text, data jsonb, trace_context jsonb) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
  'specversion', '1.0', 'id', id, 'source', 'cfm/provision-manager', 'type', type, 'subject', orch_id,
  'datacontenttype', 'application/json', 'data', data) || coalesce(trace_context, '{}');

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

-- All that an activity of phase 0 has recorded, or, where that does not count yet, somebody outside for it.
CREATE FUNCTION provision_manager.recorded(run text, place smallint) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN coalesce((
    SELECT coalesce(r.values, '{}') || coalesce(r.outputs, '{}')
      FROM provision_manager.activity_output r
     WHERE r.orch_id = run AND r.phase = 0 AND r.ord = place), (
    SELECT (a.ending->'values') || (a.ending->'outputs')
      FROM provision_manager.activity a
     WHERE a.orch_id = run AND a.phase = 0 AND a.ord = place), '{}');
END
$$;

-- What somebody outside has recorded for activities of a run that have ended before their agents were heard: it counts when the
-- run is retried, and until then only for what undoes it. Of two words on one key the one for the later place is given.
CREATE FUNCTION provision_manager.kept_endings(run text, of_phase smallint, OUT set_values jsonb, OUT set_outputs jsonb)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  SELECT coalesce(jsonb_object_agg(e.key, e.value ORDER BY a.ord) FILTER (WHERE e.what = 'values'), '{}'),
         coalesce(jsonb_object_agg(e.key, e.value ORDER BY a.ord) FILTER (WHERE e.what = 'outputs'), '{}')
    INTO set_values, set_outputs
    FROM provision_manager.activity a
    CROSS JOIN LATERAL (
      SELECT w.what, e.key, e.value FROM unnest(ARRAY['values', 'outputs']) w (what), jsonb_each(a.ending->w.what) e) e
   WHERE a.orch_id = run AND a.phase = of_phase AND a.ending IS NOT NULL;
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
                  ELSE e.data || jsonb_build_object('inputSchema', n.input_schema) END, o.trace_context))) AS events
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
             || CASE o.retries WHEN 0 THEN '{}' ELSE jsonb_build_object('retries', o.retries) END, o.trace_context)
             ORDER BY r.manifest_id)) AS events
      FROM unnest(ids || undone) WITH ORDINALITY e (id, n)
      CROSS JOIN LATERAL (SELECT e.n > coalesce(cardinality(ids), 0) AS undone) x
      CROSS JOIN LATERAL (
        SELECT o.id, o.type, o.correlation_id, o.state, o.error_detail, o.retries, o.trace_context, d.outputs
          FROM provision_manager.orchestration o
          JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
         WHERE o.id = e.id AND o.parent IS NULL
         UNION ALL
        SELECT o.id, o.type, o.correlation_id, o.state, o.error_detail, o.retries, o.trace_context, d.outputs
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
           jsonb_build_object('orchestrationId', k.orch_id, 'phase', k.phase, 'ord', k.ord), o.trace_context)),
         clock_timestamp() + lease
    FROM unnest(keys) k
    LEFT JOIN provision_manager.orchestration o ON o.id = k.orch_id
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
               'payload', r.values || jsonb_build_object(
                 'cfm.vpa.state', CASE jsonb_typeof(r.values->'cfm.vpa.state')
                   WHEN 'object' THEN r.values->'cfm.vpa.state' ELSE '{}' END || r.outputs)), o.trace_context)
             ORDER BY o.id)) AS events
      FROM provision_manager.orchestration o
      JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
      CROSS JOIN LATERAL provision_manager.kept_endings(o.id, 0::smallint) k
      CROSS JOIN LATERAL (SELECT coalesce(d.values, d.input) || k.set_values AS values, d.outputs || k.set_outputs AS outputs) r
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
