"""All that the author of an agent uses: an activity is a class with ``deploy`` and ``dispose``, testable as it is.

@activity("acme.dns", timeout=timedelta(seconds=30))
class Dns:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output("dns.name", "acme.example")
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult: ...

assert ActivityEnvironment(values={}).run(Dns()) == Complete()

An agent that follows what happens elsewhere is made of functions: see ``lifecycle_function``.
"""

from cfm_core.agent.context import ActivityContext
from cfm_core.agent.declaration import activity
from cfm_core.agent.environment import ActivityEnvironment
from cfm_core.agent.lifecycle import lifecycle_function
from cfm_core.agent.results import ActivityResult, Complete, Fatal, Retry, Schedule, Wait
from cfm_core.eventing.cloudevents import CloudEvent

__all__ = [
    "ActivityContext",
    "ActivityEnvironment",
    "ActivityResult",
    "CloudEvent",
    "Complete",
    "Fatal",
    "Retry",
    "Schedule",
    "Wait",
    "activity",
    "lifecycle_function",
]
