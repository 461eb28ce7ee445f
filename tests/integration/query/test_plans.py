"""Which index the planner takes for the important shapes of queries, with rows enough that it matters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from cfm_core.access.model import Bound, Bounds
from cfm_core.query import IndexKind, Page, parse, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database, connect
from cfm_core.store.paging import Listing
from cfm_core.tenancy.participant_profiles import store as profiles
from cfm_core.tenancy.query_indexes.model import IndexedEntity, QueryIndex, QueryIndexId
from cfm_core.tenancy.query_indexes.store import PostgresQueryIndexes
from cfm_core.tenancy.tenants import store as tenants
from cfm_core.tenancy.users import store as users
from local.bench.crowd import DATASPACE, fill
from local.servers.postgres import EmbeddedPostgres

NAME = "query_plans"
ABSENT = "00000000-0000-4000-8000-00000000ffff"
PAGE = Page(0, 50)

Shown = tuple[str, str]
"""A predicate, and what the plan has to name."""


@pytest.fixture(scope="module")
def crowd(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """50,000 tenants, 20,000 participant profiles and 10,000 users, their declared indexes ready."""
    admin = connect(postgres.url("postgres"))
    admin.run(f"CREATE DATABASE {NAME} TEMPLATE {template} STRATEGY file_copy")
    fill(postgres.url(NAME), tenants=50_000, profiles=20_000)
    database = Database(postgres.url(NAME))
    _fill_users(database)
    indexes = PostgresQueryIndexes(database)
    for number, (entity, key, kind) in enumerate(
        [
            (IndexedEntity.TENANTS, "size", IndexKind.NUMBER),
            (IndexedEntity.TENANTS, "since", IndexKind.TIME),
            (IndexedEntity.TENANTS, "name", IndexKind.TEXT),
            (IndexedEntity.PARTICIPANT_PROFILES, "seats", IndexKind.NUMBER),
        ]
    ):
        indexes.declare(QueryIndex(QueryIndexId(f"00000000-0000-4000-8000-{number:012}"), entity, (key,), kind))
    indexes.work()
    yield database
    database.close()
    admin.run(f"DROP DATABASE {NAME} WITH (FORCE)")
    admin.close()


def _fill_users(database: Database) -> None:
    """10,000 users, each with one of 100 roles, and a right of its own."""
    database.rows("""
        INSERT INTO tenant_manager.roles (id, name, rights, properties)
        SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'role-' || n, '[]', '{}'
          FROM generate_series(0, 99) AS n""")
    database.rows("""
        INSERT INTO tenant_manager.users (id, subject, role_ids, rights, properties)
        SELECT gen_random_uuid(), 'user-' || n,
               jsonb_build_array('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0')),
               jsonb_build_array(jsonb_build_object('action', 'read', 'resource', 'tenant',
                                                    'tenantId', '00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))),
               jsonb_build_object('badge', n)
          FROM generate_series(0, 9999) AS n""")
    database.rows("ANALYZE tenant_manager.users")


def plan(database: Database, listing: Listing, page: Page, condition: str, params: dict[str, object]) -> str:
    sql, place = paging.statement(listing, page, condition)
    return "\n".join(text for (text,) in database.query(f"EXPLAIN {sql}", **params, **place))


@pytest.mark.parametrize(
    ("predicate", "parts"),
    [
        ("properties.name = 'tenant-777'", ["tenants_properties"]),
        ("properties.address.geo.code = 777", ["tenants_properties"]),
        ("properties.group = 'oems' AND properties.name = 'tenant-778'", ["tenants_properties"]),
        ("properties.name IN ('tenant-1', 'tenant-2')", ["tenants_properties"]),
        ("properties.name = 'tenant-1' OR properties.address.geo.code = 5", ["BitmapOr", "tenants_properties"]),
        ("properties.name = 'tenant-1' AND properties.size > 5", ["tenants_properties"]),
        ("properties.name = 'tenant-1' AND NOT properties.size > 5", ["tenants_properties"]),
        ("properties.size >= 500 AND properties.size < 510", ["query_index_00000000000040008000000000000000"]),
        (
            "properties.since >= '2020-01-05T00:00:00Z' AND properties.since < '2020-01-05T00:30:00Z'",
            ["query_index_00000000000040008000000000000001"],
        ),
        ("properties.name STARTS_WITH 'tenant-1234'", ["query_index_00000000000040008000000000000002"]),
    ],
)
def test_a_selective_query_of_tenants_begins_with_an_index(
    crowd: Database, predicate: str, parts: Sequence[str]
) -> None:
    condition, params = to_sql(parse(predicate), tenants.FIELDS, tenants.PostgresTenants(crowd).declared())
    for page in (PAGE, Page()):
        shown = plan(crowd, tenants.LISTING, page, condition, params)
        assert all(part in shown for part in parts), shown
        assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize(
    ("predicate", "index"),
    [
        ("identifier = 'did:web:participant-77.example'", "participant_profiles_identifier"),
        ("tenantId = '00000000-0000-4000-8000-000000000000'", "participant_profiles_tenant"),
        ("vpas.properties.region = 'region-77'", "participant_profiles_json"),
        ("vpas.state = 'error'", "participant_profiles_json"),
        ("dataspaceProfileIds = '00000000-0000-4000-8000-000000000000'", "participant_profiles_json"),
        (f"participantRoles.`{DATASPACE}` = 'role-77'", "participant_profiles_json"),
        (f"participantRoles.`{DATASPACE}` = 'role-77' AND vpas.state = 'active'", "participant_profiles_json"),
        ("properties.seats > 19990", "query_index_00000000000040008000000000000003"),
    ],
)
def test_a_selective_query_of_participant_profiles_begins_with_an_index(
    crowd: Database, predicate: str, index: str
) -> None:
    store = profiles.PostgresParticipantProfiles(crowd)
    condition, params = to_sql(parse(predicate), profiles.FIELDS, store.declared())
    shown = plan(crowd, profiles.LISTING, PAGE, condition, params)
    assert index in shown, shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize(
    ("bound", "index"),
    [
        (Bound(tenant_id=ABSENT), "participant_profiles_tenant"),
        (Bound(participant_profile_id=ABSENT), "participant_profiles_pkey"),
        (Bound(cell_id=ABSENT), "participant_profiles_json"),
        (Bound(vpa_id=ABSENT), "participant_profiles_json"),
        (Bound(tenant_id=ABSENT, cell_id=ABSENT), "participant_profiles_json"),
    ],
)
def test_what_users_see_of_participant_profiles_is_found_by_an_index(crowd: Database, bound: Bound, index: str) -> None:
    condition, params = profiles.condition_of(Bounds((bound,)))
    shown = plan(crowd, profiles.LISTING, PAGE, condition, params)
    assert index in shown, shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize(
    ("predicate", "index"),
    [
        ("subject = 'user-77'", "users_subject_key"),
        ("roleIds = '00000000-0000-4000-8000-000000000077'", "users_json"),
        ("rights.tenantId = '00000000-0000-4000-8000-000000000077'", "users_json"),
        ("properties.badge = 77", "users_json"),
    ],
)
def test_a_selective_query_of_users_begins_with_an_index(crowd: Database, predicate: str, index: str) -> None:
    condition, params = to_sql(parse(predicate), users.FIELDS)
    shown = plan(crowd, users.LISTING, PAGE, condition, params)
    assert index in shown, shown
    assert "Seq Scan" not in shown, shown


@pytest.mark.parametrize(
    ("predicate", "is_few"),
    [
        ("vpas.properties.region = 'region-77'", True),
        (f"vpas.state = 'active' AND participantRoles.`{DATASPACE}` = 'role-77'", True),
        ("properties.plan = 'enterprise'", True),
        ("vpas.state = 'active'", False),
        ("properties.plan = 'pro'", False),
    ],
)
def test_what_few_have_is_found_without_the_order_of_the_list(crowd: Database, predicate: str, is_few: bool) -> None:
    """Of values as wide as VPAs the planner knows nothing, so it is seen in the execution."""
    condition, params = to_sql(parse(predicate), profiles.FIELDS)
    sql, place = paging.statement(profiles.LISTING, Page(0, 50), condition)
    shown = [line for (line,) in crowd.query(f"EXPLAIN (ANALYZE, COSTS off, TIMING off) {sql}", **params, **place)]
    of_many = next(number for number, line in enumerate(shown) if f"> {paging.FEW})" in line)
    rows_of_many = next(line for line in shown[of_many:] if "->  Limit" in line)
    assert ("never executed" in rows_of_many) is is_few, "\n".join(shown)


def test_what_nearly_all_have_is_read_in_the_order_of_the_list(crowd: Database) -> None:
    condition, params = to_sql(parse("properties.group = 'oems'"), tenants.FIELDS)
    shown = plan(crowd, tenants.LISTING, Page(0, 50, counted=False), condition, params)
    assert "Index Scan using tenants_pkey" in shown, shown


@pytest.mark.parametrize("after", ["", "80000000-0000-4000-8000-000000000000"])
def test_a_page_of_everything_is_read_in_the_order_of_the_list(crowd: Database, after: str) -> None:
    shown = plan(crowd, tenants.LISTING, Page(0, 50, after, counted=False), "true", {})
    assert "Index Scan using tenants_pkey" in shown, shown
    assert ("Index Cond: (id > " in shown) is bool(after), shown


def test_everything_is_counted_by_an_index_alone(crowd: Database) -> None:
    shown = plan(crowd, tenants.LISTING, PAGE, "true", {})
    assert "Index Only Scan using " in shown, shown


def test_what_is_skipped_is_not_read(crowd: Database) -> None:
    shown = plan(crowd, tenants.LISTING, Page(40_000, 50, counted=False), "true", {})
    assert "Index Only Scan using tenants_pkey" in shown, shown


@pytest.mark.parametrize("predicate", ["true", "properties.group = 'oems'", "properties.address.city = 'city-7'"])
@pytest.mark.parametrize(
    "page", [Page(0, 7), Page(20, 7), Page(0, 7, "a0000000-0000-4000-8000-000000000000"), Page(16_660, 50)]
)
def test_a_page_is_the_same_however_it_is_read(crowd: Database, predicate: str, page: Page) -> None:
    condition, params = to_sql(parse(predicate), tenants.FIELDS)
    rows = crowd.query(f"SELECT id::text FROM tenant_manager.tenants t WHERE {condition} ORDER BY id", **params)  # noqa: S608
    every = [id_ for (id_,) in rows]
    following = [id_ for id_ in every[page.offset :] if id_ > page.after]
    found = paging.select(crowd, tenants.LISTING, page, condition, params)
    assert [one["id"] for one in json.loads(found.json)] == following[: page.limit]
    assert (found.total, found.more) == (len(every), len(following) > page.limit)
