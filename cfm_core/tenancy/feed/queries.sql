-- name: read
-- Events behind a place that nothing can come before any more: every transaction with a lower number than theirs has ended.
-- Gives one row: the events as an array, the place of the last one or null, and whether the place behind which they are is
-- one that this feed has come to.
SELECT '[' || coalesce(string_agg(eventing.event_json(f, :source), ',' ORDER BY f.xid, f.serial), '') || ']',
       max(eventing.place(f.xid, f.serial) COLLATE "C"),
       :xid::xid8 < pg_snapshot_xmax(pg_current_snapshot())
  FROM (SELECT f.*
          FROM eventing.feed f
         WHERE (f.xid, f.serial) > (:xid::xid8, :serial::bigint)
           AND f.xid < pg_snapshot_xmin(pg_current_snapshot())
           AND (<<condition>>)
         ORDER BY f.xid, f.serial
         LIMIT :limit::bigint) AS f;

-- name: forget
-- Forgets the oldest events, as far as they were kept long enough. Gives how many.
WITH forgotten AS (
  DELETE FROM eventing.feed
   WHERE ctid = ANY (ARRAY(
           SELECT ctid
             FROM (SELECT ctid, at FROM eventing.feed ORDER BY xid, serial LIMIT :most::bigint) AS oldest
            WHERE at <= now() - :kept::interval))
  RETURNING 1
)
SELECT count(*) FROM forgotten;

-- name: of_tenants
-- These, and the ones below, are conditions of an event ``f``.
f.kind = 'tenants' AND f.entity_id = ANY (:event_tenants::uuid[])

-- name: of_cells
f.kind = 'cells' AND f.entity_id = ANY (:event_cells::uuid[])

-- name: of_dataspace_profiles
f.kind = 'dataspace-profiles' AND f.data::jsonb->'cellIds' <@ :event_dataspace_cells::jsonb AND f.data::jsonb->'cellIds' <> '[]'

-- name: of_participant_profiles
f.kind = 'participant-profiles'
AND (f.entity_id = ANY (:event_profiles::uuid[]) OR f.data->>'tenantId' = ANY (:event_profile_tenants::text[]))

-- name: of_participant_profiles_that_are
f.kind = 'participant-profiles'
AND EXISTS (SELECT FROM tenant_manager.participant_profiles t WHERE t.id = f.entity_id AND <<condition>>)
