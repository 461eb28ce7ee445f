"""The benchmarks, with so little load that they say nothing but that they run."""

from __future__ import annotations

import json

from tests.support.command import cfm


def test_every_figure_is_there_as_one_json_object() -> None:
    done = cfm("bench", "--deployments", "16", "--seconds", "0.4")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["bareFunction"]["perSecond"] > 0
    assert figures["bareCommits"]["perSecond"] > 0
    assert figures["getTenantToBareFunction"] > 0
    assert figures["atRest"]["megabytes"] > 0
    for stack in ("withoutAuthentication", "withAuthentication"):
        assert figures[stack]["deploymentLatency"]["medianMs"] > 0
        assert figures[stack]["deploymentRate"]["active"] == 16
        assert figures[stack]["tenants"]["get"]["perSecond"] > 0
        assert figures[stack]["tenants"]["post"]["perSecond"] > 0
