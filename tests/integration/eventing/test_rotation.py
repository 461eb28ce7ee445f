"""The trigger's key is changed while it runs."""

from __future__ import annotations

from cfm_core.contracts import subjects
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import fine, serving, until
from tests.integration.eventing.test_delivery import Waking, an_event, put, rows
from tests.integration.eventing.test_refusals import result_target


def test_a_running_trigger_shows_the_new_key_from_the_next_delivery_on(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)])
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("before"))
        functions.wait(lambda: functions.ids("results") == {"before": 1})
        functions.event_key = "the-key-from-now-on"
        trigger.event_key.write_text("the-key-from-now-on\n")
        put(database, subjects.RESULTS, an_event("after"))
        functions.wait(lambda: functions.ids("results") == {"before": 1, "after": 1})
        until(lambda: rows(database) == 0)
        assert "does not accept" not in trigger.text()
        assert "the-key" not in trigger.text()


def test_without_its_key_a_trigger_keeps_what_it_has_and_delivers_once_the_key_is_back(
    start_trigger: StartTrigger, waking_database: Waking
) -> None:
    with serving({"results": fine}) as functions:
        trigger = start_trigger([result_target(functions)])
        key = trigger.event_key.read_text()
        trigger.event_key.unlink()
        trigger.wait_ready()
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("waits"))
        until(lambda: trigger.state()["targets"]["results"]["waiting"] + trigger.state()["rows"] > 0)
        assert functions.ids("results") == {}
        trigger.event_key.write_text(key)
        functions.wait(lambda: functions.ids("results") == {"waits": 1})
        until(lambda: rows(database) == 0)
