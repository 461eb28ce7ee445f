"""An agent that does nothing, so that a benchmark measures the fabric and not the work."""

from cfm_core.agent import ActivityContext, ActivityResult, Complete, activity


@activity("bench-noop")
class Noop:
    """Completes at once."""

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()

    def process(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()
