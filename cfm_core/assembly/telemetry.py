"""Provides logs and traces: whoever serves functions asks for it once, functions keep to ``logging`` alone.

Logs go to standard error as JSON, one object a line. Traces cost nothing unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where
they go and the OpenTelemetry SDK is installed.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cfm_core import trace
from cfm_core.assembly.assembler import InitContext, ServiceAssembly
from cfm_core.assembly.service_type import ServiceType
from cfm_core.errors import FatalError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Telemetry:
    """The traces of this process."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextlib.contextmanager
    def span(self, name: str, attributes: Mapping[str, str | int | float | bool] | None = None) -> Iterator[None]:
        """Trace the block under ``name``."""
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield


TELEMETRY: ServiceType[Telemetry] = ServiceType("telemetry")


_logged: ContextVar[Mapping[str, str]] = ContextVar("logged", default=MappingProxyType({}))


@contextlib.contextmanager
def logged(**fields: str) -> Iterator[None]:
    """Add ``fields`` to every record that is logged in the block."""
    token = _logged.set({**_logged.get(), **fields})
    try:
        yield
    finally:
        _logged.reset(token)


def _add_logged(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    belongs_to = trace.headers().get("traceparent")
    return {**event, **_logged.get(), **({"traceparent": belongs_to} if belongs_to else {})}


def json_handler() -> logging.Handler:
    """A handler that writes each record as one line of JSON, with what it carries in ``extra``, what ``logged`` adds, and the
    ``traceparent`` of what is being done."""
    import structlog

    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
            ],
            foreign_pre_chain=[
                _add_logged,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
        )
    )
    return handler


class TelemetryAssembly(ServiceAssembly):
    """JSON logs at the level of ``CFM_LOG_LEVEL``, and a tracer."""

    name = "telemetry"
    provides = (TELEMETRY,)

    def __init__(self) -> None:
        self._handler: logging.Handler | None = None
        self._level = logging.WARNING
        self._provider: Any = None

    def init(self, context: InitContext) -> None:
        level = logging.getLevelNamesMapping().get(context.settings.log_level.upper())
        if level is None:
            raise FatalError(
                f"CFM_LOG_LEVEL is {context.settings.log_level!r}; it must be debug, info, warning or error"
            )
        from opentelemetry import trace as opentelemetry

        root = logging.getLogger()
        self._handler, self._level = json_handler(), root.level
        root.addHandler(self._handler)
        root.setLevel(level)
        self._provider = _exporting_provider()
        context.registry.register(
            TELEMETRY,
            Telemetry(
                opentelemetry.get_tracer("cfm", tracer_provider=self._provider or opentelemetry.get_tracer_provider())
            ),
        )

    def shutdown(self, context: InitContext) -> None:
        if self._provider is not None:
            self._provider.shutdown()
        if self._handler is not None:
            root = logging.getLogger()
            root.removeHandler(self._handler)
            root.setLevel(self._level)
            self._handler.close()


def _exporting_provider() -> Any:
    """What sends traces to the configured endpoint; None where there is none, or nothing to send them with."""
    if not os.environ.get(OTLP_ENDPOINT):
        return None
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp = importlib.import_module(exporter)
    except ModuleNotFoundError as error:
        log.warning("%s is set, but %s is not installed: there will be no traces", OTLP_ENDPOINT, error.name)
        return None
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return provider
