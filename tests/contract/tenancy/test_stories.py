"""Random stories of a whole fabric: whatever is asked for in whatever order, both stores answer the same."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cfm_core.errors import CfmError, ConflictError
from cfm_core.store.database import Database
from cfm_core.tenancy.cells.v1alpha1 import CellDiff, NewCell
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from tests.contract.tenancy.world import (
    ALL,
    World,
    deploy_failed,
    deployed,
    dispose_failed,
    disposed,
    in_memory,
    in_postgres,
)

CELLS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 4)]
DATASPACES = [f"00000000-0000-4000-8000-0000000000d{n}" for n in range(1, 4)]
ARTIFACTS = [[], ["cfm.dataplane"], ["cfm.vpa:acme.edge"]]
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INSTANT = re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+Z")

Step = Callable[["Teller"], object]


@dataclass
class Teller:
    """Tells one story in one world. Ids that the world makes up are told by the order in which they appear."""

    world: World
    dice: random.Random
    tenants: list[str] = field(default_factory=list)
    profiles: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    identifiers: int = 0

    def tell(self, steps: int) -> list[list[str]]:
        self.tenants += [self.world.tenant(), self.world.tenant()]
        for cell in CELLS[:2]:
            self.world.cells.put(cell, NewCell.model_validate({"state": "active"}))
        for number, dataspace in enumerate(DATASPACES[:2]):
            self.put_dataspace(dataspace, number)
            for cell in CELLS[: number + 1]:
                self.world.dataspace_profiles.deploy(dataspace, NewDataspaceProfileDeployment(cell_id=cell))
        return [self.told() for _ in range(steps)]

    def happened(self) -> dict[str, list[str]]:
        """What the feed tells of each entity, in its order; one statement may change several at once."""
        told: dict[str, list[str]] = {}
        for event in self.world.events():
            text = self.plain(json.dumps([event["type"], event["data"]]))
            told.setdefault(self.plain(event["subject"]), []).append(text)
        return told

    def told(self) -> list[str]:
        step = self.dice.choice(STEPS)
        try:
            outcome = [str(step(self))]
        except CfmError as error:
            outcome = [type(error).__name__, *self.told_of(error)]
        everything = [
            self.world.cells.select("true", ALL).json.decode(),
            self.world.dataspace_profiles.select("true", ALL).json.decode(),
            *(self.world.participant_profiles.get(*profile).text for profile in self.profiles),
            json.dumps(self.world.manifests()[-1:]),
        ]
        documents = [json.dumps(json.loads(text), sort_keys=True) for text in everything]
        return [step.__name__, *map(self.plain, (*outcome, *documents))]

    def told_of(self, error: CfmError) -> list[str]:
        if isinstance(error, ConflictError) and (users := error.context.get("usedBy")):
            # Of many users some are named, in no order.
            assert isinstance(users, list)
            return [str(error).split(" is in use by ")[0], *sorted(self.plain(json.dumps(user)) for user in users)]
        if isinstance(error, ConflictError):
            return [str(error), str(error.context)]
        return [str(error), str(getattr(error, "errors", ""))]

    def plain(self, text: str) -> str:
        known = {*CELLS, *DATASPACES}

        def name(match: re.Match[str]) -> str:
            id_ = match[0]
            return id_ if id_ in known else self.names.setdefault(id_, f"<{len(self.names)}>")

        return _INSTANT.sub("<instant>", _ID.sub(name, text))

    def put_dataspace(self, dataspace: str, number: int) -> object:
        spec = {"credentialSpecs": [{"id": dataspace, "role": "oem" if number else ""}]}
        document = {"dataspaceSpec": spec, "artifacts": ARTIFACTS[number]}
        return self.world.dataspace_profiles.put(dataspace, NewDataspaceProfile.model_validate(document))[0]

    def some_dataspaces(self) -> list[str]:
        return self.dice.sample(DATASPACES, self.dice.choice([0, 0, 1, 1, 2, 3]))

    def fields(self) -> dict[str, Any]:
        """What a deployment or a change may ask for, at random."""
        dice = self.dice
        wanted: dict[str, Any] = {
            "dataspaceProfileIds": self.some_dataspaces(),
            "participantRoles": {dataspace: ["oem"] for dataspace in dice.sample(DATASPACES, 1)},
            "vpaProperties": {"cfm.dataplane": {"n": dice.randrange(2)}},
            "vpas": [{"type": "acme.edge", "cellId": dice.choice([*CELLS, ""])}],
            "properties": {"n": dice.randrange(3)},
        }
        return {key: wanted[key] for key in dice.sample(list(wanted), dice.randint(0, 3))}

    def profile(self) -> tuple[str, str]:
        return self.dice.choice(self.profiles) if self.profiles else (self.tenants[0], CELLS[0])


def deploys(teller: Teller) -> object:
    tenant = teller.dice.choice(teller.tenants)
    fields = teller.fields() | teller.dice.choice([{}, {"cellId": teller.dice.choice(CELLS)}])
    teller.identifiers += 1
    profile = teller.world.deploy(tenant, f"did:{teller.identifiers // 2}", **fields)
    teller.profiles.append((tenant, profile["id"]))
    return json.dumps(profile, sort_keys=True)


def deploys_again(teller: Teller) -> object:
    return json.dumps(teller.world.deploy_again(*teller.profile(), **teller.fields()), sort_keys=True)


def changes(teller: Teller) -> object:
    return json.dumps(teller.world.change(*teller.profile(), **teller.fields()), sort_keys=True)


def disposes(teller: Teller) -> object:
    return teller.world.participant_profiles.dispose(*teller.profile())[1].version


def purges(teller: Teller) -> object:
    profile = teller.profile()
    teller.world.participant_profiles.purge(*profile)
    teller.profiles.remove(profile)
    return "purged"


def responds(teller: Teller) -> object:
    """Mostly with what the manifest sent last asks for."""
    if not teller.world.manifests():
        return "nothing"
    manifest = teller.world.manifests()[-1]
    deploys = manifest["orchestrationType"].endswith("deploy")
    good, bad = (deployed, deploy_failed) if deploys else (disposed, dispose_failed)
    make = teller.dice.choice([good, good, good, bad, disposed])
    suffix = ".compensate" if make is disposed and deploys else ""
    return teller.world.respond(make(manifest["correlationId"], manifest["id"] + suffix))


def moves_a_cell(teller: Teller) -> object:
    state = teller.dice.choice(["active", "active", "offline"])
    return teller.world.cells.change(teller.dice.choice(CELLS), CellDiff.model_validate({"state": state})).text


def puts_a_cell(teller: Teller) -> object:
    document = {"state": "active", "externalId": teller.dice.choice(["", "", "west"])}
    return teller.world.cells.put(teller.dice.choice(CELLS), NewCell.model_validate(document))


def deletes_a_cell(teller: Teller) -> object:
    teller.world.cells.delete(teller.dice.choice(CELLS))
    return "deleted"


def puts_a_dataspace_profile(teller: Teller) -> object:
    number = teller.dice.randrange(3)
    return teller.put_dataspace(DATASPACES[number], number)


def deletes_a_dataspace_profile(teller: Teller) -> object:
    teller.world.dataspace_profiles.delete(teller.dice.choice(DATASPACES))
    return "deleted"


def deploys_a_dataspace_profile(teller: Teller) -> object:
    wanted = NewDataspaceProfileDeployment(cell_id=teller.dice.choice([*CELLS, ""]))
    teller.world.dataspace_profiles.deploy(teller.dice.choice(DATASPACES), wanted)
    return "deployed"


def undeploys_a_dataspace_profile(teller: Teller) -> object:
    dataspace, cell = teller.dice.choice(DATASPACES), teller.dice.choice(CELLS)
    for one in json.loads(teller.world.dataspace_profiles.deployments(dataspace, f"cellId = '{cell}'", ALL).json):
        teller.world.dataspace_profiles.undeploy(dataspace, one["id"])
    return "undeployed"


def deletes_a_tenant(teller: Teller) -> object:
    tenant = teller.dice.choice(teller.tenants)
    teller.world.tenants.delete(tenant)
    teller.tenants[teller.tenants.index(tenant)] = teller.world.tenant()
    return "deleted"


STEPS: list[Step] = [
    *[deploys] * 4,
    *[deploys_again] * 2,
    *[changes] * 3,
    *[disposes] * 2,
    purges,
    *[responds] * 6,
    *[moves_a_cell, puts_a_cell, deletes_a_cell, deletes_a_tenant],
    *[puts_a_dataspace_profile, deletes_a_dataspace_profile],
    *[deploys_a_dataspace_profile] * 2,
    undeploys_a_dataspace_profile,
]


def test_both_stores_tell_the_same_stories_of_a_fabric(database: Database) -> None:
    seen: set[str] = set()
    for seed in range(12):
        database.rows(
            "TRUNCATE tenant_manager.tenants, tenant_manager.cells, tenant_manager.dataspace_profiles CASCADE"
        )
        database.rows("TRUNCATE eventing.outbox, eventing.feed")
        tellers = [Teller(world, random.Random(seed)) for world in (in_memory(), in_postgres(database))]
        stories = [teller.tell(60) for teller in tellers]
        for number, (in_one, in_other) in enumerate(zip(*stories, strict=True)):
            assert in_one == in_other, f"story {seed}, step {number}"
            seen.add(" ".join(in_one[:3])[:60])
        in_one_feed, in_other_feed = (teller.happened() for teller in tellers)
        assert in_one_feed == in_other_feed, f"story {seed}"
    assert len(seen) > 100, "the stories have become monotonous"
