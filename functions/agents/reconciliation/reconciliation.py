"""The agent that holds the dataspace services against our records.

Source: dataspace service contracts, sections 6, 7, 11.6 and 11.8 ("reconcile periodically").
"""

from __future__ import annotations

from datetime import timedelta

from cfm_core.agent import CloudEvent, lifecycle_function
from cfm_core.reconciliation.assembly import RECONCILIATION
from cfm_core.reconciliation.service import Reconciliation

RENEWAL_EVERY = timedelta(minutes=5)
REPORT_EVERY = timedelta(minutes=30)


@lifecycle_function(every=RENEWAL_EVERY, requires=[RECONCILIATION])
def renew_credentials(event: CloudEvent[None], reconciliation: Reconciliation) -> None:
    """Request credentials anew before they end. Two rounds at a time, or one after a crash, ask under the same ids."""
    reconciliation.renew(every=RENEWAL_EVERY, within=timedelta(seconds=30))


@lifecycle_function(every=REPORT_EVERY, requires=[RECONCILIATION], timeout=timedelta(seconds=150))
def report_differences(event: CloudEvent[None], reconciliation: Reconciliation) -> None:
    """Tell what is missing or superfluous in the services. Changes nothing; a crash loses what one round would have told."""
    reconciliation.report(every=REPORT_EVERY, within=timedelta(seconds=40))
