-- name: lock
-- Keeps everybody else from changing a run, and those that were started for one of its activities and have not completed.
SELECT provision_manager.lock_runs(ARRAY(
  SELECT o.id FROM provision_manager.orchestration o
   WHERE o.parent = :run AND o.parent_phase = :phase::smallint AND o.parent_ord = :ord::smallint AND o.state <> 'COMPLETED'
   UNION ALL
  SELECT :run));

-- name: find
-- An activity that is under way, with what it gets, and the list of its elements: as it was when that began, and as it is now.
SELECT n.activity_id, n.type, o.def_id, o.type, o.correlation_id, o.tenant_id, n.child_phase, o.trace_context,
       a.token::text, a.state = 'WAITING', a.dispatched_at, provision_manager.goes_on(o.state, o.phase), o.paused,
       (WITH RECURSIVE above AS (
          SELECT o.parent, 0 AS n
           UNION ALL
          SELECT p.parent, above.n + 1 FROM above JOIN provision_manager.orchestration p ON p.id = above.parent)
        SELECT max(above.n) FROM above),
       provision_manager.values_for(a.orch_id, a.phase, a.ord, n.inputs, v.data),
       n.for_each, f.elements,
       CASE WHEN n.for_each IS NOT NULL
            THEN provision_manager.mapped_inputs(jsonb_build_array(n.for_each->'source'), a.orch_id, v.data)->'source' END
  FROM provision_manager.orchestration o
  JOIN provision_manager.activity a ON a.orch_id = o.id AND a.phase = o.phase
  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
  JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
  CROSS JOIN LATERAL (SELECT coalesce(d.values, d.input) AS data) v
  -- What undoes an activity is carried out for the same elements.
  LEFT JOIN provision_manager.fan_out f ON f.orch_id = a.orch_id AND f.ord = a.ord
 WHERE o.id = :run AND o.phase = :phase::smallint AND a.ord = :ord::smallint
   AND n.calls AND a.state IN ('DISPATCHED', 'WAITING');

-- name: list_children
-- The runs that were started for an activity, with what they have recorded; of those that have not completed also what somebody
-- outside has recorded for them, which what undoes the activity gets.
SELECT o.id, coalesce(o.element, 0), o.state, o.state_at, o.error_detail,
       CASE WHEN o.phase > 1 THEN coalesce(r.values, k.set_values) ELSE d.outputs || coalesce(k.set_outputs, '{}') END,
       CASE WHEN o.phase > 1 THEN coalesce(r.outputs, k.set_outputs) ELSE d.outputs || coalesce(k.set_outputs, '{}') END
  FROM provision_manager.orchestration o
  JOIN provision_manager.orchestration_data d ON d.orch_id = o.id
  LEFT JOIN provision_manager.activity_output r ON r.orch_id = o.id AND r.phase = o.phase AND r.ord = 0
  LEFT JOIN LATERAL (
    SELECT e.*
      FROM provision_manager.kept_endings(o.id, CASE WHEN o.phase > 1 THEN o.phase ELSE 0::smallint END) e
     WHERE o.state <> 'COMPLETED') k ON true
 WHERE o.parent = :run AND o.parent_phase = :phase::smallint AND o.parent_ord = :ord::smallint
 ORDER BY 2;

-- name: keep_elements
-- Keeps a list as it is now. What undoes an activity that has never come to that is carried out for none.
INSERT INTO provision_manager.fan_out (orch_id, ord, elements) VALUES (:run, :ord::smallint, :elements::jsonb);

-- name: start
-- Starts runs for an activity. Gives the outbox rows that it has written, as those below do.
SELECT id, subject, events::text FROM provision_manager.start_orchestrations(:manifests::jsonb, :lease::interval, false);

-- name: follow
-- Lets a run that was started for an activity belong to the trace of the activity's run, which may have gone on in another one.
UPDATE provision_manager.orchestration c
   SET trace_context = o.trace_context
  FROM provision_manager.orchestration o
 WHERE c.id = :id AND o.id = c.parent AND o.trace_context IS DISTINCT FROM c.trace_context;

-- name: retry
SELECT id, subject, events::text FROM provision_manager.retry_run(:id, NULL, :lease::interval);

-- name: cancel
SELECT id, subject, events::text FROM provision_manager.cancel_run(:id, :reason, NULL, :lease::interval);

-- name: record
SELECT id, subject, events::text FROM provision_manager.record_outcomes(:outcomes::jsonb, :lease::interval);

-- name: find_missing
-- One of some ids that no run has.
SELECT i.id
  FROM unnest(:ids::text[]) i (id)
 WHERE NOT EXISTS (SELECT FROM provision_manager.orchestration o WHERE o.id = i.id)
 LIMIT 1;

-- name: find_foreign
-- One of some ids that a run has which was not started for this activity.
SELECT o.id
  FROM provision_manager.orchestration o
 WHERE o.id = ANY (:ids::text[])
   AND (o.parent, o.parent_phase, o.parent_ord) IS DISTINCT FROM (:run::text, :phase::smallint, :ord::smallint)
 LIMIT 1;
