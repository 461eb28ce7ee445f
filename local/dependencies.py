"""Whether a package of the lock is known to be weak, or has been withdrawn: ``python -m local.dependencies``.

Weaknesses are asked of OSV, which has the advisories of the Python index and others: one request for all packages. What the
index has withdrawn, pip has told when it installed the lock, and is in the log of that. Where there is no network, or no such
log, it is said that nothing was asked: a check that was not made is no failure, and no success either.

Exit codes: 0 nothing is known, or nobody could be asked; 1 something is.

Source: OSV API v1, ``querybatch``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import MappingProxyType

LOCK = Path(__file__).with_name("requirements.lock")
OSV = "https://api.osv.dev/v1/querybatch"
TOLERATED: Mapping[str, str] = MappingProxyType({})
"""Advisories that do not concern us, by their ids, and why."""

_TIMEOUT_SECONDS = 10.0
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!_-]+)\s*(?:;[^\\]*)?\\?")
_WITHDRAWN = re.compile(r"yanked version: '(?P<name>[^']+)' candidate \(version (?P<version>\S+)")


class NotAskedError(Exception):
    """Nobody could be asked; the text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One version of one package; ``hashes`` are those of its files, as pip writes them."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def locked(text: str) -> tuple[Package, ...]:
    """The packages of a lock, in its order.

    Raises:
        ValueError: a line is no pinned version, hash or comment.
    """
    found: list[Package] = []
    for line in text.splitlines():
        told = line.strip()
        if told.startswith("--hash=") and found:
            last = found[-1]
            hashes = (*last.hashes, told.removeprefix("--hash=").rstrip(" \\"))
            found[-1] = Package(last.name, last.version, hashes)
        elif pin := _PIN.fullmatch(told):
            found.append(Package(pin["name"], pin["version"]))
        elif told and not told.startswith("#"):
            raise ValueError(f"neither a pinned version nor a hash: {told!r}")
    return tuple(found)


def weaknesses(packages: Sequence[Package], url: str = OSV) -> dict[Package, tuple[str, ...]]:
    """The ids of the advisories about packages, for those about which there are some.

    Raises:
        NotAskedError: there was no answer, or none of the form that is described.
    """
    queries = [{"package": {"name": one.name, "ecosystem": "PyPI"}, "version": one.version} for one in packages]
    request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
        url, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
            results = json.load(answer)["results"]
        told = [tuple(sorted(str(one["id"]) for one in result.get("vulns", ()))) for result in results]
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAskedError(f"{url} cannot be asked: {error or type(error).__name__}") from error
    if len(told) != len(packages):
        raise NotAskedError(f"{url} has answered {len(told)} of {len(packages)} questions")
    return {one: ids for one, ids in zip(packages, told, strict=True) if ids}


def withdrawn(log: Path) -> tuple[str, ...]:
    """What pip has found to be withdrawn from the index when it wrote ``log``.

    Raises:
        NotAskedError: there is no such log.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NotAskedError(f"no log of pip tells what is withdrawn: {error}") from error
    return tuple(f"{found['name']} {found['version']}" for found in _WITHDRAWN.finditer(text))


def audit(
    packages: Sequence[Package], url: str, log: Path, tolerated: Mapping[str, str] = TOLERATED
) -> tuple[list[str], list[str]]:
    """What is wrong with packages, and what was not asked; each a line for people."""
    wrong, missing = [], []
    try:
        for package, ids in weaknesses(packages, url).items():
            if named := [one for one in ids if one not in tolerated]:
                wrong.append(f"{package} is known to be weak: {', '.join(named)}")
    except NotAskedError as error:
        missing.append(f"known weaknesses were NOT looked for: {error}")
    try:
        wrong += [f"{one} is withdrawn from the index" for one in withdrawn(log)]
    except NotAskedError as error:
        missing.append(f"withdrawn versions were NOT looked for: {error}")
    return wrong, missing


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.dependencies", description="Look for weak packages.")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--osv", default=OSV, help="where advisories are asked for")
    parser.add_argument("--log", type=Path, default=Path(sys.prefix) / "install.log", help="what pip said")
    given = parser.parse_args(argv)
    packages = locked(given.lock.read_text(encoding="utf-8"))
    wrong, missing = audit(packages, given.osv, given.log)
    for line in (*wrong, *missing):
        print(line)
    if not wrong and not missing:
        print(f"nothing is known against {len(packages)} packages")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
