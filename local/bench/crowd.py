"""Many tenants and participant profiles, written straight into a database as if they had come one by one."""

from __future__ import annotations

import contextlib

from cfm_core.store.database import connect

DATASPACE = "11111111-1111-4111-8111-111111111111"
CELL = "22222222-2222-4222-8222-222222222222"
TENANT = "33333333-3333-4333-8333-333333333333"
"""The tenant of all participant profiles."""

# Rules and counts are for changes, one by one; rows that keep to them need no check.
_BEGIN = "BEGIN; SET LOCAL session_replication_role = replica"

_FABRIC = f"""
INSERT INTO tenant_manager.tenants (id, properties) VALUES ('{TENANT}', '{{"name": "everybody"}}');
INSERT INTO tenant_manager.cells (id, state, state_at, properties) VALUES ('{CELL}', 'active', now(), '{{}}');
INSERT INTO tenant_manager.dataspace_profiles (id, spec, artifacts, properties)
VALUES ('{DATASPACE}', '{{}}', '[]', '{{}}');
INSERT INTO tenant_manager.dataspace_deployments (id, dataspace_profile_id, cell_id)
VALUES (gen_random_uuid(), '{DATASPACE}', '{CELL}')
"""  # noqa: S608

_TENANTS = """
INSERT INTO tenant_manager.tenants (id, properties)
SELECT gen_random_uuid(),
       jsonb_build_object(
         'name', 'tenant-' || i,
         'group', (ARRAY['suppliers', 'oems', 'banks'])[1 + i % 3],
         'size', i::bigint * 7919 % 100000,
         'since', to_char(timestamptz '2020-01-01' + i * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
         'address', jsonb_build_object(
           'city', 'city-' || i % 1000, 'geo', jsonb_build_object('code', i % 50000, 'zone', 'eu')))
  FROM generate_series(1, :count::integer) i
"""

_PROFILES = f"""
INSERT INTO tenant_manager.participant_profiles (
       id, identifier, tenant_id, dataspace_profile_ids, names_dataspaces, participant_roles, vpas, properties, state, live,
       error, manifest_id, sent_manifest_ids)
SELECT gen_random_uuid(), 'did:web:participant-' || i || '.example', '{TENANT}', '["{DATASPACE}"]', true,
       jsonb_build_object('{DATASPACE}', jsonb_build_array('member', 'role-' || i % 5000)),
       jsonb_path_query_array(tenant_manager.vpas_in(
         (SELECT jsonb_agg(jsonb_build_object(
                   'id', gen_random_uuid(), 'type', type, 'cellId', '{CELL}', 'externalCellId', '',
                   'properties', jsonb_build_object('region', 'region-' || i % 5000)))
            FROM unnest(ARRAY['cfm.connector', 'cfm.credentialservice', 'cfm.dataplane', 'cfm.issuer']) type),
         CASE WHEN i % 2000 = 0 THEN 'error' ELSE 'active' END, now()), '$[*]'),
       jsonb_build_object('seats', i, 'plan', (ARRAY['free', 'pro'])[1 + i % 2]),
       CASE WHEN i % 2000 = 0 THEN 'error' ELSE 'active' END, i % 2000 <> 0, i % 2000 = 0,
       'manifest-' || i, ARRAY['manifest-' || i]
  FROM generate_series(1, :count::integer) i
"""  # noqa: S608


def fill(database_url: str, *, tenants: int, profiles: int) -> None:
    """Write so many of each, and let the database take stock of them."""
    with contextlib.closing(connect(database_url, answer_seconds=0)) as connection:
        connection.run(_BEGIN)
        connection.run(_FABRIC)
        connection.run(_TENANTS, count=tenants)
        connection.run(_PROFILES, count=profiles)
        connection.run("COMMIT")
        # What autovacuum does before long, done now so that every figure is one of the same state.
        for table in ("tenants", "participant_profiles"):
            connection.run(f"VACUUM (ANALYZE) tenant_manager.{table}")
