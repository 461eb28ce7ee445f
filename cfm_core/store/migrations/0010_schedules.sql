-- What starts by itself when its time comes: recurring orchestrations, and single ones that were asked for in advance. The
-- times of a schedule are reckoned in Python (cfm_core.provisioning.schedules); what time it is, the database says.

CREATE TABLE provision_manager.schedule (
  id               text COLLATE "C" PRIMARY KEY,
  version          integer NOT NULL DEFAULT 0,    -- rises with every write, also with those of the sweep
  cron             text NOT NULL,
  time_zone        text NOT NULL,
  overlap          text NOT NULL CONSTRAINT schedule_overlap CHECK (overlap IN ('skip', 'queue', 'allow')),
  type             text NOT NULL,
  template_ref     text NOT NULL,                 -- '': none is named
  correlation_id   text NOT NULL,                 -- '': each run has its own id
  payload          json NOT NULL CHECK (jsonb_typeof(payload::jsonb) = 'object'), -- as the API shows it
  paused           boolean NOT NULL,
  created_at       timestamptz NOT NULL,
  next_at          timestamptz,                   -- null: it is paused, or there is no such time any more
  last_at          timestamptz,                   -- the time that the last run stands for
  last_manifest_id text COLLATE "C" NOT NULL DEFAULT '',
  skipped_at       timestamptz,                   -- the last time at which there was a run already
  last_error       text NOT NULL DEFAULT '',      -- why the last time has started nothing
  CONSTRAINT schedule_paused CHECK (NOT paused OR next_at IS NULL)
);

CREATE INDEX schedule_due ON provision_manager.schedule (next_at) WHERE next_at IS NOT NULL;

-- A schedule as the API shows it.
CREATE FUNCTION provision_manager.schedule_json(s provision_manager.schedule) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || to_json(s.id)::text || ',"version":' || s.version
    || ',"cron":' || to_json(s.cron)::text || ',"timeZone":' || to_json(s.time_zone)::text
    || ',"overlap":"' || s.overlap || '","orchestrationType":' || to_json(s.type)::text
    || CASE s.template_ref WHEN '' THEN '' ELSE ',"templateRef":' || to_json(s.template_ref)::text END
    || CASE s.correlation_id WHEN '' THEN '' ELSE ',"correlationId":' || to_json(s.correlation_id)::text END
    || ',"payload":' || s.payload::text
    || ',"paused":' || s.paused
    || ',"createdTimestamp":"' || provision_manager.instant(s.created_at) || '"'
    || coalesce(',"nextAt":"' || provision_manager.instant(s.next_at) || '"', '')
    || coalesce(',"lastAt":"' || provision_manager.instant(s.last_at) || '"', '')
    || CASE s.last_manifest_id WHEN '' THEN '' ELSE ',"lastManifestId":' || to_json(s.last_manifest_id)::text END
    || coalesce(',"skippedAt":"' || provision_manager.instant(s.skipped_at) || '"', '')
    || CASE s.last_error WHEN '' THEN '' ELSE ',"lastError":' || to_json(s.last_error)::text END
    || '}';

-- Whether a run goes on, or is still being undone.
CREATE FUNCTION provision_manager.is_live(run text) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM provision_manager.orchestration o
                WHERE o.id = run AND o.state IN ('RUNNING', 'CANCELLING', 'COMPENSATING'));

-- An orchestration that was asked for in advance. The row goes when it has become a run; one that has not stays, to tell why.
CREATE TABLE provision_manager.delayed_start (
  id             text COLLATE "C" PRIMARY KEY,    -- the manifest's, and that of the run to be
  version        integer NOT NULL DEFAULT 0,
  type           text NOT NULL,
  template_ref   text NOT NULL,                   -- '': none is named
  correlation_id text NOT NULL,
  tenant_id      text NOT NULL,
  payload        jsonb NOT NULL,
  trace_context  jsonb,                           -- see orchestration
  start_at       timestamptz NOT NULL,
  state          text NOT NULL DEFAULT 'SCHEDULED' CONSTRAINT delayed_start_state
                   CHECK (state IN ('SCHEDULED', 'CANCELLED', 'ERRORED')),
  state_at       timestamptz NOT NULL DEFAULT now(),
  error_detail   text NOT NULL DEFAULT '',
  created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX delayed_start_due ON provision_manager.delayed_start (start_at) WHERE state = 'SCHEDULED';
