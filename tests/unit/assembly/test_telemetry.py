from __future__ import annotations

import io
import json
import logging

import pytest

from cfm_core import trace
from cfm_core.assembly import AssemblyError, ServiceAssembler
from cfm_core.assembly.telemetry import OTLP_ENDPOINT, TELEMETRY, TelemetryAssembly, json_handler, logged
from cfm_core.settings import Settings


def test_a_record_is_one_line_of_json_with_what_it_carries() -> None:
    handler = json_handler()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text := io.StringIO())
    logger = logging.Logger("cfm.test")
    logger.addHandler(handler)
    try:
        raise ValueError("on fire")
    except ValueError:
        logger.exception("it failed: %s", "totally", extra={"orchestration_id": "o"})
    (line,) = text.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("timestamp")
    assert "ValueError: on fire" in record.pop("exception")
    assert record == {"message": "it failed: totally", "level": "error", "logger": "cfm.test", "orchestration_id": "o"}


def test_a_record_says_to_which_trace_it_belongs() -> None:
    handler = json_handler()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text := io.StringIO())
    logger = logging.Logger("cfm.test")
    logger.addHandler(handler)
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    with trace.within({"traceparent": parent, "tracestate": "v=1", "baggage": "name=ann"}), logged(request_id="r"):
        logger.error("inside")
    logger.error("outside")
    inside, outside = (json.loads(line) for line in text.getvalue().splitlines())
    assert {*inside} - {*outside} == {"traceparent", "request_id"}
    assert (inside["traceparent"], inside["request_id"]) == (parent, "r")


def test_the_root_logger_is_left_as_it_was_found() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    assembler = ServiceAssembler([TelemetryAssembly()], Settings(log_level="debug"))
    telemetry = assembler.ensure([TELEMETRY]).resolve(TELEMETRY)
    assert root.level == logging.DEBUG
    with telemetry.span("a block", {"activity": "x"}):
        pass
    assembler.stop()
    assert (list(root.handlers), root.level) == before


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(AssemblyError, match="CFM_LOG_LEVEL is 'loud'"):
        ServiceAssembler([TelemetryAssembly()], Settings(log_level="loud")).ensure([TELEMETRY])


def test_an_endpoint_without_the_sdk_is_said_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(OTLP_ENDPOINT, "http://127.0.0.1:4318")
    assembler = ServiceAssembler([TelemetryAssembly()], Settings())
    assembler.ensure([TELEMETRY])
    assembler.stop()
    assert "is not installed: there will be no traces" in caplog.text
