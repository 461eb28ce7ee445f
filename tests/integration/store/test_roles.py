"""What each role may do in the database, and what it may not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pg8000.exceptions import DatabaseError

from cfm_core.access.model import Action, Resource, Right
from cfm_core.access.service import Who
from cfm_core.access.store import PostgresRights
from cfm_core.contracts import subjects
from cfm_core.errors import FatalError, RecoverableError
from cfm_core.provisioning.orchestrations.store import PostgresHistory
from cfm_core.store import outbox
from cfm_core.store.database import Database, Driver, connect
from cfm_core.store.migrations import known
from cfm_core.store.outbox import Outbox
from cfm_core.store.roles import Role, set_up, url_of
from local.servers.postgres import EmbeddedPostgres
from tests.support.roles import PASSWORDS, TEMPLATE, as_role

NOT_ALLOWED = "42501"
SCHEMAS = ("tenant_manager", "provision_manager", "eventing", "http", "audit", "cfm")
MANAGERS = (Role.TENANT_MANAGER, Role.PROVISION_MANAGER)
TRIGGERS = (Role.TRIGGER, Role.TENANT_MANAGER_TRIGGER, Role.PROVISION_MANAGER_TRIGGER)
OPERATORS = (*MANAGERS, *TRIGGERS)
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
OTHER_VERBS = ("TRUNCATE", "REFERENCES", "TRIGGER")
EVERYTHING = Right(Action.ANY, Resource.ANY)


def rights(database_url: str, role: Role) -> dict[str, set[str]]:
    """The verbs that a role has on each table, as the server sees it; on some of its columns is enough."""
    with contextlib.closing(connect(database_url)) as admin:
        rows = admin.run(
            "SELECT c.oid::regclass::text, v.verb FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(:verbs::text[]) AS v (verb)"
            " WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname = ANY (:schemas::text[])"
            "   AND has_schema_privilege(:role, n.oid, 'USAGE')"
            "   AND CASE WHEN v.verb IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
            "            THEN has_any_column_privilege(:role, c.oid, v.verb) ELSE has_table_privilege(:role, c.oid, v.verb) END",
            verbs=[*VERBS, *OTHER_VERBS],
            schemas=[*SCHEMAS, "query"],
            role=as_role(role, database_url).split("//")[1].split(":")[0],
        )
    found: dict[str, set[str]] = {}
    for table, verb in rows:
        found.setdefault(table, set()).add(verb)
    return found


def tables(database_url: str, schema: str) -> set[str]:
    with contextlib.closing(connect(database_url)) as admin:
        return {
            name
            for (name,) in admin.run(
                "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = :schema::regnamespace",
                schema=schema,
            )
        }


@contextlib.contextmanager
def session(database_url: str, role: Role) -> Iterator[Driver]:
    with contextlib.closing(connect(as_role(role, database_url))) as connection:
        yield connection


def refused(connection: Driver, statement: str) -> bool:
    with pytest.raises(DatabaseError) as error:
        connection.run(statement)
    fields = error.value.args[0]
    return bool(fields["C"] == NOT_ALLOWED)


def test_a_manager_has_its_own_tables_and_those_that_both_share(database_url: str) -> None:
    shared = {"eventing.outbox", "http.idempotent_answers"}
    tenant_manager = rights(database_url, Role.TENANT_MANAGER)
    assert tenant_manager.keys() == tables(database_url, "tenant_manager") | shared | {"eventing.feed"}
    assert {verb for table, verbs in tenant_manager.items() for verb in verbs} == {*VERBS}
    assert tenant_manager["eventing.feed"] == {"SELECT", "INSERT", "DELETE"}
    provision_manager = rights(database_url, Role.PROVISION_MANAGER)
    own = {name for name in provision_manager if name.startswith("provision_manager.")}
    assert provision_manager.keys() == own | shared | {"audit.trail"}
    assert tables(database_url, "provision_manager") - own == set()
    assert {verb for verbs in provision_manager.values() for verb in verbs} == {*VERBS}
    assert provision_manager["audit.trail"] == {"SELECT"}
    for one in (tenant_manager, provision_manager):
        assert one["eventing.outbox"] == {"SELECT", "INSERT"}


def test_what_has_happened_is_only_added_to(database_url: str) -> None:
    found = rights(database_url, Role.PROVISION_MANAGER)
    assert found["provision_manager.history"] == {"SELECT", "INSERT", "UPDATE"}
    with session(database_url, Role.PROVISION_MANAGER) as connection:
        assert refused(connection, "UPDATE provision_manager.history SET kind = 'complete'")
        assert refused(connection, "DELETE FROM provision_manager.history_of_other_days")
        connection.run("UPDATE provision_manager.history SET reason = ''")


@pytest.mark.parametrize("role", TRIGGERS)
def test_a_trigger_has_the_outbox_and_nothing_else(database_url: str, role: Role) -> None:
    assert rights(database_url, role) == {"eventing.outbox": {"SELECT", "UPDATE", "DELETE"}}
    with session(database_url, role) as connection:
        assert refused(connection, "UPDATE eventing.outbox SET events = '[]'")


@pytest.mark.parametrize(
    ("role", "schema"), [(Role.TENANT_MANAGER, "provision_manager"), (Role.PROVISION_MANAGER, "tenant_manager")]
)
def test_a_manager_reads_nothing_of_the_other(database_url: str, role: Role, schema: str) -> None:
    others = tables(database_url, schema)
    assert others
    with session(database_url, role) as connection:
        for table in others:
            assert refused(connection, f"SELECT count(*) FROM {table}")  # noqa: S608
            assert refused(connection, f"DELETE FROM {table}")  # noqa: S608


def test_few_functions_run_with_the_rights_of_their_owner(database_url: str) -> None:
    with contextlib.closing(connect(database_url)) as admin:
        found = admin.run(
            "SELECT f.oid::regproc::text, f.proconfig, f.prorettype = 'trigger'::regtype,"
            "       ARRAY(SELECT r FROM unnest(:roles::text[]) r WHERE has_function_privilege(r, f.oid, 'EXECUTE'))"
            "  FROM pg_proc f WHERE f.prosecdef AND f.pronamespace >= 16384 ORDER BY 1",
            roles=[role.called(TEMPLATE) for role in OPERATORS],
        )
    # Nobody who calls them decides what the names in them mean.
    assert all(settings == ["search_path=pg_catalog, pg_temp"] for _, settings, *_ in found)
    managers = [role.called(TEMPLATE) for role in MANAGERS]
    assert {name: roles for name, _, is_trigger, roles in found if not is_trigger} == {
        # Triggers have no right to use the schema.
        "access.of_caller": [role.called(TEMPLATE) for role in OPERATORS],
        "audit.erase": managers[1:],
        "audit.seal_waiting": [],
        "provision_manager.note": managers[1:],
    }
    # Nobody can make a trigger of them.
    assert [roles for *_, is_trigger, roles in found if is_trigger] == [[]] * 12


@pytest.mark.parametrize("role", MANAGERS)
def test_managers_ask_what_somebody_may_do(database_url: str, role: Role) -> None:
    with contextlib.closing(Database(database_url, size=1)) as admin:
        PostgresRights(admin).make_first_administrator("", "ann")
    with contextlib.closing(Database(as_role(role, database_url), size=1)) as database:
        store = PostgresRights(database)
        assert store.find("urn:i", "ann", []).rights == (EVERYTHING,)
        assert store.find("urn:i", "bob", []).who is Who.NOBODY


@pytest.mark.parametrize("role", TRIGGERS)
def test_triggers_do_not_ask_what_somebody_may_do(database_url: str, role: Role) -> None:
    with session(database_url, role) as connection:
        assert refused(connection, "SELECT * FROM access.of_caller('', 'ann', ARRAY[]::text[])")


@pytest.mark.parametrize("role", OPERATORS)
def test_nobody_but_maintenance_changes_what_there_is(database_url: str, role: Role) -> None:
    with session(database_url, role) as connection:
        for statement in (
            "CREATE SCHEMA mine",
            "CREATE TABLE public.mine (id integer)",
            "CREATE TABLE tenant_manager.mine (id integer)",
            "CREATE TABLE provision_manager.mine PARTITION OF provision_manager.history"
            " FOR VALUES FROM ('2000-01-01') TO ('2000-01-02')",
            "ALTER TABLE eventing.outbox DISABLE ROW LEVEL SECURITY",
            "DROP POLICY of_all ON eventing.outbox",
            "DROP TABLE eventing.outbox",
            "TRUNCATE eventing.outbox",
            "CREATE INDEX mine ON tenant_manager.tenants (version)",
            "CREATE FUNCTION query.holds(a integer) RETURNS integer LANGUAGE sql RETURN 1",
            "SELECT * FROM cfm.schema_migration",
            "SET ROLE template_maintenance",
            "CREATE ROLE mine",
            "ALTER ROLE template_tenant_manager SUPERUSER",
            "COPY (SELECT 1) TO PROGRAM 'true'",
        ):
            assert refused(connection, statement), statement


def test_maintenance_makes_partitions_and_indexes(database_url: str) -> None:
    database = Database(as_role(Role.MAINTENANCE, database_url))
    with contextlib.closing(database):
        # The days that a template was made with may be over.
        assert PostgresHistory(database, kept=timedelta(days=90)).tidy() >= 0
        with database.maintenance() as connection:
            connection.simple("CREATE INDEX CONCURRENTLY mine ON tenant_manager.tenants (version)")
            connection.simple("DROP INDEX CONCURRENTLY tenant_manager.mine")


def test_the_tenant_manager_announces_manifests_alone(database_url: str) -> None:
    with contextlib.closing(Database(as_role(Role.TENANT_MANAGER, database_url))) as database:
        with database.transaction() as tx:
            outbox.put(tx, subjects.MANIFESTS, [{"id": "m"}])
        for subject in (subjects.RESULTS, subjects.RESPONSES, subjects.activity("acme.dns"), subjects.DEAD_LETTERS):
            with pytest.raises(RecoverableError), database.transaction() as tx:
                outbox.put(tx, subject, [{"id": "forged"}])
    assert outboxes(database_url) == {
        role: [subjects.MANIFESTS] for role in (Role.TRIGGER, Role.TENANT_MANAGER_TRIGGER)
    }


def test_a_managers_trigger_takes_its_managers_rows(database_url: str) -> None:
    with contextlib.closing(Database(as_role(Role.PROVISION_MANAGER, database_url))) as database:
        for subject in (subjects.RESPONSES, subjects.RESULTS, subjects.MANIFESTS):
            with database.transaction() as tx:
                outbox.put(tx, subject, [{"id": subject}])
    assert outboxes(database_url) == {
        Role.TRIGGER: [subjects.RESPONSES, subjects.RESULTS, subjects.MANIFESTS],
        Role.TENANT_MANAGER_TRIGGER: [subjects.MANIFESTS],
        Role.PROVISION_MANAGER_TRIGGER: [subjects.RESPONSES, subjects.RESULTS],
    }
    with contextlib.closing(Database(as_role(Role.TENANT_MANAGER_TRIGGER, database_url))) as database:
        ids = [row.id for row in Outbox(database).claim()]
        Outbox(database).renew([*ids, *range(100)])
        Outbox(database).delete([*ids, *range(100)])
    with contextlib.closing(connect(database_url)) as admin:
        left = admin.run("SELECT subject FROM eventing.outbox ORDER BY id")
        assert left == [[subjects.RESPONSES], [subjects.RESULTS]]


def outboxes(database_url: str) -> dict[Role, list[str]]:
    """The subjects of the rows that each trigger can claim, in their order; those with none left out."""
    found = {}
    for role in TRIGGERS:
        with contextlib.closing(connect(database_url)) as admin:
            admin.run("UPDATE eventing.outbox SET claimable_at = now() - interval '1 s'")
        with contextlib.closing(Database(as_role(role, database_url))) as database:
            found[role] = [row.subject for row in Outbox(database).claim()]
    return {role: claimed for role, claimed in found.items() if claimed}


def test_kept_answers_are_each_managers_own(database_url: str) -> None:
    keep = "INSERT INTO http.idempotent_answers (key, fingerprint, status, headers, text) VALUES ('\\x01', '', 200, '{}', 'mine')"
    with session(database_url, Role.TENANT_MANAGER) as mine, session(database_url, Role.PROVISION_MANAGER) as other:
        mine.run(keep)
        assert mine.run("SELECT text FROM http.idempotent_answers") == [["mine"]]
        assert other.run("SELECT text FROM http.idempotent_answers") == []
        other.run("DELETE FROM http.idempotent_answers")
        assert mine.run("SELECT text FROM http.idempotent_answers") == [["mine"]]
        assert refused(
            other, keep.replace("text)", "text, owner)").replace("'mine')", "'x', 'template_tenant_manager')")
        )


@pytest.mark.parametrize("role", Role)
def test_a_role_has_limits_of_time_of_its_own(postgres: EmbeddedPostgres, template: str, role: Role) -> None:
    with contextlib.closing(connect(as_role(role, postgres.url(template)))) as connection:
        ((statement, idle),) = connection.run(
            "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
        )
    assert (statement, idle) == ("0" if role is Role.MAINTENANCE else "50s", "1min")


def test_a_limit_that_a_role_has_is_the_one_that_counts(postgres: EmbeddedPostgres, template: str) -> None:
    name = Role.TENANT_MANAGER.called(template)
    with contextlib.closing(connect(postgres.url(template))) as admin:
        admin.run(f"ALTER ROLE {name} IN DATABASE {template} SET statement_timeout = '70ms'")
        try:
            with contextlib.closing(Database(as_role(Role.TENANT_MANAGER, postgres.url(template)))) as database:
                assert database.value("SELECT current_setting('statement_timeout')") == "70ms"
                with pytest.raises(RecoverableError):
                    database.rows("SELECT pg_sleep(20)")
        finally:
            admin.run(f"ALTER ROLE {name} IN DATABASE {template} SET statement_timeout = '50s'")


# Making them


@pytest.fixture
def fresh(postgres: EmbeddedPostgres) -> Iterator[tuple[Driver, str]]:
    """An administrator, and the URL of an empty database."""
    admin = connect(postgres.url("postgres"))
    admin.run("CREATE DATABASE fresh")
    yield admin, postgres.url("fresh")
    admin.run("DROP DATABASE fresh WITH (FORCE)")
    for role in Role:
        admin.run(f"DROP ROLE IF EXISTS {role.called('fresh')}")
    admin.run("DROP ROLE IF EXISTS somebody")
    admin.close()


def test_the_roles_are_made_by_whoever_may_make_roles_and_owns_the_database(fresh: tuple[Driver, str]) -> None:
    admin, url = fresh
    admin.run("CREATE ROLE somebody LOGIN CREATEROLE PASSWORD 'password-of-somebody'")
    admin.run("ALTER DATABASE fresh OWNER TO somebody")
    as_somebody = url.replace(url.split("//")[1].split("@")[0], "somebody:password-of-somebody")
    assert set_up(as_somebody, PASSWORDS) == list(known())
    assert set_up(as_somebody, {}) == []
    maintenance = url_of(Role.MAINTENANCE, url, PASSWORDS[Role.MAINTENANCE])
    assert set_up(maintenance, {}) == []
    for role in Role:
        with contextlib.closing(connect(url_of(role, url, PASSWORDS[role]))) as connection:
            assert connection.run("SELECT current_user") == [[role.called("fresh")]]


def test_of_what_has_happened_nothing_is_taken_out_of_a_partition(fresh: tuple[Driver, str]) -> None:
    _, url = fresh
    set_up(url, PASSWORDS)
    with contextlib.closing(Database(url_of(Role.MAINTENANCE, url, PASSWORDS[Role.MAINTENANCE]))) as database:
        PostgresHistory(database, kept=timedelta(days=90)).tidy()
    # As the next time, when there are days.
    set_up(url, {})
    with contextlib.closing(connect(url)) as reader:
        partitions = [
            name
            for (name,) in reader.run(
                "SELECT inhrelid::regclass::text FROM pg_inherits"
                " WHERE inhparent = 'provision_manager.history'::regclass"
            )
        ]
    assert len(partitions) > 1
    with contextlib.closing(
        connect(url_of(Role.PROVISION_MANAGER, url, PASSWORDS[Role.PROVISION_MANAGER]))
    ) as connection:
        for name in partitions:
            for statement in ("DELETE FROM {}", "UPDATE {} SET kind = 'complete'", "UPDATE {} SET reason = ''"):
                assert refused(connection, statement.format(name)), name


def test_somebody_else_is_told_what_is_missing(fresh: tuple[Driver, str]) -> None:
    admin, url = fresh
    admin.run("CREATE ROLE somebody LOGIN PASSWORD 'password-of-somebody'")
    admin.run("ALTER DATABASE fresh OWNER TO somebody")
    as_somebody = url.replace(url.split("//")[1].split("@")[0], "somebody:password-of-somebody")
    with pytest.raises(
        FatalError, match="somebody may not make the roles of the database fresh; connect as somebody with"
    ):
        set_up(as_somebody, PASSWORDS)


def test_a_password_is_changed_and_the_server_is_never_told_it(fresh: tuple[Driver, str]) -> None:
    admin, url = fresh
    set_up(url, {Role.TENANT_MANAGER: "the first one"})
    set_up(url, {Role.TENANT_MANAGER: "the second one"})
    connect(url_of(Role.TENANT_MANAGER, url, "the second one")).close()
    for password in ("the first one", ""):
        with pytest.raises(RecoverableError):
            connect(url_of(Role.TENANT_MANAGER, url, password))
    with pytest.raises(RecoverableError):
        connect(url_of(Role.PROVISION_MANAGER, url, ""))
    ((kept,),) = admin.run("SELECT rolpassword FROM pg_authid WHERE rolname = 'fresh_tenant_manager'")
    assert kept.startswith("SCRAM-SHA-256$")


def test_a_database_of_a_long_name_is_refused(postgres: EmbeddedPostgres) -> None:
    name = "x" * 40
    with contextlib.closing(connect(postgres.url("postgres"))) as admin:
        admin.run(f"CREATE DATABASE {name}")
        try:
            with pytest.raises(FatalError, match="too long for a role"):
                set_up(postgres.url(name), {})
        finally:
            admin.run(f"DROP DATABASE {name} WITH (FORCE)")
