-- name: lock
-- Keeps everybody else from pausing and resuming, until commit.
SELECT pg_advisory_xact_lock(hashtextextended('provision_manager.gate', 0));

-- name: select
-- Types that are defined, announced or paused; all of them, or one.
SELECT t.type, coalesce(g.version, 0), p.type IS NOT NULL, coalesce(g.paused, false), d.max_in_flight, d.max_per_tenant,
       d.rate_count, make_interval(secs => d.rate_seconds), d.tenant_rate_count, make_interval(secs => d.tenant_rate_seconds),
       coalesce(g.failures, 0), g.probe_at, provision_manager.rate_opens_at(t.type, NULL, now())
  FROM (SELECT type FROM provision_manager.activity_definition
         UNION
        SELECT type FROM provision_manager.activity_type_policy
         UNION
        SELECT type FROM provision_manager.gate WHERE paused) t
  LEFT JOIN provision_manager.activity_definition d ON d.type = t.type
  LEFT JOIN provision_manager.activity_type_policy p ON p.type = t.type
  LEFT JOIN provision_manager.gate g ON g.type = t.type
 WHERE :type::text IS NULL OR t.type = :type
 ORDER BY t.type;

-- name: count
-- How many activities that are neither blocked nor ended there are, by type, tenant and state; of all types, or of one.
SELECT n.type, o.tenant_id, a.state, count(*)
  FROM provision_manager.activity a
  JOIN provision_manager.orchestration o ON o.id = a.orch_id AND o.phase = a.phase
  JOIN provision_manager.def_node n ON n.def_id = o.def_id AND n.phase = a.phase AND n.ord = a.ord AND NOT n.calls
 WHERE a.due_at IS NOT NULL AND (:type::text IS NULL OR n.type = :type)
 GROUP BY n.type, o.tenant_id, a.state
 UNION ALL
SELECT s.type, s.tenant_id, 'READY', count(*)
  FROM provision_manager.admission s
 WHERE NOT s.in_flight AND (:type::text IS NULL OR s.type = :type)
 GROUP BY s.type, s.tenant_id
 ORDER BY 1, 2, 3;

-- name: rates_of_tenants
-- When the rates of types let through what the tenants in their queues have; of those tenants where that is not now.
SELECT q.type, q.tenant_id, opens.at
  FROM (SELECT DISTINCT s.type, s.tenant_id
          FROM provision_manager.admission s
          JOIN provision_manager.activity_definition d ON d.type = s.type AND d.tenant_rate_count IS NOT NULL
         WHERE NOT s.in_flight AND (:type::text IS NULL OR s.type = :type)) q
 CROSS JOIN LATERAL (SELECT provision_manager.rate_opens_at(q.type, q.tenant_id, now()) AS at) opens
 WHERE opens.at IS NOT NULL;

-- name: set_paused
INSERT INTO provision_manager.gate AS g (type, version, paused) VALUES (:type, 1, :paused::boolean)
ON CONFLICT (type) DO UPDATE SET paused = excluded.paused, version = g.version + 1;

-- name: admit
-- Sends what limits allow by now. Gives the outbox rows that it has written, free for all.
SELECT id FROM provision_manager.admit(ARRAY[:type], interval '0');

