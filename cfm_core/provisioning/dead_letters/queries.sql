-- name: keep
-- Keeps letters, but for those that are kept already.
INSERT INTO provision_manager.dead_letter (key, subject, target, reason, deliveries, event, raw)
SELECT n.key, n.subject, n.target, n.reason, n.deliveries, n.event, decode(n.raw, 'base64')
  FROM json_to_recordset(:notices::json)
    AS n (key text, subject text, target text, reason text, deliveries integer, event text, raw text)
ON CONFLICT (subject, key) DO NOTHING;

-- name: find
-- One letter, 0 or 1 row.
SELECT id, version, at, subject, target, reason, deliveries, event, raw, replayed_at,
       provision_manager.secret_keys()
  FROM provision_manager.dead_letter
 WHERE id = :id;

-- name: lock
-- The same, held until commit.
SELECT id, version, at, subject, target, reason, deliveries, event, raw, replayed_at,
       provision_manager.secret_keys()
  FROM provision_manager.dead_letter
 WHERE id = :id
   FOR UPDATE;

-- name: mark
-- Notes that a letter has been sent once more. Gives its version and when that was.
UPDATE provision_manager.dead_letter
   SET version = version + 1, replayed_at = now()
 WHERE id = :id
RETURNING version, replayed_at;

-- name: delete
-- Deletes a letter if it is in one of the versions; null stands for any. Gives its id, and whether it was sent. 0 or 1 row.
DELETE FROM provision_manager.dead_letter
 WHERE id = :id AND (:versions::integer[] IS NULL OR version = ANY (:versions::integer[]))
RETURNING id, replayed_at IS NOT NULL;

-- name: forget
-- Deletes some letters that are older than they are kept, as far as nobody holds them. Gives their ids.
WITH old AS (
  SELECT id
    FROM provision_manager.dead_letter
   WHERE at < now() - :kept::interval
   ORDER BY at
   LIMIT :most::integer
     FOR UPDATE SKIP LOCKED)
DELETE FROM provision_manager.dead_letter l USING old WHERE l.id = old.id
RETURNING l.id;

-- name: erase
-- Deletes the letters whose content has one of some texts in it.
DELETE FROM provision_manager.dead_letter l
 WHERE EXISTS (SELECT
                 FROM unnest(:marks::text[]) AS m (mark)
                WHERE position(m.mark IN l.event) > 0 OR position(convert_to(m.mark, 'UTF8') IN l.raw) > 0);
