from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cfm_core.assembly import AssemblyError, InitContext, ServiceAssembler, ServiceAssembly, ServiceType

A: ServiceType[str] = ServiceType("a")
B: ServiceType[str] = ServiceType("b")
C: ServiceType[str] = ServiceType("c")


class Recorded(ServiceAssembly):
    """Writes down each stage of its life; fails in the stages that it is told to fail in."""

    def __init__(
        self,
        name: str,
        journal: list[str],
        *,
        provides: Sequence[ServiceType[str]] = (),
        requires: Sequence[ServiceType[str]] = (),
        optional: Sequence[ServiceType[str]] = (),
        fails_in: str = "",
    ) -> None:
        self.name = name
        self.provides = provides
        self.requires = requires
        self.requires_optional = optional
        self._journal = journal
        self._fails_in = fails_in

    def init(self, context: InitContext) -> None:
        for key in self.requires:
            context.registry.resolve(key)
        self._note("init")
        for key in self.provides:
            context.registry.register(key, f"{key} of {self.name}")

    def prepare(self, context: InitContext) -> None:
        self._note("prepare")

    def start(self, context: InitContext) -> None:
        self._note("start")

    def finalize(self, context: InitContext) -> None:
        self._note("finalize")

    def shutdown(self, context: InitContext) -> None:
        self._note("shutdown")

    def _note(self, stage: str) -> None:
        self._journal.append(f"{self.name} {stage}")
        if stage == self._fails_in:
            raise ValueError("broken")


@pytest.fixture
def journal() -> list[str]:
    return []


def test_stages_run_in_dependency_order_and_back(journal: list[str]) -> None:
    assembler = ServiceAssembler(
        [Recorded("second", journal, provides=[B], requires=[A]), Recorded("first", journal, provides=[A])]
    )
    assembler.start_all()
    assembler.stop()
    assert journal == [
        *("first init", "second init", "first prepare", "second prepare", "first start", "second start"),
        *("second finalize", "first finalize", "second shutdown", "first shutdown"),
    ]


def test_only_what_is_needed_starts(journal: list[str]) -> None:
    assembler = ServiceAssembler(
        [
            Recorded("first", journal, provides=[A]),
            Recorded("second", journal, provides=[B], requires=[A]),
            Recorded("unneeded", journal, provides=[C]),
        ]
    )
    registry = assembler.ensure([B])
    assert registry.resolve(B) == "b of second"
    assert not [line for line in journal if line.startswith("unneeded")]


def test_what_runs_already_is_not_started_again(journal: list[str]) -> None:
    assembler = ServiceAssembler([Recorded("first", journal, provides=[A]), Recorded("second", journal, provides=[B])])
    assembler.ensure([A])
    assembler.ensure([A, B])
    assert journal.count("first init") == 1
    assert journal.count("second init") == 1


def test_threads_that_ask_at_once_start_it_once(journal: list[str]) -> None:
    assembler = ServiceAssembler([Recorded("first", journal, provides=[A])])
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: assembler.ensure([A]).resolve(A), range(8)))
    assert found == ["a of first"] * 8
    assert journal.count("first start") == 1


def test_an_optional_requirement_orders_where_it_is_provided(journal: list[str]) -> None:
    assembler = ServiceAssembler(
        [Recorded("second", journal, provides=[B], optional=[A]), Recorded("first", journal, provides=[A])]
    )
    assembler.ensure([B])
    assert journal[:2] == ["first init", "second init"]


def test_an_optional_requirement_may_have_no_provider(journal: list[str]) -> None:
    registry = ServiceAssembler([Recorded("only", journal, provides=[B], optional=[A])]).ensure([B])
    assert registry.resolve_optional(A) is None


def test_a_missing_provider_names_who_needs_what_before_anything_starts(journal: list[str]) -> None:
    with pytest.raises(AssemblyError, match="'second' requires a, which no assembly provides"):
        ServiceAssembler([Recorded("second", journal, provides=[B], requires=[A])])
    assert journal == []


def test_two_providers_of_one_service_are_both_named(journal: list[str]) -> None:
    with pytest.raises(AssemblyError, match="a is provided twice: by 'one' and by 'two'"):
        ServiceAssembler([Recorded("one", journal, provides=[A]), Recorded("two", journal, provides=[A])])


def test_two_assemblies_of_one_name_are_refused(journal: list[str]) -> None:
    with pytest.raises(AssemblyError, match="two assemblies are named 'one'"):
        ServiceAssembler([Recorded("one", journal, provides=[A]), Recorded("one", journal, provides=[B])])


def test_a_circle_names_its_assemblies_before_anything_starts(journal: list[str]) -> None:
    with pytest.raises(AssemblyError, match=r"circle: .*one -> .*two|circle: .*two -> .*one"):
        ServiceAssembler(
            [
                Recorded("one", journal, provides=[A], requires=[B]),
                Recorded("two", journal, provides=[B], requires=[A]),
            ]
        )
    assert journal == []


def test_asking_for_what_nobody_provides_says_so(journal: list[str]) -> None:
    with pytest.raises(AssemblyError, match="no assembly provides c"):
        ServiceAssembler([]).ensure([C])


@pytest.mark.parametrize("stage", ["init", "prepare", "start"])
def test_a_failing_stage_finalizes_what_had_begun(journal: list[str], stage: str) -> None:
    assembler = ServiceAssembler(
        [
            Recorded("first", journal, provides=[A]),
            Recorded("second", journal, provides=[B], requires=[A], fails_in=stage),
        ]
    )
    with pytest.raises(AssemblyError, match=f"'second' failed in {stage}: broken"):
        assembler.ensure([B])
    assert journal[-4:] == ["second finalize", "first finalize", "second shutdown", "first shutdown"]
    assert assembler.registry.resolve_optional(A) is None


def test_a_failed_start_leaves_earlier_ones_running_and_can_be_repeated(journal: list[str]) -> None:
    flaky = Recorded("second", journal, provides=[B], requires=[A], fails_in="start")
    assembler = ServiceAssembler([Recorded("first", journal, provides=[A]), flaky])
    assembler.ensure([A])
    with pytest.raises(AssemblyError):
        assembler.ensure([B])
    assert assembler.registry.resolve(A) == "a of first"
    flaky._fails_in = ""
    assert assembler.ensure([B]).resolve(B) == "b of second"


def test_an_assembly_that_forgets_to_register_is_named(journal: list[str]) -> None:
    class Forgetful(ServiceAssembly):
        name = "forgetful"
        provides = (A,)

    with pytest.raises(AssemblyError, match="'forgetful' provides a and has not registered it"):
        ServiceAssembler([Forgetful()]).ensure([A])


def test_one_that_fails_on_the_way_down_does_not_keep_the_others_up(journal: list[str]) -> None:
    assembler = ServiceAssembler(
        [
            Recorded("first", journal, provides=[A]),
            Recorded("second", journal, provides=[B], requires=[A], fails_in="finalize"),
        ]
    )
    assembler.start_all()
    with pytest.raises(AssemblyError, match="'second' failed in finalize"):
        assembler.stop()
    assert journal[-3:] == ["first finalize", "second shutdown", "first shutdown"]


def test_after_a_stop_everything_can_start_again(journal: list[str]) -> None:
    assembler = ServiceAssembler([Recorded("first", journal, provides=[A])])
    assembler.ensure([A])
    assembler.stop()
    assert assembler.ensure([A]).resolve(A) == "a of first"
    assert journal.count("first start") == 2


def test_keys_of_one_name_are_the_same_key() -> None:
    assert ServiceType("a") == A
    assert len({ServiceType("a"), A}) == 1
