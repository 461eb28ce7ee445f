"""All that the author of an activity agent uses: an activity is a class with ``deploy`` and ``dispose``, testable as it is.

@activity("acme.dns", timeout=timedelta(seconds=30))
class Dns:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output("dns.name", "acme.example")
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult: ...

assert ActivityEnvironment(values={}).run(Dns()) == Complete()
"""

from cfm_core.agent.context import ActivityContext
from cfm_core.agent.declaration import activity
from cfm_core.agent.environment import ActivityEnvironment
from cfm_core.agent.results import ActivityResult, Complete, Fatal, Retry, Schedule, Wait

__all__ = [
    "ActivityContext",
    "ActivityEnvironment",
    "ActivityResult",
    "Complete",
    "Fatal",
    "Retry",
    "Schedule",
    "Wait",
    "activity",
]
