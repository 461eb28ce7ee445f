-- What has to be announced is written here in the transaction that makes it true; the trigger publishes and deletes it.
CREATE SCHEMA eventing;

CREATE TABLE eventing.outbox (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subject      text NOT NULL,                     -- the NATS subject, and the key to the function that handles it
  events       jsonb NOT NULL,                    -- an array of CloudEvents
  claimable_at timestamptz NOT NULL DEFAULT now() -- until then somebody is taking care of the row
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX outbox_claimable ON eventing.outbox (claimable_at);
