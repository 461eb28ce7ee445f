"""Changes functions in the database of a test: to hasten the engine, or to take a safeguard out of it."""

from __future__ import annotations

from cfm_core.store.database import connect

_DEFINITIONS = """
SELECT pg_get_functiondef(oid) FROM pg_proc
 WHERE pronamespace = 'provision_manager'::regnamespace AND prokind = 'f' AND (proname = :name OR :name = '')
"""


def alter(database_url: str, function: str, text: str, instead: str) -> None:
    """Put ``instead`` in the place of ``text`` in a function of the engine, or in all of them where none is named.

    Raises:
        LookupError: the text is nowhere there.
    """
    connection = connect(database_url)
    try:
        found = [one for (one,) in connection.run(_DEFINITIONS, name=function) if text in one]
        if not found:
            raise LookupError(f"{text!r} is not in {function or 'any function'}")
        for definition in found:
            connection.run(definition.replace(text, instead))
    finally:
        connection.close()


def hasten(database_url: str) -> None:
    """Shorten leases and the pauses before something is sent again to some seconds, so that a short run sees many end."""
    connection = connect(database_url)
    try:
        connection.run(
            "CREATE OR REPLACE FUNCTION provision_manager.lease(timeout_seconds double precision) RETURNS interval"
            " LANGUAGE sql IMMUTABLE RETURN make_interval(secs => timeout_seconds + 2)"
        )
        connection.run(
            "CREATE FUNCTION tenant_manager.soon() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " NEW.due_at := least(NEW.due_at, clock_timestamp() + interval '4 s'); RETURN NEW; END $$"
        )
        connection.run(
            "CREATE TRIGGER soon BEFORE INSERT OR UPDATE ON tenant_manager.participant_profiles"
            " FOR EACH ROW WHEN (NEW.due_at IS NOT NULL) EXECUTE FUNCTION tenant_manager.soon()"
        )
        connection.run(
            "CREATE FUNCTION provision_manager.soon() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " NEW.next_at := least(NEW.next_at, date_trunc('second', clock_timestamp() + interval '2 s')); RETURN NEW; END $$"
        )
        connection.run(
            "CREATE TRIGGER soon BEFORE INSERT OR UPDATE ON provision_manager.schedule"
            " FOR EACH ROW WHEN (NEW.next_at IS NOT NULL) EXECUTE FUNCTION provision_manager.soon()"
        )
        # What orchestrations carry out is looked after a minute later; what waits for somebody outside is given more time.
        connection.run(
            "CREATE FUNCTION provision_manager.sooner() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " NEW.due_at := least(NEW.due_at, clock_timestamp() + interval '3 s'); RETURN NEW; END $$"
        )
        connection.run(
            "CREATE TRIGGER sooner BEFORE UPDATE ON provision_manager.activity FOR EACH ROW"
            " WHEN (NEW.state = 'WAITING' AND NEW.due_at < now() + interval '61 s')"
            " EXECUTE FUNCTION provision_manager.sooner()"
        )
    finally:
        connection.close()
    alter(database_url, "", "interval '1 min'", "interval '3 s'")
