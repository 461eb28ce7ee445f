"""Keys under which services are found."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T", covariant=True)


class ServiceType(Generic[T]):
    """A key for one kind of service; ``T`` is what the registry gives for it.

    Two keys are the same when their names are, so that a module which is executed twice (functions-framework loads a
    function's file under a name of its own) still means the same service.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServiceType) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name
