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
           AND <<condition>>
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
