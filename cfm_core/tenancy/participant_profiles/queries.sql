-- name: find
-- The version and JSON of one profile of one tenant, 0 or 1 row.
SELECT t.version, tenant_manager.participant_profile_json(t)
  FROM tenant_manager.participant_profiles t
 WHERE t.id = :id::uuid AND t.tenant_id = :tenant_id::uuid AND <<within>>;

-- name: basis
-- Whether the tenant exists; every cell with its load; the dataspace profiles, all or those given, with the cells that
-- serve them; and how often any of it, but for the loads, has changed until now.
SELECT EXISTS (SELECT FROM tenant_manager.tenants WHERE id = :tenant_id::uuid),
       (SELECT coalesce(json_agg(json_build_array(
                 c.id, c.external_id, c.state,
                 coalesce((SELECT sum(profiles) FROM tenant_manager.cell_loads WHERE cell_id = c.id), 0)) ORDER BY c.id),
               '[]')::text
          FROM tenant_manager.cells c),
       (SELECT coalesce(json_agg(json_build_object(
                 'id', d.id,
                 'credentialSpecs', d.spec->'credentialSpecs',
                 'cellIds', ARRAY(SELECT cell_id
                                    FROM tenant_manager.dataspace_deployments
                                   WHERE dataspace_profile_id = d.id),
                 'artifacts', d.artifacts) ORDER BY d.id), '[]')::text
          FROM tenant_manager.dataspace_profiles d
         WHERE :all::boolean OR d.id = ANY (ARRAY(SELECT jsonb_array_elements_text(:ids::jsonb)::uuid))),
       (SELECT coalesce(sum(changes), 0)::bigint FROM tenant_manager.basis_changes);

-- name: insert
-- Keeps a new profile and announces its manifest, if its tenant is still there and what it rests on has not changed since
-- so many changes, if a number is given; a trigger looks at the rest.
-- Gives the profile's version and JSON, and the id of the outbox row, 0 or 1 row.
WITH tenant AS (
  SELECT id FROM tenant_manager.tenants WHERE id = :tenant_id::uuid FOR KEY SHARE
), inserted AS (
  INSERT INTO tenant_manager.participant_profiles AS p (
         id, identifier, tenant_id, dataspace_profile_ids, names_dataspaces, participant_roles, vpas, properties,
         manifest_id, sent_manifest_ids, manifest, trace_context, due_at)
  SELECT :id::uuid, :identifier, tenant.id, :dataspace_profile_ids::jsonb, :names_dataspaces,
         :participant_roles::jsonb, tenant_manager.vpas_in(:vpas::jsonb, 'pending', now()), :properties::jsonb,
         :manifest_id, ARRAY[:manifest_id], :event::jsonb->'data', :trace::jsonb, clock_timestamp() + :due::interval
    FROM tenant
   WHERE :basis_changes::bigint IS NULL
      OR (SELECT coalesce(sum(changes), 0) FROM tenant_manager.basis_changes) = :basis_changes::bigint
  RETURNING p
), announced AS (
  INSERT INTO eventing.outbox (subject, events, claimable_at)
  SELECT :subject, jsonb_build_array(:event::jsonb), now() + :lease::interval FROM inserted
  RETURNING id
)
SELECT (inserted.p).version, tenant_manager.participant_profile_json(inserted.p), announced.id
  FROM inserted, announced;

-- name: lock
-- One profile of one tenant, its row held until the commit. Gives 0 or 1 row.
SELECT version, identifier, dataspace_profile_ids::text, names_dataspaces, participant_roles::text, vpas::text,
       properties::text, state, live, failed_manifest_id, error, error_detail, manifest_id, sent_manifest_ids
  FROM tenant_manager.participant_profiles t
 WHERE id = :id::uuid AND tenant_id = :tenant_id::uuid AND <<within>>
   FOR UPDATE;

-- name: change
-- Writes a profile that is held; without a state its VPAs stay in theirs, without a manifest it awaits what it did.
-- Gives the profile's version and JSON.
UPDATE tenant_manager.participant_profiles p
   SET version = version + 1,
       dataspace_profile_ids = :dataspace_profile_ids::jsonb,
       names_dataspaces = :names_dataspaces,
       participant_roles = :participant_roles::jsonb,
       properties = :properties::jsonb,
       failed_manifest_id = :failed_manifest_id,
       state = coalesce(:state, state),
       vpas = CASE
                WHEN :state::text IS NULL THEN :vpas::jsonb
                ELSE tenant_manager.vpas_in(:vpas::jsonb, :state, now())
              END,
       manifest_id = coalesce(:manifest_id, manifest_id),
       sent_manifest_ids = CASE
                             WHEN :manifest_id::text IS NULL THEN sent_manifest_ids
                             ELSE sent_manifest_ids || :manifest_id::text
                           END,
       manifest = coalesce(:manifest::jsonb, manifest),
       trace_context = CASE WHEN :manifest_id::text IS NULL THEN trace_context ELSE :trace::jsonb END,
       sends = CASE WHEN :manifest_id::text IS NULL THEN sends ELSE 1 END,
       due_at = CASE WHEN :manifest_id::text IS NULL THEN due_at ELSE clock_timestamp() + :due::interval END
 WHERE id = :id::uuid
RETURNING p.version, tenant_manager.participant_profile_json(p);

-- name: purge
-- Deletes a profile that is held.
DELETE FROM tenant_manager.participant_profiles WHERE id = :id::uuid;

-- name: apply
-- Brings profiles up to date with responses, at most one for each: what model.respond says, for many at once. Rows are
-- held in the order of their ids, so that two batches never wait for each other in a circle. They are named as an array:
-- joined, a table that has grown since it was last analyzed would be read from end to end.
-- Gives the number of each response with its verdict.
WITH response AS (
  SELECT *
    FROM jsonb_to_recordset(:responses::jsonb) AS r (
         n integer, profile_id uuid, manifest_id text, deploys boolean, success boolean, detail text, properties jsonb,
         retried boolean)
), held AS (
  SELECT p.*
    FROM tenant_manager.participant_profiles p
   WHERE p.id = ANY (ARRAY(SELECT profile_id FROM response))
   ORDER BY p.id
     FOR UPDATE
), decided AS (
  SELECT r.*, h.id,
         NOT r.deploys AND h.state = 'error' AND r.manifest_id <> h.manifest_id AS compensates,
         'compensation failed: ' || r.detail AS told,
         CASE
           WHEN r.manifest_id = h.manifest_id
                AND (h.state = CASE WHEN r.deploys THEN 'pending' ELSE 'disposing' END
                     OR h.state = 'error' AND r.retried
                        AND (r.success OR left(h.error_detail, length(r.detail)) <> r.detail))
             THEN CASE WHEN NOT r.success THEN 'error' WHEN r.deploys THEN 'active' ELSE 'disposed' END
           WHEN NOT r.deploys AND h.state = 'pending' AND r.manifest_id = h.manifest_id || :compensation_suffix
             THEN 'early'
           WHEN NOT r.deploys AND h.state = 'error' AND h.failed_manifest_id <> ''
                AND r.manifest_id <> ALL (h.sent_manifest_ids)
                AND (right(r.manifest_id, length(:compensation_suffix)) <> :compensation_suffix
                     OR r.manifest_id = h.failed_manifest_id || :compensation_suffix)
             THEN CASE
                    WHEN r.success THEN 'disposed'
                    WHEN right(h.error_detail, length('compensation failed: ' || r.detail))
                         <> 'compensation failed: ' || r.detail THEN 'error'
                  END
         END AS outcome
    FROM response r
    LEFT JOIN held h ON h.id = r.profile_id
), changed AS (
  UPDATE tenant_manager.participant_profiles p
     SET version = p.version + 1,
         state = d.outcome,
         vpas = CASE WHEN p.state = d.outcome THEN p.vpas ELSE tenant_manager.vpas_in(p.vpas, d.outcome, now()) END,
         properties = CASE
                        WHEN d.deploys THEN p.properties || jsonb_build_object(
                          :vpa_state::text,
                          CASE WHEN p.live THEN coalesce(p.properties->:vpa_state::text, '{}') ELSE '{}' END
                          || d.properties)
                        ELSE p.properties
                      END,
         error = CASE WHEN d.success THEN p.error AND NOT d.deploys ELSE true END,
         error_detail = CASE
                          WHEN d.success AND d.deploys THEN ''
                          WHEN d.success THEN p.error_detail
                          WHEN d.compensates THEN concat_ws('; ', nullif(p.error_detail, ''), d.told)
                          ELSE d.detail
                        END,
         live = CASE d.outcome WHEN 'active' THEN true WHEN 'disposed' THEN false ELSE p.live END,
         failed_manifest_id = CASE
                                WHEN d.success THEN ''
                                WHEN d.deploys THEN d.manifest_id
                                ELSE p.failed_manifest_id
                              END,
         -- What has failed may be undone, or succeed after all; who asks again is told.
         manifest = CASE WHEN d.outcome = 'error' AND NOT d.compensates THEN p.manifest END,
         trace_context = CASE WHEN d.outcome = 'error' AND NOT d.compensates THEN p.trace_context END,
         due_at = CASE WHEN d.outcome = 'error' AND NOT d.compensates THEN clock_timestamp() + :due::interval END,
         sends = CASE WHEN d.outcome = 'error' AND NOT d.compensates THEN 1 ELSE p.sends END
    FROM decided d
   WHERE p.id = ANY (ARRAY(SELECT id FROM decided)) AND p.id = d.id AND d.outcome <> 'early'
  RETURNING d.n
)
SELECT d.n,
       CASE
         WHEN d.id IS NULL THEN 'unknown'
         WHEN d.outcome = 'early' THEN 'early'
         WHEN c.n IS NULL THEN 'ignored'
         ELSE 'applied'
       END
  FROM decided d
  LEFT JOIN changed c ON c.n = d.n;

-- name: resend
-- Leaves the manifests of overdue responses in the outbox again, and puts profiles in error whose manifest was sent too
-- often; those in error are asked for no more. Gives one row: the profiles given up, and the new outbox row with its events, or nulls.
WITH overdue AS (
  SELECT id, sends, state
    FROM tenant_manager.participant_profiles
   WHERE due_at <= clock_timestamp()
   ORDER BY due_at
   LIMIT :batch
     FOR UPDATE SKIP LOCKED
), given_up AS (
  UPDATE tenant_manager.participant_profiles p
     SET version = p.version + 1,
         state = 'error',
         vpas = tenant_manager.vpas_in(p.vpas, 'error', now()),
         error = true,
         error_detail = 'no response to manifest ' || p.manifest_id || ', which was sent ' || p.sends || ' times',
         failed_manifest_id = CASE p.state WHEN 'pending' THEN p.manifest_id ELSE p.failed_manifest_id END,
         manifest = NULL,
         trace_context = NULL,
         due_at = NULL
    FROM overdue
   WHERE p.id = overdue.id AND overdue.sends >= :sends::integer AND overdue.state <> 'error'
  RETURNING p.id
), left_alone AS (
  UPDATE tenant_manager.participant_profiles p
     SET manifest = NULL, trace_context = NULL, due_at = NULL
    FROM overdue
   WHERE p.id = overdue.id AND overdue.sends >= :sends::integer AND overdue.state = 'error'
), resent AS (
  UPDATE tenant_manager.participant_profiles p
     SET sends = p.sends + 1,
         due_at = clock_timestamp() + least(:first::interval * power(2, least(p.sends, 10)), :longest::interval)
    FROM overdue
   WHERE p.id = overdue.id AND overdue.sends < :sends::integer
  RETURNING p.id, p.manifest, p.trace_context, p.sends
), announced AS (
  INSERT INTO eventing.outbox (subject, events, claimable_at)
  SELECT :subject,
         jsonb_agg(jsonb_build_object(
           'specversion', '1.0', 'id', (manifest->>'id') || '/' || sends, 'source', :source::text, 'type', :type::text,
           'subject', id, 'datacontenttype', 'application/json', 'data', manifest) || coalesce(trace_context, '{}')),
         now() + :lease::interval
    FROM resent
  HAVING count(*) > 0
  RETURNING id, events
)
SELECT ARRAY(SELECT id::text FROM given_up), announced.id, announced.events::text
  FROM (VALUES (1)) AS always LEFT JOIN announced ON true;

-- name: each_vpa_within
-- The condition that each VPA of a profile ``t`` belongs to one of the bounds, of which '' stands for any.
NOT EXISTS (
  SELECT FROM jsonb_array_elements(t.vpas) AS vpa
   WHERE NOT EXISTS (
     SELECT FROM unnest(:within_tenant::text[], :within_profile::text[], :within_vpa::text[], :within_cell::text[])
                 AS one (tenant_id, profile_id, vpa_id, cell_id)
      WHERE one.tenant_id IN ('', t.tenant_id::text) AND one.profile_id IN ('', t.id::text)
        AND one.vpa_id IN ('', vpa->>'id') AND one.cell_id IN ('', vpa->>'cellId')))

-- name: some_vpa_within
-- The condition that a profile ``t`` has one of these VPAs, which an index answers.
t.vpas @> ANY (ARRAY(SELECT jsonb_build_array(vpa) FROM jsonb_array_elements(:within_vpas::jsonb) AS vpa))
