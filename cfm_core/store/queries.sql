-- name: put
-- Leaves events in the outbox. Gives the row's id.
INSERT INTO eventing.outbox (subject, events, claimable_at)
VALUES (:subject, :events::jsonb, now() + :lease::interval)
RETURNING id;

-- name: claim
-- Takes the rows that nobody takes care of, the oldest first, for the length of a lease.
UPDATE eventing.outbox o
   SET claimable_at = clock_timestamp() + :lease::interval
  FROM (SELECT id
          FROM eventing.outbox
         WHERE claimable_at <= clock_timestamp()
         ORDER BY claimable_at, id
         LIMIT :most
           FOR UPDATE SKIP LOCKED) free
 WHERE o.id = free.id
RETURNING o.id, o.subject, o.events::text;

-- name: renew
-- Keeps the claim on rows that are still being taken care of.
UPDATE eventing.outbox
   SET claimable_at = clock_timestamp() + :lease::interval
 WHERE id = ANY(:ids::bigint[]);

-- name: delete
-- Forgets rows whose events have reached their receiver, or JetStream.
DELETE FROM eventing.outbox WHERE id = ANY(:ids::bigint[]);

-- name: count
SELECT count(*) FROM <<table>> t WHERE <<only>> AND (<<condition>>)

-- name: count_of_few
SELECT CASE
         WHEN rows <= <<most>> THEN rows
         ELSE (SELECT count(*) FROM <<table>> t WHERE <<only>> AND (<<condition>>))
       END
  FROM known

-- name: in_order
-- The rows of a page and the one behind it, read in the order of the list.
SELECT t
  FROM <<table>> t
 WHERE <<only>> AND (<<condition>>) AND <<after>>
 ORDER BY t.<<key>>
 LIMIT :page_limit::bigint + 1

-- name: skipping
-- The same from an offset on. What is skipped is not read where its keys are enough.
SELECT t
  FROM (SELECT t.<<key>>
          FROM <<table>> t
         WHERE <<only>> AND (<<condition>>)
         ORDER BY t.<<key>>
         LIMIT :page_limit::bigint + 1 OFFSET :page_offset::bigint) AS place
<<fetched>>

-- name: joined
  JOIN <<table>> t USING (<<key>>)
 WHERE <<only>>

-- name: one_by_one
-- Each row of a view by its key, which then reaches the tables behind it.
 CROSS JOIN LATERAL (SELECT t FROM <<table>> t WHERE t.<<key>> = place.<<key>> AND <<only>> OFFSET 0) AS one

-- name: few
-- The keys of all rows that a condition holds for, if they are not too many.
few AS MATERIALIZED (SELECT t.<<key>> FROM <<table>> t WHERE <<only>> AND (<<condition>>) LIMIT <<most>> + 1),
known AS MATERIALIZED (SELECT count(*) AS rows FROM few)

-- name: of_few
-- The rows of a page: those of the few, or those read otherwise if they are too many. Only one of both is run.
SELECT t
  FROM (SELECT t.<<key>>
          FROM few t
         WHERE (SELECT rows FROM known) <= <<most>> AND <<after>>
         ORDER BY t.<<key>>
         LIMIT :page_limit::bigint + 1 <<offset>>) AS place
<<fetched>>
UNION ALL
SELECT many.t FROM (<<many>>) AS many WHERE (SELECT rows FROM known) > <<most>>

-- name: page
-- One page of a list: the entries as an array, how many there are on all pages, the last entry's key, how many entries
-- the page has, and whether more follow. What makes the page too large is left for the next one. The array is varchar,
-- which arrives as bytes.
<<known>>SELECT ('[' || coalesce(string_agg(CASE WHEN fits THEN <<json>> END, ',' ORDER BY n), '') || ']')::varchar,
       <<total>>,
       max((t).<<key>>::text COLLATE "C") FILTER (WHERE fits),
       count(*) FILTER (WHERE fits),
       coalesce(bool_or(NOT fits), false)
  FROM (SELECT t, n, n <= :page_limit::bigint AND (n = 1 OR bytes <= :page_bytes::bigint) AS fits
          FROM (SELECT t,
                       row_number() OVER (ORDER BY (t).<<key>>) AS n,
                       sum(<<bytes>>) OVER (ORDER BY (t).<<key>> ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM (<<rows>>) AS found) AS measured) AS page;
