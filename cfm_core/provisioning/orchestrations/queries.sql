-- name: start
-- Starts an orchestration unless there is one with its id, or is to be. Gives the outbox rows that it has written, free for
-- all.
SELECT id, subject
  FROM provision_manager.start_orchestrations(
         CASE WHEN EXISTS (SELECT FROM provision_manager.delayed_start WHERE id = :id) THEN '[]' ELSE :manifests END::jsonb,
         interval '0', false);

-- name: get
-- One orchestration with its definition, its data, and how far its activities are. Gives 0 or 1 row.
SELECT o.id, o.version, o.correlation_id, o.tenant_id, o.type, o.state, o.state_at, o.created_at, o.error_detail,
       f.document->'activities'->f.type, coalesce(d.values, d.input), d.outputs,
       o.paused, o.paused AND o.paused_above, o.is_erased, provision_manager.way_to_undo(o.type, o.def_id, o.phase) IS NOT NULL,
       provision_manager.changes_live(o.type, d.input), coalesce(o.parent, ''), coalesce(o.trace_context, '{}'),
       provision_manager.secret_keys(),
       (SELECT jsonb_agg(jsonb_build_object(
                 'phase', a.phase, 'ord', a.ord, 'id', n.activity_id, 'type', n.type, 'state', a.state, 'deps_left', a.deps_left,
                 'dispatches', a.dispatches, 'unanswered', a.unanswered, 'failures', a.failures,
                 'children', CASE WHEN n.calls THEN (
                    SELECT jsonb_build_array(count(*), count(*) FILTER (WHERE c.remaining = 0))
                      FROM provision_manager.run c
                     WHERE c.parent = a.orch_id AND c.parent_phase = a.phase AND c.parent_ord = a.ord) END,
                 'max_attempts', n.max_attempts, 'has_agent', n.has_agent, 'dispatched_at', a.dispatched_at,
                 'started_at', a.started_at, 'due_at', a.due_at,
                 'rate_opens_at', CASE WHEN a.state = 'READY' AND NOT o.paused
                                       THEN provision_manager.rate_opens_at(n.type, o.tenant_id, now()) END,
                 'progress', CASE WHEN a.started_at IS NOT NULL THEN a.progress END,
                 'ending', coalesce(a.ending->>'kind', ''), 'ended_at', h.at, 'outcome', coalesce(h.kind, ''), 'reason', coalesce(h.reason, ''))
               ORDER BY a.phase, a.ord)
          FROM provision_manager.run_activity a
          JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord
          LEFT JOIN (SELECT DISTINCT ON (l.phase, l.ord) l.*
                       FROM provision_manager.history l
                      WHERE l.orch_id = :id AND l.dispatch IS NOT NULL
                      ORDER BY l.phase, l.ord, l.at DESC) h ON h.ord = a.ord AND h.phase = a.phase
         WHERE a.orch_id = o.id)
  FROM provision_manager.run o
  JOIN provision_manager.run_data d ON d.orch_id = o.id
  JOIN provision_manager.definition f ON f.id = o.def_id
 WHERE o.id = :id AND <<within>>;

-- name: find_activities
-- What undoes an activity of a run, if that has begun, and then the activity: as it is now, with the token of its last dispatch, and
-- how somebody has ended it. Gives up to 2 rows.
SELECT a.phase, a.ord, a.state, coalesce(a.token::text, ''), a.ending->>'kind', coalesce(a.ending->>'token', '')
  FROM provision_manager.run o
  JOIN provision_manager.def_node n ON n.def_id = o.def_id
  JOIN provision_manager.run_activity a ON a.orch_id = o.id AND a.phase = n.phase AND a.ord = n.ord
 WHERE o.id = :id AND n.activity_id = :activity_id
 ORDER BY a.phase DESC;

-- name: end_activity
-- Takes in the outcome that somebody outside reports. Gives the outbox rows that it has written, free for all, and what of it has
-- to be looked at first.
SELECT id, subject, CASE WHEN id IS NULL THEN events::text END FROM provision_manager.record_outcomes(:outcomes::jsonb, interval '0');

-- name: heartbeat
-- Takes a sign of life. Gives until when the next one has to be there; null: nobody waits for it.
SELECT provision_manager.heartbeat(:id, :activity_id, :token, :progress::jsonb);

-- name: history
-- How the attempts at a run's activities ended, in this order; one row of nulls where none has yet. No row: no such run.
SELECT n.activity_id, n.type, h.phase, h.dispatch, h.attempt, h.kind, h.reason, h.dispatched_at, h.at, h.next_at
  FROM provision_manager.run o
  LEFT JOIN (provision_manager.history h JOIN provision_manager.def_node n USING (phase, ord))
    ON h.orch_id = o.id AND n.def_id = o.def_id
 WHERE o.id = :id AND <<within>>
 ORDER BY h.at, h.phase, h.ord;

-- name: archive
-- Archives some of the runs that ended a while ago. Gives how many.
SELECT provision_manager.archive_runs(:after::interval, :most::integer);

-- name: forget_archived
-- Forgets some of the archived runs that ended long ago. Gives how many.
SELECT provision_manager.forget_archived(:kept::interval, :most::integer);

-- name: keep_history
SELECT provision_manager.keep_history(:kept::interval);
