"""Proves that an agent's deploy and dispose can be repeated, interrupted and reordered.

Every case begins anew, on stand-ins that hold nothing, and ends with the same question: is everything as one undisturbed run
leaves it? What differs is named.

    deploy            it comes to an end
    fresh run         the same deployment elsewhere makes the same ids and gives the same values and outputs
    repeated          delivered twice, with and without what the first delivery recorded
    crash, lost       the process ends, or the answer is lost, after each remote call has taken effect; then the repetition
    overtaken         before each remote call another delivery of the same runs from beginning to end
    dispose           of a deployment, twice, and once more when all that it needed is gone; as compensation and as a user's wish
    dispose early     before a deploy, and after a deploy that a crash ended after each remote call
    dispose, crash    the process ends after each remote call of the disposal; then the repetition
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cfm_core.agent import ActivityEnvironment, ActivityResult, Complete, Fatal, Retry, Schedule, Wait
from local.agent.effects import differences
from local.agent.ground import MOST_ATTEMPTS, Ground, GroundError
from local.agent.wire import Call, Cut

MOST_SHOWN = 10
"""Differences that are told of one case."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way for things to go, and what was wrong then; nothing, if the agent bears it."""

    name: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(
            [f"{'FAILED' if self.problems else 'ok    '}  {self.name}", *(f"          {one}" for one in self.problems)]
        )


def check(
    cls: type[Any],
    *,
    values: Mapping[str, Any] | None = None,
    services: Mapping[str, str] | None = None,
    ignore: str = "",
) -> Iterator[Case]:
    """Run the cases one after the other against an activity, and give each when it is done.

    Args:
        cls: the activity; it is made anew for each process that a case speaks of.
        values: processing data beside those of the demonstration's deployment, which they override.
        services: the author's own services that it calls: the environment variable in which it finds the address, and the
            address. They are not reset between the cases; what the activity makes there it also has to take away.
        ignore: a regular expression; differences at places in which it is found do not count.

    Raises:
        GroundError: the cases cannot be run at all.
    """
    with Ground(cls, values, services) as ground:
        yield from _Check(ground, ignore).cases()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What one run has left."""

    outputs: Any
    values: Any
    held: Any

    def to_json(self) -> dict[str, Any]:
        return {"outputs": self.outputs, "values": self.values, "held": self.held}


class _Failed(Exception):
    """A case went wrong in a way that leaves nothing to compare."""


class _Check:
    def __init__(self, ground: Ground, ignore: str) -> None:
        self._ground = ground
        self._ignore = re.compile(ignore) if ignore else None
        self._nothing: Any = {}
        """What is there before anything is prepared."""
        self._deployed = _Snapshot({}, {}, {})

    def cases(self) -> Iterator[Case]:
        self._ground.process().end()  # one that cannot be made is no case
        calls: list[Call] = []
        yield self._case("dispose before any deploy", self._dispose_before_deploy)
        first = self._case("deploy", partial(self._deploy, calls))
        yield first
        if first.problems:
            return
        yield self._case("fresh run of the same deployment", self._fresh_run)
        yield self._case("deploy delivered again", self._delivered_again)
        yield self._case("deploy run again with what it recorded", self._run_again)
        for number, call in enumerate(calls, 1):
            where = f"call {number} of {len(calls)}, {call}"
            yield self._case(f"crash after {where}", partial(self._cut, number, Cut.CRASH))
            yield self._case(f"answer lost of {where}", partial(self._cut, number, Cut.LOST))
            yield self._case(f"overtaken before {where}", partial(self._overtaken, number))
        for name, disposal in self._disposals():
            disposal_calls: list[Call] = []
            yield self._case(
                f"dispose, {name}, twice and once too often", partial(self._dispose, disposal, disposal_calls)
            )
            for number, call in enumerate(disposal_calls, 1):
                where = f"call {number} of {len(disposal_calls)}, {call}"
                yield self._case(f"dispose, {name}, crash after {where}", partial(self._dispose_cut, disposal, number))
        for number, call in enumerate(calls, 1):
            where = f"call {number} of {len(calls)}, {call}"
            yield self._case(f"dispose after a crash in deploy after {where}", partial(self._dispose_half, number))

    def _disposals(self) -> list[tuple[str, Callable[[ActivityEnvironment], ActivityEnvironment]]]:
        return [("as compensation", self._ground.compensation), ("as a user wishes", self._ground.users_disposal)]

    def _case(self, name: str, run: Callable[[], Iterator[str] | list[str]]) -> Case:
        problems: list[str] = []
        try:
            self._ground.fresh()
            self._nothing = self._ground.left()
            problems.extend(run())
        except (GroundError, _Failed) as error:
            problems.append(str(error))
        if len(problems) > MOST_SHOWN:
            problems[MOST_SHOWN:] = [f"and {len(problems) - MOST_SHOWN} more"]
        return Case(self._ground.told(name), tuple(self._ground.told(one) for one in problems))

    # Deploying

    def _deploy(self, calls: list[Call]) -> list[str]:
        env = self._ground.prepared()
        result = self._finish(env)
        calls += self._ground.wire.counted
        self._deployed = self._snapshot(env)
        self._tidy(env)
        return _unless_at_rest(result)

    def _fresh_run(self) -> Iterator[str]:
        env = self._ground.prepared()
        yield from _unless_at_rest(self._finish(env))
        yield from self._differing(env)
        self._tidy(env)

    def _delivered_again(self) -> Iterator[str]:
        env = self._ground.prepared()
        again = copy.copy(env)
        again.values, again.outputs = copy.deepcopy(env.values), copy.deepcopy(env.outputs)
        self._finish(env)
        yield from _unless_at_rest(self._finish(again))
        yield from self._differing(again)
        self._tidy(again)

    def _run_again(self) -> Iterator[str]:
        env = self._ground.prepared()
        self._finish(env)
        yield from _unless_at_rest(self._finish(env))
        yield from self._differing(env)
        self._tidy(env)

    def _cut(self, number: int, cut: Cut) -> Iterator[str]:
        env = self._ground.prepared()
        self._ground.wire.begin(number, cut)
        result = self._until_cut(env)
        if cut is Cut.LOST and isinstance(result, Fatal):
            yield f"a lost answer ended it for good: {result.reason}"
        self._ground.wire.begin()
        if result is None or not isinstance(result, Complete | Wait):
            result = self._finish(env)
        yield from _unless_at_rest(result)
        yield from self._differing(env)
        self._tidy(env)

    def _overtaken(self, number: int) -> Iterator[str]:
        env = self._ground.prepared()
        other = copy.copy(env)
        other.values, other.outputs = copy.deepcopy(env.values), copy.deepcopy(env.outputs)
        self._ground.wire.begin(number, meanwhile=partial(self._finish, other))
        result = self._finish(env)
        yield from _unless_at_rest(result)
        yield from self._differing(env)
        self._tidy(env)

    # Disposing

    def _dispose_before_deploy(self) -> Iterator[str]:
        env = self._ground.prepared()
        before = self._ground.left()
        nothing = copy.copy(env)
        nothing.outputs = {}
        for name, disposal in (
            ("as compensation", self._ground.compensation(env)),
            ("as a user wishes", self._ground.users_disposal(env)),
            ("as a user wishes, without any outputs", self._ground.users_disposal(nothing)),
        ):
            yield from (f"{name}: {one}" for one in _unless_complete(self._finish(disposal)))
            yield from (f"{name}: {one}" for one in self._compared(self._ground.left(), before))

    def _dispose(
        self, disposal: Callable[[ActivityEnvironment], ActivityEnvironment], calls: list[Call]
    ) -> Iterator[str]:
        env = self._disposable(disposal)
        yield from _unless_complete(self._finish(env))
        calls += self._ground.wire.counted
        once = self._ground.held()
        yield from (f"the second time: {one}" for one in _unless_complete(self._finish(env)))
        yield from (f"the second time: {one}" for one in self._compared(self._ground.held(), once))
        yield from self._clean(env)
        yield from (f"once too often: {one}" for one in _unless_complete(self._finish(env)))

    def _dispose_cut(
        self, disposal: Callable[[ActivityEnvironment], ActivityEnvironment], number: int
    ) -> Iterator[str]:
        env = self._disposable(disposal)
        self._ground.wire.begin(number, Cut.CRASH)
        self._until_cut(env)
        self._ground.wire.begin()
        yield from _unless_complete(self._finish(env))
        yield from self._clean(env)

    def _dispose_half(self, number: int) -> Iterator[str]:
        env = self._ground.prepared()
        self._ground.wire.begin(number, Cut.CRASH)
        self._until_cut(env)
        self._ground.wire.begin()
        disposal = self._ground.compensation(env)
        yield from _unless_complete(self._finish(disposal))
        yield from self._clean(disposal)

    def _disposable(self, disposal: Callable[[ActivityEnvironment], ActivityEnvironment]) -> ActivityEnvironment:
        """A deployment that is done, and about to be disposed of."""
        env = self._ground.prepared()
        self._finish(env)
        self._ground.wire.begin()
        return disposal(env)

    def _clean(self, env: ActivityEnvironment) -> Iterator[str]:
        """What is left when all that came before has been disposed of, too."""
        self._ground.undo_preparation(env)
        yield from (f"left behind: {one}" for one in self._compared(self._ground.left(), self._nothing))

    # What all of them need

    def _finish(self, env: ActivityEnvironment) -> ActivityResult:
        """Run it, in a process of its own, to the end."""
        with self._ground.process() as agent:
            return self._ground.to_the_end(env, agent)

    def _until_cut(self, env: ActivityEnvironment) -> ActivityResult | None:
        """Run it until the wire is cut; None where that was a crash, after which nothing of the attempt is known.

        Raises:
            _Failed: it came to its end without the call at which the wire was to be cut.
        """
        with self._ground.process() as agent:
            for _ in range(MOST_ATTEMPTS):
                values, outputs, attempt = copy.deepcopy((env.values, env.outputs, env.attempt))
                result = env.run(agent)
                if self._ground.wire.is_crashed:
                    env.values, env.outputs, env.attempt = values, outputs, attempt
                    return None
                if self._ground.wire.is_cut:
                    return result
                if not isinstance(result, Schedule | Retry):
                    break
                self._ground.pause(result)
        raise _Failed("it did not come as far as in the first run, so its calls are not always the same")

    def _snapshot(self, env: ActivityEnvironment) -> _Snapshot:
        return _Snapshot(self._ground.recorded(env.outputs), self._ground.recorded(env.values), self._ground.held())

    def _differing(self, env: ActivityEnvironment) -> Iterator[str]:
        """How what is there now differs from what the first deploy has left."""
        return self._compared(self._snapshot(env).to_json(), self._deployed.to_json())

    def _compared(self, found: Any, expected: Any) -> Iterator[str]:
        for place, what in differences(found, expected):
            if self._ignore is None or not self._ignore.search(place):
                yield f"{place}: {what}"

    def _tidy(self, env: ActivityEnvironment) -> None:
        """Take away what a service of the author's would have in the next case."""
        if self._ground.services:
            self._finish(self._ground.compensation(env))


def _unless_at_rest(result: ActivityResult) -> list[str]:
    return [] if isinstance(result, Complete | Wait) else [_ended(result)]


def _unless_complete(result: ActivityResult) -> list[str]:
    return [] if isinstance(result, Complete) else [_ended(result)]


def _ended(result: ActivityResult) -> str:
    match result:
        case Fatal(reason=reason):
            return f"it failed: {reason}"
        case Retry(reason=reason):
            return f"it still wants to be tried again after {MOST_ATTEMPTS} attempts: {reason}"
        case Schedule():
            return f"it still wants to look again after {MOST_ATTEMPTS} attempts"
        case Wait(reason=reason):
            return f"it waits for somebody: {reason}"
    return str(result)
