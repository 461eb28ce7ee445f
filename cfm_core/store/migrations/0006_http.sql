-- What the HTTP edge of both managers keeps.
CREATE SCHEMA http;

-- The answers to requests with an Idempotency-Key, written in the transaction of their effect.
CREATE TABLE http.idempotent_answers (
  key         bytea PRIMARY KEY,                  -- SHA-256 of issuer, subject, method, path and the key
  fingerprint text NOT NULL,                      -- of what was asked for
  status      integer NOT NULL,
  headers     jsonb NOT NULL,
  text        text NOT NULL,
  at          timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idempotent_answers_at ON http.idempotent_answers (at);
