-- What has been changed over the API of both managers: who has done what, when, why, from where, and what it was before and after.
-- Whoever writes here waits for nobody; a function seals now and then what has been committed.
CREATE SCHEMA audit;

CREATE SEQUENCE audit.entry_id;

-- Whose entities are of a kind, and so who notes what is done to them.
CREATE FUNCTION audit.manager_of(kind text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kind IN ('tenants', 'cells', 'dataspace-profiles', 'participant-profiles', 'roles', 'users', 'query-indexes')
            THEN 'tenant-manager' ELSE 'provision-manager' END;

-- Only ever added to, by whoever seals. It names nobody, and holds nothing that callers have written freely.
CREATE TABLE audit.entry (
  id         bigint PRIMARY KEY,
  at         timestamptz NOT NULL,
  manager    text COLLATE "C" NOT NULL CONSTRAINT entry_manager CHECK (manager = audit.manager_of(kind)),
  action     text NOT NULL,
  kind       text COLLATE "C" NOT NULL,           -- of what it was done to, as in the path of the API
  entity_id  text COLLATE "C" NOT NULL,
  part       text NOT NULL,                       -- of it, such as an activity of an orchestration; '': the whole
  before     text NOT NULL,                       -- its state, or its version
  after      text NOT NULL,
  request_id text NOT NULL,
  tenant_id  text COLLATE "C",                    -- whom it belongs to; null: no tenant
  participant_profile_id text COLLATE "C"         -- likewise
);

CREATE INDEX entry_of ON audit.entry (entity_id, kind);
CREATE INDEX entry_of_orchestration ON audit.entry ((CASE kind WHEN 'orchestrations' THEN entity_id ELSE '' END), id);
CREATE INDEX entry_of_tenant ON audit.entry (tenant_id, id) WHERE tenant_id IS NOT NULL;
CREATE INDEX entry_of_participant_profile ON audit.entry (participant_profile_id, id) WHERE participant_profile_id IS NOT NULL;

-- What an entry tells of persons. It can be emptied, in two halves; the salts go with it, so that nobody can guess from the
-- digests what has been there.
CREATE TABLE audit.payload (
  entry_id        bigint PRIMARY KEY,
  who_salt        uuid DEFAULT gen_random_uuid(),
  actor           text,                           -- the subject of the token
  issuer          text,                           -- of the token; two of them may name two people alike
  address         text,                           -- from which the request came; '' where it is not known
  who_erased_by   bigint,                         -- the entry that tells of it
  what_salt       uuid DEFAULT gen_random_uuid(),
  reason          text,                           -- '': nobody is asked for one, or none was given
  document_before jsonb,                          -- as the API shows it, secrets masked; null: there was none, or states say it all
  document_after  jsonb,
  what_erased_by  bigint,
  CONSTRAINT payload_who CHECK ((who_salt IS NULL) = (who_erased_by IS NOT NULL)
                                AND (who_erased_by IS NULL OR actor IS NULL AND issuer IS NULL AND address IS NULL)),
  CONSTRAINT payload_what CHECK ((what_salt IS NULL) = (what_erased_by IS NOT NULL)
                                 AND (what_erased_by IS NULL
                                      OR reason IS NULL AND document_before IS NULL AND document_after IS NULL))
);

CREATE INDEX payload_actor ON audit.payload (actor);

-- What has not been sealed yet: each entry in one row with its payload, so that a change costs little. Sealing takes it apart, and
-- checks it: a constraint would cost each writer more than the row does.
CREATE TABLE audit.waiting (
  id              bigint PRIMARY KEY DEFAULT nextval('audit.entry_id'),
  at              timestamptz NOT NULL DEFAULT now(),
  manager         text COLLATE "C" NOT NULL,
  action          text NOT NULL,
  kind            text COLLATE "C" NOT NULL,
  entity_id       text COLLATE "C" NOT NULL,
  part            text NOT NULL,
  before          text NOT NULL,
  after           text NOT NULL,
  request_id      text NOT NULL,
  tenant_id       text COLLATE "C",
  participant_profile_id text COLLATE "C",
  actor           text,
  issuer          text,
  address         text,
  who_erased_by   bigint,
  reason          text,
  document_before text,                           -- JSON
  document_after  text,
  what_erased_by  bigint
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- A batch of entries: its digest covers theirs, in the order of their ids, and the digest of the seal before.
CREATE TABLE audit.seal (
  number   bigint PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  entries  integer NOT NULL,
  previous bytea NOT NULL,                        -- empty for the first
  digest   bytea NOT NULL
);

CREATE TABLE audit.sealed (
  entry_id bigint PRIMARY KEY,
  seal     bigint NOT NULL,
  who      bytea NOT NULL,                        -- digests of the halves of its payload
  what     bytea NOT NULL,
  digest   bytea NOT NULL                         -- of the entry and of both
);

CREATE INDEX sealed_by ON audit.sealed (seal, entry_id);

-- Whoever seals or erases holds its row. An advisory lock could be held by every role, so that nothing would ever be sealed.
CREATE TABLE audit.turn (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);

INSERT INTO audit.turn DEFAULT VALUES;

CREATE FUNCTION audit.refuse() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION '%.% is only ever added to', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER entry_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.entry
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER seal_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.seal
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER sealed_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.sealed
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER payload_is_kept BEFORE DELETE OR TRUNCATE ON audit.payload
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER waiting_is_kept BEFORE TRUNCATE ON audit.waiting
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
-- Constraints see to it that a half with a name for its end is empty.
CREATE TRIGGER payload_is_only_emptied BEFORE UPDATE ON audit.payload
FOR EACH ROW WHEN (
  NEW.entry_id <> OLD.entry_id
  OR (NEW.who_erased_by IS NULL OR OLD.who_erased_by IS NOT NULL)
     AND (NEW.who_salt, NEW.actor, NEW.issuer, NEW.address, NEW.who_erased_by)
         IS DISTINCT FROM (OLD.who_salt, OLD.actor, OLD.issuer, OLD.address, OLD.who_erased_by)
  OR (NEW.what_erased_by IS NULL OR OLD.what_erased_by IS NOT NULL)
     AND (NEW.what_salt, NEW.reason, NEW.document_before, NEW.document_after, NEW.what_erased_by)
         IS DISTINCT FROM (OLD.what_salt, OLD.reason, OLD.document_before, OLD.document_after, OLD.what_erased_by))
EXECUTE FUNCTION audit.refuse();

CREATE TRIGGER waiting_is_only_emptied BEFORE UPDATE ON audit.waiting
FOR EACH ROW WHEN (
  (NEW.id, NEW.at, NEW.manager, NEW.action, NEW.kind, NEW.entity_id, NEW.part, NEW.before, NEW.after, NEW.request_id,
   NEW.tenant_id, NEW.participant_profile_id)
  IS DISTINCT FROM
  (OLD.id, OLD.at, OLD.manager, OLD.action, OLD.kind, OLD.entity_id, OLD.part, OLD.before, OLD.after, OLD.request_id,
   OLD.tenant_id, OLD.participant_profile_id)
  OR (NEW.who_erased_by IS NULL OR OLD.who_erased_by IS NOT NULL
      OR NEW.actor IS NOT NULL OR NEW.issuer IS NOT NULL OR NEW.address IS NOT NULL)
     AND (NEW.actor, NEW.issuer, NEW.address, NEW.who_erased_by)
         IS DISTINCT FROM (OLD.actor, OLD.issuer, OLD.address, OLD.who_erased_by)
  OR (NEW.what_erased_by IS NULL OR OLD.what_erased_by IS NOT NULL
      OR NEW.reason IS NOT NULL OR NEW.document_before IS NOT NULL OR NEW.document_after IS NOT NULL)
     AND (NEW.reason, NEW.document_before, NEW.document_after, NEW.what_erased_by)
         IS DISTINCT FROM (OLD.reason, OLD.document_before, OLD.document_after, OLD.what_erased_by))
EXECUTE FUNCTION audit.refuse();

-- What waits leaves only to become an entry.
CREATE FUNCTION audit.check_arrival() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF EXISTS (SELECT FROM gone g
              WHERE NOT EXISTS (SELECT FROM audit.sealed s
                                  JOIN audit.entry e ON e.id = s.entry_id
                                  JOIN audit.payload p ON p.entry_id = s.entry_id
                                 WHERE s.entry_id = g.id)) THEN
    RAISE EXCEPTION 'audit.waiting is only ever added to, and sealed' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER waiting_is_sealed AFTER DELETE ON audit.waiting REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION audit.check_arrival();

-- Secrets --------------------------------------------------------------------------------------------------------------

-- Whether a key is that of a secret, as cfm_core.masking has it.
CREATE FUNCTION audit.is_secret(key text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(regexp_replace(regexp_replace(key, '([a-z])([A-Z])', '\1 \2', 'g'), '([A-Z])([A-Z][a-z])', '\1 \2', 'g'))
       ~ ('(^|[^[:alpha:]])(password|passphrase|pwd|secret|token'
          || '|(api|access|private)s?[^[:alpha:]]+key|apikey|accesskey|privatekey)s?($|[^[:alpha:]])');

CREATE FUNCTION audit.masked_value(value jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
  RETURN CASE jsonb_typeof(value)
    WHEN 'object' THEN (
      SELECT coalesce(jsonb_object_agg(m.key, CASE
               WHEN m.value NOT IN ('null', 'true', 'false', '""', '[]', '{}') AND (m.value #>> '{}') NOT LIKE 'vault:%'
                    AND audit.is_secret(m.key) THEN '"***"'
               -- A call costs more than all the rest.
               WHEN jsonb_typeof(m.value) IN ('object', 'array') THEN audit.masked_value(m.value)
               ELSE m.value END), '{}')
        FROM jsonb_each(value) m)
    WHEN 'array' THEN (
      SELECT coalesce(jsonb_agg(audit.masked_value(e.value) ORDER BY e.n), '[]')
        FROM jsonb_array_elements(value) WITH ORDINALITY AS e (value, n))
    ELSE value END;
END
$$;

-- A document without its secrets: here they could never be removed.
CREATE FUNCTION audit.masked(document jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
  RETURN audit.masked_value(document);
EXCEPTION WHEN statement_too_complex THEN
  -- Nobody has looked into it.
  RETURN '"***"';
END
$$;

-- Writing --------------------------------------------------------------------------------------------------------------

-- Who calls is told by the setting ``cfm.caller``, for the length of a transaction. Who writes is known from what they may: the
-- triggers below, and ``provision_manager.note`` for the Provision Manager's role, write with the rights of their owner.
-- No other function here can be called by a manager to write.

-- The same of a document's text. Most hold nothing that could be the key of a secret, nor anything escaped, which might hide one:
-- they are not taken apart.
CREATE FUNCTION audit.masked_text(document text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN document ~* 'password|passphrase|pwd|secret|token|(api|access|private)s?[^a-z]*key|\\'
            THEN audit.masked(document::jsonb)::text ELSE document END;

-- Notes what was done, by whoever is named, or else by the caller. Gives the entry's id. What a trigger has been fired by stands for
-- the action; a state before or after that is null is that of nothing. It is one function because each calls for its own expressions to
-- be made ready in every transaction.
CREATE FUNCTION audit.note(
  action text, kind text, entity_id text, part text, before text, after text, document_before text, document_after text,
  tenant_id text DEFAULT NULL, participant_profile_id text DEFAULT NULL,
  actor text DEFAULT NULL, reason text DEFAULT NULL, request_id text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
  caller jsonb := nullif(current_setting('cfm.caller', true), '');
  number bigint := nextval('audit.entry_id');
BEGIN
  INSERT INTO audit.waiting (
    id, manager, action, kind, entity_id, part, before, after, request_id, tenant_id, participant_profile_id,
    actor, issuer, address, reason, document_before, document_after)
  VALUES (number, audit.manager_of(kind),
          CASE action WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'change' WHEN 'DELETE' THEN 'delete' ELSE action END,
          kind, entity_id, part, coalesce(before, 'absent'), coalesce(after, 'deleted'),
          coalesce(request_id, caller->>'requestId', ''),
          nullif(tenant_id, ''), nullif(participant_profile_id, ''),
          coalesce(actor, caller->>'actor', ''), coalesce(caller->>'issuer', ''), coalesce(caller->>'address', ''),
          coalesce(reason, caller->>'reason', ''), audit.masked_text(document_before), audit.masked_text(document_after));
  RETURN number;
END
$$;

-- Notes what was done to one of the Provision Manager's entities; for its role alone.
CREATE FUNCTION provision_manager.note(
  action text, kind text, entity_id text, part text, before text, after text, document_before text, document_after text,
  tenant_id text, participant_profile_id text, actor text, reason text, request_id text)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Nor does it tell of more than has been emptied: ``audit.erase`` does that.
  IF audit.manager_of(kind) <> 'provision-manager' OR action = 'erase' AND after LIKE 'erased %' THEN
    RAISE EXCEPTION 'this is not for the Provision Manager to note' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN audit.note(action, kind, entity_id, part, before, after, document_before, document_after,
                    tenant_id, participant_profile_id, actor, reason, request_id);
END
$$;

-- Empties what entries so far tell: of what was done to an entity, why and what it held; or of who somebody is. Gives how many had
-- something to empty. An actor is whom the tokens of ``wanted_issuer`` call so; those of any, if that is empty.
CREATE FUNCTION audit.erase(
  wanted_kind text, wanted_id text, wanted_actor text, wanted_issuer text, actor text, reason text, request_id text)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  caller jsonb := nullif(current_setting('cfm.caller', true), '');
  kind constant text := coalesce(wanted_kind, 'actors');
  number bigint;
  erased integer;
  tenant text;
  profile text;
BEGIN
  -- What is being sealed is neither here nor there.
  PERFORM FROM audit.turn FOR UPDATE;
  number := nextval('audit.entry_id');
  IF wanted_actor IS NULL THEN
    WITH emptied AS (
      UPDATE audit.payload p
         SET what_salt = NULL, reason = NULL, document_before = NULL, document_after = NULL, what_erased_by = number
        FROM audit.entry e
       WHERE e.kind = wanted_kind AND e.entity_id = wanted_id AND e.action <> 'erase'
         AND p.entry_id = e.id AND p.entry_id < number AND p.what_erased_by IS NULL
      RETURNING e.tenant_id, e.participant_profile_id), emptied_waiting AS (
      UPDATE audit.waiting w
         SET reason = NULL, document_before = NULL, document_after = NULL, what_erased_by = number
       WHERE w.kind = wanted_kind AND w.entity_id = wanted_id AND w.action <> 'erase'
         AND w.id < number AND w.what_erased_by IS NULL
      RETURNING w.tenant_id, w.participant_profile_id)
    SELECT count(*), max(tenant_id), max(participant_profile_id) INTO erased, tenant, profile
      FROM (SELECT * FROM emptied UNION ALL SELECT * FROM emptied_waiting) AS all_emptied;
  ELSE
    WITH emptied AS (
      UPDATE audit.payload p
         SET who_salt = NULL, actor = NULL, issuer = NULL, address = NULL, who_erased_by = number
       WHERE p.actor = wanted_actor AND (wanted_issuer = '' OR p.issuer = wanted_issuer) AND p.entry_id < number
      RETURNING 1), emptied_waiting AS (
      UPDATE audit.waiting w
         SET actor = NULL, issuer = NULL, address = NULL, who_erased_by = number
       WHERE w.actor = wanted_actor AND (wanted_issuer = '' OR w.issuer = wanted_issuer) AND w.id < number
      RETURNING 1)
    SELECT count(*) INTO erased FROM (SELECT 1 FROM emptied UNION ALL SELECT 1 FROM emptied_waiting) AS all_emptied;
  END IF;
  IF erased > 0 THEN
    INSERT INTO audit.waiting (
      id, manager, action, kind, entity_id, part, before, after, request_id, tenant_id, participant_profile_id,
      actor, issuer, address, reason)
    VALUES (number, audit.manager_of(kind), 'erase', kind, coalesce(wanted_id, ''), '', 'kept', 'erased ' || erased, request_id,
            tenant, profile, actor, coalesce(caller->>'issuer', ''), coalesce(caller->>'address', ''), reason);
  END IF;
  RETURN erased;
END
$$;

-- A document that waits. What a role has written into its tables past the API may be no JSON; that keeps nothing from being
-- sealed or told, and stands there as the text that it is. Parallel workers can catch no error.
CREATE FUNCTION audit.document(written text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE
AS $$
BEGIN
  RETURN written::jsonb;
EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
  RETURN to_jsonb(written);
END
$$;

-- Sealing --------------------------------------------------------------------------------------------------------------

-- SHA-256 over texts, as a JSON array without spaces, in UTF-8.
CREATE FUNCTION audit.digest(VARIADIC texts text[]) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(array_to_json(texts)::text, 'UTF8'));

-- Entries and payloads as the texts that digests cover.
CREATE VIEW audit.evidence AS
SELECT e.id,
       ARRAY[e.id::text, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), e.manager, e.action, e.kind, e.entity_id,
             e.part, e.before, e.after, e.request_id, e.tenant_id, e.participant_profile_id] AS entry,
       CASE WHEN p.entry_id IS NOT NULL THEN ARRAY[p.who_salt::text, p.actor, p.issuer, p.address] END AS who,
       p.who_erased_by,
       CASE WHEN p.entry_id IS NOT NULL THEN
         ARRAY[p.what_salt::text, p.reason, p.document_before::text, p.document_after::text] END AS what,
       p.what_erased_by
  FROM audit.entry e
  LEFT JOIN audit.payload p ON p.entry_id = e.id;

-- Seals some of what waits. Gives the seal's number, how many entries it has, and its digest; no row where nothing waits, or
-- somebody else is at it.
CREATE FUNCTION audit.seal_waiting(most integer) RETURNS SETOF audit.seal
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ids  bigint[];
  last audit.seal;
BEGIN
  PERFORM FROM audit.turn FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  ids := ARRAY(SELECT w.id FROM audit.waiting w ORDER BY w.id LIMIT most);
  IF ids = '{}' THEN
    RETURN;
  END IF;
  WITH taken AS (
    SELECT w.* FROM audit.waiting w WHERE w.id = ANY (ids)
  ), entries AS (
    INSERT INTO audit.entry (id, at, manager, action, kind, entity_id, part, before, after, request_id, tenant_id,
                             participant_profile_id)
    SELECT id, at, manager, action, kind, entity_id, part, before, after, request_id, tenant_id, participant_profile_id
      FROM taken
  )
  INSERT INTO audit.payload (entry_id, who_salt, actor, issuer, address, who_erased_by,
                             what_salt, reason, document_before, document_after, what_erased_by)
  SELECT id, CASE WHEN who_erased_by IS NULL THEN gen_random_uuid() END, actor, issuer, address, who_erased_by,
         CASE WHEN what_erased_by IS NULL THEN gen_random_uuid() END, reason, audit.document(document_before), audit.document(document_after),
         what_erased_by
    FROM taken;
  SELECT * INTO last FROM audit.seal ORDER BY number DESC LIMIT 1;
  last.number := coalesce(last.number, 0) + 1;
  last.digest := coalesce(last.digest, '');
  RETURN QUERY
  WITH halves AS (
    -- What should be there and is not has a digest nevertheless, and is missing from then on.
    SELECT w.id, coalesce(v.entry, '{}') AS entry,
           audit.digest(VARIADIC coalesce(v.who, '{}')) AS who, audit.digest(VARIADIC coalesce(v.what, '{}')) AS what
      FROM unnest(ids) AS w (id)
      LEFT JOIN audit.evidence v ON v.id = w.id
  ), sealed AS (
    INSERT INTO audit.sealed (entry_id, seal, who, what, digest)
    SELECT h.id, last.number, h.who, h.what,
           audit.digest(VARIADIC h.entry || ARRAY[encode(h.who, 'hex'), encode(h.what, 'hex')])
      FROM halves h
    RETURNING entry_id, digest
  )
  INSERT INTO audit.seal (number, entries, previous, digest)
  SELECT last.number, count(*), last.digest,
         audit.digest(VARIADIC ARRAY[last.number::text, encode(last.digest, 'hex')]
                               || array_agg(encode(s.digest, 'hex') ORDER BY s.entry_id))
    FROM sealed s
  RETURNING *;
  DELETE FROM audit.waiting w WHERE w.id = ANY (ids);
END
$$;

-- Reading --------------------------------------------------------------------------------------------------------------

-- In the order of their keys, by which all three tables are read: both halves can then be merged, and a page of a long trail
-- begins at once.
CREATE VIEW audit.trail AS
(SELECT e.*, p.actor, p.issuer, p.address, p.reason, p.document_before, p.document_after, p.who_erased_by, p.what_erased_by,
        CASE e.kind WHEN 'orchestrations' THEN e.entity_id ELSE '' END AS orchestration_id,
        s.seal
   FROM audit.entry e
   LEFT JOIN audit.payload p ON p.entry_id = e.id
   LEFT JOIN audit.sealed s ON s.entry_id = e.id
  ORDER BY e.id)
 UNION ALL
SELECT w.id, w.at, w.manager, w.action, w.kind, w.entity_id, w.part, w.before, w.after, w.request_id, w.tenant_id,
       w.participant_profile_id, w.actor, w.issuer, w.address, w.reason, audit.document(w.document_before), audit.document(w.document_after),
       w.who_erased_by, w.what_erased_by,
       CASE w.kind WHEN 'orchestrations' THEN w.entity_id ELSE '' END,
       NULL
  FROM audit.waiting w;

CREATE FUNCTION audit.member(name text, value text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN coalesce(value, '') = '' THEN '' ELSE ',"' || name || '":' || to_json(value)::text END;

CREATE FUNCTION audit.entry_json(t audit.trail) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"id":' || t.id || ',"at":"' || tenant_manager.instant(t.at) || '"' || audit.member('manager', t.manager)
    || audit.member('actor', t.actor) || audit.member('issuer', t.issuer) || audit.member('address', t.address) || audit.member('action', t.action)
    || audit.member('kind', t.kind) || audit.member('entityId', t.entity_id) || audit.member('part', t.part)
    || audit.member('orchestrationId', t.orchestration_id)
    || CASE t.kind
         WHEN 'orchestrations' THEN audit.member('activityId', t.part)
         WHEN 'activity-types' THEN audit.member('activityType', t.entity_id)
         WHEN 'schedules' THEN audit.member('scheduleId', t.entity_id)
         WHEN 'dead-letters' THEN audit.member('deadLetterId', t.entity_id)
         ELSE ''
       END
    || audit.member('reason', t.reason)
    || ',"before":' || to_json(t.before)::text || ',"after":' || to_json(t.after)::text
    || coalesce(',"documentBefore":' || t.document_before::text, '')
    || coalesce(',"documentAfter":' || t.document_after::text, '')
    || audit.member('requestId', t.request_id)
    || coalesce(',"actorErasedBy":' || t.who_erased_by, '') || coalesce(',"contentErasedBy":' || t.what_erased_by, '')
    || coalesce(',"seal":' || t.seal, '') || '}';

-- What is noted by itself ----------------------------------------------------------------------------------------------

-- These triggers are for changes that somebody has asked for over the API. What functions do on behalf of events has no caller.
-- Whoever writes here does it by a change of a row, and by nothing else. An assignment calls a function at a fraction of PERFORM's cost.

CREATE FUNCTION tenant_manager.audit_tenants() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'tenants', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      tenant_manager.tenant_json(OLD), tenant_manager.tenant_json(NEW),
                      coalesce(NEW.id, OLD.id)::text);
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.audit_cells() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'cells', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      tenant_manager.cell_json(OLD), tenant_manager.cell_json(NEW));
  RETURN NULL;
END
$$;

-- Its deployments have entries of their own.
CREATE FUNCTION tenant_manager.audit_dataspace_profiles() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'dataspace-profiles', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      (tenant_manager.dataspace_profile_json(OLD)::jsonb - 'deployments')::text,
                      (tenant_manager.dataspace_profile_json(NEW)::jsonb - 'deployments')::text);
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.audit_dataspace_deployments() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(CASE TG_OP WHEN 'INSERT' THEN 'deploy' ELSE 'undeploy' END, 'dataspace-profiles',
                      coalesce(NEW.dataspace_profile_id, OLD.dataspace_profile_id)::text, coalesce(NEW.id, OLD.id)::text,
                      OLD.state, NEW.state,
                      tenant_manager.dataspace_deployment_json(OLD), tenant_manager.dataspace_deployment_json(NEW));
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.audit_participant_profiles() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'participant-profiles', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      tenant_manager.participant_profile_json(OLD), tenant_manager.participant_profile_json(NEW),
                      coalesce(NEW.tenant_id, OLD.tenant_id)::text, coalesce(NEW.id, OLD.id)::text);
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.audit_roles() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'roles', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      tenant_manager.role_json(OLD), tenant_manager.role_json(NEW));
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.audit_users() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'users', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      tenant_manager.user_json(OLD), tenant_manager.user_json(NEW));
  RETURN NULL;
END
$$;

CREATE FUNCTION tenant_manager.audit_query_indexes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'query-indexes', coalesce(NEW.id, OLD.id)::text, '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      tenant_manager.query_index_json(OLD), tenant_manager.query_index_json(NEW));
  RETURN NULL;
END
$$;

CREATE FUNCTION provision_manager.audit_activity_definitions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(TG_OP, 'activity-definitions', coalesce(NEW.type, OLD.type), '',
                      'version ' || OLD.version, 'version ' || NEW.version,
                      OLD.document::text, NEW.document::text);
  RETURN NULL;
END
$$;

-- A version of a definition never changes; it is put in force, may rest for a while, and goes out of force.
CREATE FUNCTION provision_manager.audit_definitions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note(CASE WHEN TG_OP = 'INSERT' THEN 'create' WHEN NOT NEW.is_current THEN 'retire'
                           WHEN NEW.is_active THEN 'resume' ELSE 'pause' END,
                      'orchestration-definitions', NEW.type, NEW.template_ref || '/' || NEW.version,
                      CASE WHEN TG_OP = 'INSERT' THEN 'absent' WHEN OLD.is_active THEN 'active' ELSE 'inactive' END,
                      CASE WHEN NOT NEW.is_current THEN 'retired' WHEN NEW.is_active THEN 'active' ELSE 'inactive' END,
                      provision_manager.definition_json(OLD), provision_manager.definition_json(NEW));
  RETURN NULL;
END
$$;

-- What it was started with is kept, and forgotten, with the orchestration.
CREATE FUNCTION provision_manager.audit_starts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  -- Not those that come back from the archive, and not what undoes others: they are part of something that is noted.
  IF NEW.created_at >= now() AND provision_manager.compensated_by(NEW.id) IS NULL THEN
    entry := audit.note('start', 'orchestrations', NEW.id, '', 'absent', lower(NEW.state),
                        NULL, NULL, NEW.tenant_id, NEW.correlation_id);
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION provision_manager.audit_delayed_starts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  entry bigint;
BEGIN
  entry := audit.note('start', 'orchestrations', NEW.id, '', 'absent', lower(NEW.state),
                      NULL, NULL, NEW.tenant_id, NEW.correlation_id);
  RETURN NULL;
END
$$;

-- The condition is written out: a function in it is looked up anew with each statement, which costs more than the rest of it.
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.tenants
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_tenants();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.cells
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_cells();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.dataspace_profiles
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_dataspace_profiles();

CREATE TRIGGER audit AFTER INSERT OR DELETE ON tenant_manager.dataspace_deployments
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_dataspace_deployments();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.participant_profiles
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_participant_profiles();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.roles
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_roles();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.users
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_users();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tenant_manager.query_indexes
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION tenant_manager.audit_query_indexes();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON provision_manager.activity_definition
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION provision_manager.audit_activity_definitions();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OF is_active, is_current ON provision_manager.definition
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION provision_manager.audit_definitions();

CREATE TRIGGER audit AFTER INSERT ON provision_manager.orchestration
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION provision_manager.audit_starts();

CREATE TRIGGER audit AFTER INSERT ON provision_manager.delayed_start
FOR EACH ROW WHEN (current_setting('cfm.caller', true) <> '')
EXECUTE FUNCTION provision_manager.audit_delayed_starts();
