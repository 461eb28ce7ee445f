-- Admission: which activities of a limited, paused or failing type are sent, and in which order. Types without limits never
-- come here. A queued activity is READY; one in flight is DISPATCHED. Both are rows, and so is what was sent within the period
-- of a rate: there is no count that could be wrong.

CREATE TABLE provision_manager.admission (
  orch_id   text COLLATE "C" NOT NULL,
  phase     smallint NOT NULL,
  ord       smallint NOT NULL,
  type      text COLLATE "C" NOT NULL,
  tenant_id text COLLATE "C" NOT NULL,
  in_flight boolean NOT NULL DEFAULT false,
  ready_at  timestamptz NOT NULL,
  PRIMARY KEY (orch_id, phase, ord)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX admission_queue ON provision_manager.admission (type, tenant_id, ready_at, orch_id, ord) WHERE NOT in_flight;
CREATE INDEX admission_in_flight ON provision_manager.admission (type, tenant_id) WHERE in_flight;

-- What was sent of such types: within the periods of their rates, and beyond them the last one of each tenant that has more.
CREATE TABLE provision_manager.admitted (
  type      text COLLATE "C" NOT NULL,
  tenant_id text COLLATE "C" NOT NULL,
  at        timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX admitted_of_type ON provision_manager.admitted (type, at);
CREATE INDEX admitted_of_tenant ON provision_manager.admitted (type, tenant_id, at);

-- When a rate lets the next activity of a type through, of one tenant if its own rate has to do so too; null: now, as far as
-- rates go.
CREATE FUNCTION provision_manager.rate_opens_at(one text, tenant text, instant timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN (
    SELECT nullif(greatest(
             instant,
             (SELECT a.at FROM provision_manager.admitted a
               WHERE a.type = d.type ORDER BY a.at DESC LIMIT 1 OFFSET d.rate_count - 1)
             + make_interval(secs => d.rate_seconds),
             (SELECT a.at FROM provision_manager.admitted a
               WHERE a.type = d.type AND a.tenant_id = tenant ORDER BY a.at DESC LIMIT 1 OFFSET d.tenant_rate_count - 1)
             + make_interval(secs => d.tenant_rate_seconds)), instant)
      FROM provision_manager.activity_definition d
     WHERE d.type = one);
END
$$;

-- Queues activities that are READY. Gives their types. The caller has locked their runs.
CREATE FUNCTION provision_manager.enqueue(keys provision_manager.activity_key[], instant timestamptz) RETURNS text[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  types text[];
BEGIN
  WITH queued AS (
    INSERT INTO provision_manager.admission (orch_id, phase, ord, type, tenant_id, ready_at)
    SELECT o.id, k.phase, k.ord, n.type, o.tenant_id, instant
      FROM unnest(keys) k
      JOIN provision_manager.orchestration o ON o.id = k.orch_id AND NOT o.paused
      JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = k.phase AND n.ord = k.ord + 0
        ON CONFLICT DO NOTHING
    RETURNING type)
  SELECT array_agg(DISTINCT type) INTO types FROM queued;
  RETURN types;
END
$$;

-- Sends what the limits of these types allow. Whoever holds the locks of runs may call it, once in a transaction.
CREATE FUNCTION provision_manager.admit(types text[], lease interval)
RETURNS SETOF provision_manager.written
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  one     text;
  sorted  text[] := ARRAY(SELECT DISTINCT t COLLATE "C" FROM unnest(types) t ORDER BY 1);
  instant timestamptz;
  chosen  provision_manager.activity_key[];
BEGIN
  FOREACH one IN ARRAY sorted LOOP
    -- One at a time decides on a type, so that a limit holds at every commit. Always in this order.
    PERFORM pg_advisory_xact_lock(hashtextextended('provision_manager.admission ' || one, 0));
  END LOOP;
  -- Later than whatever others have sent of these types: a rate counts from here.
  instant := clock_timestamp();
  FOREACH one IN ARRAY sorted LOOP
    chosen := chosen || provision_manager.choose(one, instant);
  END LOOP;
  IF cardinality(chosen) > 0 THEN
    UPDATE provision_manager.activity a
       SET state = 'DISPATCHED', dispatches = a.dispatches + 1, unanswered = a.unanswered + 1,
           token = gen_random_uuid(), dispatched_at = instant, started_at = NULL,
           due_at = least(instant + n.start_in, a.close_by)
      FROM unnest(chosen) c
      JOIN provision_manager.orchestration o ON o.id = c.orch_id
      JOIN provision_manager.node n ON n.def_id = o.def_id AND n.phase = c.phase AND n.ord = c.ord + 0
     WHERE a.orch_id = c.orch_id AND a.phase = c.phase AND a.ord = c.ord;
    RETURN QUERY SELECT * FROM provision_manager.announce_dispatches(chosen, lease);
  END IF;
END
$$;

-- Takes as many of a type's queue as may be sent now: of the tenants that have the fewest in flight first, among them of who
-- has waited longest since something of theirs was sent, and of each what has waited longest. Runs that somebody else holds are
-- left to the next time, therefore this waits for no run.
CREATE FUNCTION provision_manager.choose(one text, instant timestamptz) RETURNS provision_manager.activity_key[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  room   integer;
  busy   integer;
  rule   record;
  chosen provision_manager.activity_key[];
BEGIN
  SELECT g.paused, g.probe_at, d.max_in_flight, d.max_per_tenant, d.rate_count, d.tenant_rate_count,
         instant - make_interval(secs => d.rate_seconds) AS since,
         instant - make_interval(secs => d.tenant_rate_seconds) AS tenant_since
    INTO rule
    FROM (SELECT one AS type) t
    LEFT JOIN provision_manager.gate g ON g.type = t.type
    LEFT JOIN provision_manager.activity_definition d ON d.type = t.type;
  busy := (SELECT count(*) FROM provision_manager.admission s WHERE s.type = one AND s.in_flight);
  IF rule.paused OR rule.probe_at > instant THEN
    RETURN '{}';
  END IF;
  room := least(1000, rule.max_in_flight - busy, CASE WHEN rule.probe_at IS NOT NULL THEN 1 - busy END);
  IF rule.rate_count IS NOT NULL THEN
    room := least(room, rule.rate_count - (
      SELECT count(*) FROM (
        SELECT FROM provision_manager.admitted a WHERE a.type = one AND a.at > rule.since LIMIT rule.rate_count) sent));
  END IF;
  IF room <= 0 THEN
    RETURN '{}';
  END IF;

  WITH RECURSIVE tenants AS (
    (SELECT s.tenant_id FROM provision_manager.admission s WHERE s.type = one AND NOT s.in_flight
      ORDER BY s.tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT s.tenant_id FROM provision_manager.admission s
             WHERE s.type = one AND NOT s.in_flight AND s.tenant_id > t.tenant_id
             ORDER BY s.tenant_id LIMIT 1)
      FROM tenants t
     WHERE t.tenant_id IS NOT NULL
  ), queue AS (
    SELECT q.*, greatest(q.ready_at, last.at) AS since,
           own.n + row_number() OVER (PARTITION BY t.tenant_id ORDER BY q.ready_at, q.orch_id, q.ord) AS turn
      FROM tenants t
      CROSS JOIN LATERAL (
        SELECT count(*)::integer AS n FROM provision_manager.admission s
         WHERE s.type = one AND s.tenant_id = t.tenant_id AND s.in_flight) own
      CROSS JOIN LATERAL (
        SELECT count(*)::integer AS n FROM (
          SELECT FROM provision_manager.admitted a
           WHERE a.type = one AND a.tenant_id = t.tenant_id AND a.at > rule.tenant_since
           LIMIT rule.tenant_rate_count) a) sent
      CROSS JOIN LATERAL (
        SELECT max(a.at) AS at FROM provision_manager.admitted a WHERE a.type = one AND a.tenant_id = t.tenant_id) last
      CROSS JOIN LATERAL (
        SELECT s.orch_id, s.phase, s.ord, s.ready_at
          FROM provision_manager.admission s
         WHERE s.type = one AND s.tenant_id = t.tenant_id AND NOT s.in_flight
         ORDER BY s.ready_at, s.orch_id, s.ord
         LIMIT greatest(0, least(room, rule.max_per_tenant - own.n, rule.tenant_rate_count - sent.n))) q
     WHERE t.tenant_id IS NOT NULL
  ), next AS (
    SELECT q.orch_id, q.phase, q.ord FROM queue q ORDER BY q.turn, q.since, q.ready_at, q.orch_id, q.ord LIMIT room
  ), held AS (
    SELECT o.id
      FROM provision_manager.orchestration o
     WHERE o.id IN (SELECT n.orch_id FROM next n)
       FOR UPDATE SKIP LOCKED
  ), admitted AS (
    UPDATE provision_manager.admission s
       SET in_flight = true
      FROM next n
      JOIN held h ON h.id = n.orch_id
     WHERE s.orch_id = n.orch_id AND s.phase = n.phase AND s.ord = n.ord AND NOT s.in_flight
    RETURNING s.orch_id, s.phase, s.ord, s.tenant_id
  ), noted AS (
    INSERT INTO provision_manager.admitted (type, tenant_id, at)
    SELECT one, a.tenant_id, instant FROM admitted a)
  SELECT array_agg((orch_id, phase, ord)::provision_manager.activity_key ORDER BY orch_id, ord) INTO chosen FROM admitted;

  IF chosen IS NOT NULL THEN
    DELETE FROM provision_manager.admitted a
     WHERE a.type = one AND a.at <= least(rule.since, rule.tenant_since, instant)
       AND (EXISTS (SELECT FROM provision_manager.admitted x
                     WHERE x.type = one AND x.tenant_id = a.tenant_id AND x.at > a.at)
            OR NOT EXISTS (SELECT FROM provision_manager.admission s
                            WHERE s.type = one AND s.tenant_id = a.tenant_id AND NOT s.in_flight));
  END IF;
  RETURN coalesce(chosen, '{}');
END
$$;

-- Sends what limits allow of all types that have a queue: what was left because somebody held its run, or what has become
-- possible with time. A transaction of its own.
CREATE FUNCTION provision_manager.admit_all(lease interval) RETURNS SETOF provision_manager.written
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
  types text[];
BEGIN
  WITH RECURSIVE queued AS (
    (SELECT s.type FROM provision_manager.admission s WHERE NOT s.in_flight ORDER BY s.type LIMIT 1)
    UNION ALL
    SELECT (SELECT s.type FROM provision_manager.admission s WHERE NOT s.in_flight AND s.type > q.type
             ORDER BY s.type LIMIT 1)
      FROM queued q
     WHERE q.type IS NOT NULL)
  SELECT array_agg(q.type) INTO types FROM queued q WHERE q.type IS NOT NULL;
  IF types IS NOT NULL THEN
    RETURN QUERY SELECT * FROM provision_manager.admit(types, lease);
  END IF;
END
$$;

-- Counts what agents have reported: many failures of a type without a success between them close its gate for a while, then
-- one activity at a time is a probe, and a success opens the gate. Gives the types whose gates have opened.
CREATE FUNCTION provision_manager.count_failures(moves provision_manager.move[], instant timestamptz) RETURNS text[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  good text[];
  bad  text[];
  n    integer[];
  open text[];
BEGIN
  WITH told AS (
    SELECT n.type, sum(m.failed)::integer AS failures, bool_or(m.kind = 'complete') AS good
      FROM unnest(moves) m
      JOIN provision_manager.def_node n ON n.def_id = m.def_id AND n.phase = m.phase AND n.ord = m.ord + 0
     WHERE m.kind IN ('complete', 'retry') AND NOT n.calls
     GROUP BY n.type)
  SELECT array_agg(t.type) FILTER (WHERE t.good), array_agg(t.type ORDER BY t.type) FILTER (WHERE NOT t.good),
         array_agg(t.failures ORDER BY t.type) FILTER (WHERE NOT t.good)
    INTO good, bad, n
    FROM told t;

  PERFORM FROM provision_manager.gate g WHERE g.type = ANY (good || bad) ORDER BY g.type FOR UPDATE;
  WITH opened AS (
    UPDATE provision_manager.gate g
       SET failures = 0, closings = 0, probe_at = NULL
     WHERE g.type = ANY (good) AND g.failures > 0
    RETURNING g.type)
  SELECT array_agg(type) INTO open FROM opened;

  INSERT INTO provision_manager.gate AS g (type, failures, closings, probe_at)
  SELECT b.type, b.failures, b.trips::integer, CASE WHEN b.trips THEN instant + interval '10 s' END
    FROM (SELECT r.type, r.failures, r.failures >= nullif(coalesce(d.max_failures, 20), 0) IS TRUE AS trips
            FROM unnest(bad, n) r (type, failures)
            LEFT JOIN provision_manager.activity_definition d ON d.type = r.type) b
   ORDER BY b.type
  ON CONFLICT (type) DO UPDATE
     SET failures = g.failures + excluded.failures,
         (closings, probe_at) = (
           SELECT CASE WHEN trips THEN g.closings + 1 ELSE g.closings END,
                  CASE WHEN trips THEN instant + least(interval '5 min', interval '10 s' * 2 ^ least(g.closings, 5))
                       ELSE g.probe_at END
             FROM (SELECT (g.probe_at IS NULL OR g.probe_at <= instant)
                          AND g.failures + excluded.failures >= nullif(coalesce(
                            (SELECT d.max_failures FROM provision_manager.activity_definition d WHERE d.type = g.type),
                            20), 0) IS TRUE AS trips) t);
  RETURN open;
END
$$;
