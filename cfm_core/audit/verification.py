"""Whether the audit trail is still what was sealed.

A digest is SHA-256 over a JSON array of texts, without spaces, in UTF-8. Those of the halves of a payload cover the texts
of each with their salt; that of an entry covers its texts and both; that of a seal covers its number, the digest of the seal
before, and those of its entries in the order of their ids. All of them are computed here once more.

Whoever can change every table can also seal anew from some entry on. That shows when the last seal is compared with one that
was written down elsewhere: each is told in the log, and at the end of a verification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import permutations
from typing import Protocol

JsonArray = str
"""Texts and nulls as a JSON array without spaces: what a digest covers."""

_SEALS_AT_ONCE = 20
_MOST_COMPARED = 200
"""So many entries of a seal that do not hold are compared with each other."""


class Tampering(StrEnum):
    """What has happened to a part of the trail."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was sealed."""

    tampering: Tampering
    what: str

    def __str__(self) -> str:
        return f"{self.tampering}: {self.what}"


@dataclass(frozen=True, slots=True)
class StoredSeal:
    """A seal as it is stored; digests are in hexadecimal, here and below."""

    number: int
    entries: int
    previous: str
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """What was sealed of an entry, and what there is of it now: None where it is missing."""

    seal: int
    id: int
    who: str
    what: str
    digest: str
    entry: JsonArray | None
    who_now: JsonArray | None
    who_erased_by: int | None
    what_now: JsonArray | None
    what_erased_by: int | None


@dataclass(frozen=True, slots=True)
class Emptied:
    """What was emptied in the name of one entry, and whether that entry tells of just this."""

    by: int
    entries: int
    is_told: bool


@dataclass(frozen=True, slots=True)
class Strays:
    """Ids of what belongs to nothing; some of them, where there are very many."""

    entries: Sequence[int]
    """Not sealed."""
    payloads: Sequence[int]
    """Of no entry."""
    waiting: Sequence[int]
    """Of entries that are sealed."""
    seals: Sequence[int]
    """Numbers that entries name, and no seal has."""


class Evidence(Protocol):
    """What is stored of the trail, at one instant."""

    def seals(self, after: int, most: int) -> Sequence[StoredSeal]:
        """The next ones behind a number, in the order of their numbers."""
        ...

    def sealed(self, first: int, last: int) -> Sequence[SealedEntry]:
        """What these seals cover, in the order of seals, then of ids."""
        ...

    def emptied(self) -> Sequence[Emptied]: ...

    def strays(self) -> Strays: ...

    def waiting(self) -> int:
        """How many entries are still to be sealed."""
        ...


@dataclass(slots=True)
class Verification:
    """What was looked at, and what was found."""

    seals: int = 0
    entries: int = 0
    waiting: int = 0
    last: StoredSeal | None = None
    findings: list[Finding] = field(default_factory=list)

    def find(self, tampering: Tampering, what: str) -> None:
        self.findings.append(Finding(tampering, what))


def digest_of(texts: JsonArray) -> str:
    return hashlib.sha256(texts.encode()).hexdigest()


def verify(evidence: Evidence, anchor: str = "") -> Verification:
    """Look at the whole trail.

    Args:
        anchor: a seal that was written down elsewhere, ``NUMBER:DIGEST``; empty: none was.
    """
    done = Verification(waiting=evidence.waiting())
    anchored = ""
    known: set[str] = set()
    for seal, entries in _by_seal(evidence):
        _check_place(done, seal, known)
        _check_seal(done, seal, entries)
        known.add(seal.digest)
        done.seals, done.entries, done.last = done.seals + 1, done.entries + len(entries), seal
        if anchor.partition(":")[0] == str(seal.number):
            anchored = str(seal)
    if anchor and anchored != anchor.lower():
        there = f"seal {anchored.partition(':')[0]} has another digest" if anchored else "there is no such seal"
        done.find(Tampering.ALTERED if anchored else Tampering.REMOVED, f"{anchor} was a seal of this trail: {there}")
    _check_strays(done, evidence.strays())
    for one in evidence.emptied():
        if not one.is_told:
            done.find(
                Tampering.ALTERED,
                f"{one.entries} entries were emptied in the name of entry {one.by}, which does not tell of that",
            )
    return done


def _by_seal(evidence: Evidence) -> Iterator[tuple[StoredSeal, Sequence[SealedEntry]]]:
    after = 0
    while seals := evidence.seals(after, _SEALS_AT_ONCE):
        after = seals[-1].number
        entries: dict[int, list[SealedEntry]] = {seal.number: [] for seal in seals}
        for entry in evidence.sealed(seals[0].number, after):
            # Those of a seal that is missing are strays.
            entries.get(entry.seal, []).append(entry)
        yield from ((seal, entries[seal.number]) for seal in seals)


def _check_place(done: Verification, seal: StoredSeal, known: set[str]) -> None:
    last = done.last
    expected = last.number + 1 if last else 1
    if seal.number != expected:
        missing = str(expected) if seal.number == expected + 1 else f"{expected} to {seal.number - 1}"
        done.find(Tampering.REMOVED, f"seal {missing}")
    elif seal.previous != (last.digest if last else ""):
        behind = f"behind seal {last.number}" if last else "as the first"
        if seal.previous in known:
            done.find(Tampering.REORDERED, f"seal {seal.number} was not made {behind}, but behind one before")
        else:
            done.find(Tampering.ALTERED, f"seal {seal.number} was not made {behind}")


def _check_seal(done: Verification, seal: StoredSeal, entries: Sequence[SealedEntry]) -> None:
    if len(entries) != seal.entries:
        tampering = Tampering.REMOVED if len(entries) < seal.entries else Tampering.INSERTED
        done.find(tampering, f"seal {seal.number} covers {seal.entries} entries, and there are {len(entries)}")
    elif _digest_over(seal, entries) != seal.digest:
        done.find(Tampering.ALTERED, f"seal {seal.number}, or the digests that it covers")
    altered = []
    for one in entries:
        if one.entry is None:
            done.find(Tampering.REMOVED, f"entry {one.id} of seal {seal.number}")
        elif _digest_at(one.entry, one) != one.digest:
            altered.append(one)
        else:
            _check_payload(done, one)
    moved = _moved(altered)
    for one in altered:
        if (place := moved.get(one.id)) is not None:
            done.find(Tampering.REORDERED, f"entry {one.id} of seal {seal.number}: it was entry {place}")
        else:
            done.find(Tampering.ALTERED, f"entry {one.id} of seal {seal.number}")
            _check_payload(done, one)


def _check_payload(done: Verification, one: SealedEntry) -> None:
    if one.who_now is None or one.what_now is None:
        done.find(Tampering.REMOVED, f"the payload of entry {one.id}")
        return
    for name, now, erased_by, sealed in (
        ("who has asked for it", one.who_now, one.who_erased_by, one.who),
        ("reason and documents", one.what_now, one.what_erased_by, one.what),
    ):
        is_as_told = digest_of(now) == sealed if erased_by is None else all(text is None for text in json.loads(now))
        if not is_as_told:
            done.find(Tampering.ALTERED, f"the payload of entry {one.id}: {name}")


def _digest_over(seal: StoredSeal, entries: Sequence[SealedEntry]) -> str:
    texts = [str(seal.number), seal.previous, *(one.digest for one in entries)]
    return digest_of(json.dumps(texts, separators=(",", ":")))


def _digest_at(entry: JsonArray, place: SealedEntry) -> str:
    """The digest of an entry, whose first text is its id, as if it were at ``place``."""
    _, _, rest = entry.partition(",")
    return digest_of(f'["{place.id}",{rest[:-1]},"{place.who}","{place.what}"]')


def _moved(altered: Sequence[SealedEntry]) -> dict[int, int]:
    """Where those come from that are at another's place."""
    compared = altered[:_MOST_COMPARED]
    return {
        one.id: other.id
        for one, other in permutations(compared, 2)
        if one.entry is not None and _digest_at(one.entry, other) == other.digest
    }


def _check_strays(done: Verification, strays: Strays) -> None:
    told: tuple[tuple[Sequence[int], Tampering, Callable[[int], str]], ...] = (
        (strays.entries, Tampering.INSERTED, lambda id_: f"entry {id_}, which no seal covers"),
        (strays.payloads, Tampering.REMOVED, lambda id_: f"entry {id_}, of which there is a payload"),
        (strays.waiting, Tampering.INSERTED, lambda id_: f"entry {id_}, which is sealed and waits for it once more"),
        (strays.seals, Tampering.REMOVED, lambda number: f"seal {number}, of which there are entries"),
    )
    for ids, tampering, tell in told:
        for id_ in ids:
            done.find(tampering, tell(id_))
