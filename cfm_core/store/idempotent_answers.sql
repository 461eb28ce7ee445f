-- name: lock
-- Whether nobody else works on a request with this key; holds it until the commit.
SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0));

-- name: find
-- The answer that is kept for a key, 0 or 1 row.
SELECT fingerprint, status, headers::text, text
  FROM http.idempotent_answers
 WHERE key = sha256(convert_to(:key, 'UTF8')) AND at > now() - :kept::interval;

-- name: keep
-- Keeps an answer, in place of one that is not kept any more.
INSERT INTO http.idempotent_answers (key, fingerprint, status, headers, text)
VALUES (sha256(convert_to(:key, 'UTF8')), :fingerprint, :status::integer, :headers::jsonb, :text)
ON CONFLICT (key) DO UPDATE
   SET fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers, text = excluded.text,
       at = now();

-- name: forget
-- Forgets some answers that were kept long enough; the rest comes next time.
DELETE FROM http.idempotent_answers
 WHERE key IN (SELECT key FROM http.idempotent_answers WHERE at <= now() - :kept::interval ORDER BY at LIMIT 10000);
