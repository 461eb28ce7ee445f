"""The roles of a database, and what each may do there.

    from cfm_core.store.roles import Role, Roles, set_up

    set_up("postgresql://administrator:...@host/cfm", {Role.TENANT_MANAGER: "password", ...})

A role is named after its database, ``cfm_tenant_manager`` in ``cfm``: roles belong to a whole server, which may have several
of these databases.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from urllib.parse import quote, urlsplit

from pg8000.exceptions import DatabaseError
from pg8000.native import identifier, literal
from scramp import ScramMechanism

from cfm_core.contracts import subjects
from cfm_core.errors import FatalError
from cfm_core.store.database import Driver, connect
from cfm_core.store.migrations import Migration, migrate

_LONGEST_NAME = 63
_LOCK = 0x63666E  # one at a time in a database; beside that of the migrations, which is taken within

_SETTINGS = {
    "statement_timeout": "'50s'",
    "idle_in_transaction_session_timeout": "'60s'",
    "lock_timeout": "'20s'",
    # As in the functions that have their owner's rights: a function that is called with two paths in turn is planned anew
    # each time, which made an audited change cost half as much again.
    "search_path": "pg_catalog, pg_temp",
}
"""As SQL has them."""


class Role(StrEnum):
    """Who connects to the database. Agents do not."""

    TENANT_MANAGER = "tenant_manager"
    PROVISION_MANAGER = "provision_manager"
    TRIGGER = "trigger"
    """Relays the outbox of both managers."""
    TENANT_MANAGER_TRIGGER = "tenant_manager_trigger"
    PROVISION_MANAGER_TRIGGER = "provision_manager_trigger"
    """Relays the outbox of one manager, and does not see the other's rows."""
    MAINTENANCE = "maintenance"
    """Owns everything: migrations, partitions, declared indexes."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What its sessions begin with, as SQL has it; an index may take its time."""
        if self is Role.MAINTENANCE:
            return {**_SETTINGS, "statement_timeout": "0", "lock_timeout": "0"}
        return _SETTINGS

    def called(self, database: str) -> str:
        """What it is called for a database of that name."""
        return f"{database}_{self}"


def url_of(role: Role, url: str, password: str) -> str:
    """How ``role`` connects to the database that somebody else reaches by ``url``."""
    parts = urlsplit(url)
    name = role.called(parts.path.lstrip("/"))
    where = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{where}").geturl()


def set_up(url: str, passwords: Mapping[Role, str]) -> list[Migration]:
    """Make the roles, apply what the database lacks, and give each role what it needs; gives what was applied.

    All of it can be repeated, and is safe to run from several places at once.

    Args:
        url: of somebody who may make roles and owns the database; where the roles are there already, the maintenance role's
            will do, which then changes no role.
        passwords: those of the roles that are to log in by one; another role keeps what it has.

    Raises:
        FatalError: this user may not do that, or a migration cannot be applied.
        RecoverableError: the database cannot be reached.
    """
    with contextlib.closing(connect(url, answer_seconds=0)) as connection:
        connection.run("SELECT pg_advisory_lock(:key)", key=_LOCK)
        ((database, user, may_make_roles),) = connection.run(
            "SELECT current_database(), current_user, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        owner = Role.MAINTENANCE.called(database)
        if user != owner:
            if not may_make_roles:
                raise FatalError(
                    f"{user} may not make the roles of the database {database}; connect as somebody with CREATEROLE"
                    f" who owns it, or as {owner} where the roles have been made"
                )
            _make_roles(connection, database, passwords)
        done = migrate(url, role=owner)
        _run(connection, f"SET ROLE {identifier(owner)}; {_grants(database)}; RESET ROLE")
        return done


def _make_roles(connection: Driver, database: str, passwords: Mapping[Role, str]) -> None:
    names = {role: role.called(database) for role in Role}
    if too_long := [name for name in names.values() if len(name.encode()) > _LONGEST_NAME]:
        raise FatalError(f"{too_long[0]!r} is too long for a role; give the database a shorter name")
    known = {name for (name,) in connection.run("SELECT rolname FROM pg_roles")}
    statements = []
    for role, name in names.items():
        quoted, in_database = identifier(name), identifier(database)
        if name not in known:
            statements.append(f"CREATE ROLE {quoted} LOGIN")
        if password := passwords.get(role):
            statements.append(f"ALTER ROLE {quoted} PASSWORD {literal(_verifier(password))}")
        statements += [
            f"ALTER ROLE {quoted} IN DATABASE {in_database} SET {key} = {value}" for key, value in role.settings.items()
        ]
        statements.append(f"GRANT CONNECT ON DATABASE {in_database} TO {quoted}")
    owner = identifier(names[Role.MAINTENANCE])
    statements += [
        f"REVOKE ALL ON DATABASE {identifier(database)} FROM PUBLIC",
        f"GRANT CREATE ON DATABASE {identifier(database)} TO {owner}",
        # Whoever makes a role may give it, and has to be given it to act as it.
        f"GRANT {owner} TO CURRENT_USER",
    ]
    _run(connection, "; ".join(statements))


def _grants(database: str) -> str:
    text = resources.files(__package__).joinpath("roles.sql").read_text(encoding="utf-8")
    announced = ", ".join(literal(subject) for subject in sorted(subjects.TENANT_MANAGER_ANNOUNCES))
    text = text.replace("<<tenant_manager_announces>>", announced)
    for role in Role:
        text = text.replace(f"<<{role}>>", identifier(role.called(database)))
    return text.rstrip().rstrip(";")


def _verifier(password: str) -> str:
    """What the server keeps of a password: so that the password itself is in none of its logs."""
    salt, stored_key, server_key, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info(
        password, iteration_count=4096
    )
    encoded = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _run(connection: Driver, sql: str) -> None:
    try:
        connection.run(sql)
    except DatabaseError as error:
        text = error.args[0].get("M", "") if error.args and isinstance(error.args[0], dict) else str(error)
        raise FatalError(f"the roles of the database cannot be set up: {text}") from error
