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
