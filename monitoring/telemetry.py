"""Spans and metrics of watched calls, by OpenTelemetry's conventions for generative AI (extra ``telemetry``).

Conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/. Of a call ``invoke_workflow NAME``, inside it
``chat MODEL`` for each call of an LM and ``execute_tool TOOL``; histograms ``gen_ai.client.operation.duration`` and
``gen_ai.client.token.usage``. They are made after the call, from what was recorded: what an LM's client traces by
itself stands beside them, under the same parent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from ..errors import ProgramError
from ..store.traces import Trace
from .recording import Call, Step

__all__ = ["Telemetry", "is_wanted"]

_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
# The buckets that the conventions ask for.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(float(4**power) for power in range(14))


def is_wanted() -> bool:
    """Tells whether the environment names where OTLP goes, and does not turn OpenTelemetry off."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not off and any(os.environ.get(name) for name in _ENDPOINTS)


Lose = Callable[[str, BaseException], None]


class Telemetry:
    """Makes spans and metrics of recorded calls.

    It uses the providers that the app has set; where it has set none, ones of its own, which export by OTLP over HTTP
    as the standard environment variables say (endpoint, headers, sampler, resource, interval).

    Args:
        lose: Is told what an exporter of its own could not send.

    Raises:
        ProgramError: OpenTelemetry's SDK or its exporter is missing.
    """

    def __init__(self, lose: Lose) -> None:
        try:
            from opentelemetry import context, metrics, trace
            from opentelemetry.exporter.otlp.proto.http import metric_exporter, trace_exporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ProgramError(f"telemetry needs {error.name}: pip install 'progspace[telemetry]'") from error
        self._own: list[Any] = []
        tracers: Any = trace.get_tracer_provider()
        if not isinstance(tracers, TracerProvider):
            tracers = TracerProvider(shutdown_on_exit=False)
            tracers.add_span_processor(BatchSpanProcessor(_telling(trace_exporter.OTLPSpanExporter(), lose)))
            self._own.append(tracers)
        meters: Any = metrics.get_meter_provider()
        if not isinstance(meters, MeterProvider):
            reader = PeriodicExportingMetricReader(_telling(metric_exporter.OTLPMetricExporter(), lose))
            meters = MeterProvider([reader], shutdown_on_exit=False)
            self._own.append(meters)
        if self._own:  # what they say at each attempt is told once, by `lose`
            logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.CRITICAL)
        self._context, self._trace = context, trace
        self._tracer = tracers.get_tracer("progspace")
        meter = meters.get_meter("progspace")
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Of operations.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Of LM calls.", explicit_bucket_boundaries_advisory=_TOKENS
        )

    def context(self) -> Any:
        """Gives OpenTelemetry's context of the caller, under which the spans stand."""
        return self._context.get_current()

    def tell(self, call: Call, trace: Trace) -> None:
        """Makes the spans and metrics of a call; no content."""
        about: dict[str, Any] = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": trace.name}
        failed = {} if call.error is None else {"error.type": type(call.error).__qualname__}
        told = {
            "progspace.trace.id": trace.id,
            "progspace.version": trace.version,
            "progspace.unreadable": trace.unreadable,
            "progspace.retries": trace.retries,
            "progspace.fallbacks": trace.fallbacks,
            "progspace.abstained": trace.abstained,
            "gen_ai.usage.input_tokens": trace.input_tokens,
            "gen_ai.usage.output_tokens": trace.output_tokens,
        }
        if trace.confidence is not None:
            told["progspace.confidence"] = trace.confidence
        told |= {f"progspace.signal.{name}": value for name, value in trace.signals.items()}
        span = self._tracer.start_span(
            f"invoke_workflow {trace.name}",
            context=call.context,
            attributes={**about, **told, **failed},
            start_time=call.began,
        )
        if failed:
            span.set_status(self._trace.StatusCode.ERROR)
        inside = self._trace.set_span_in_context(span, call.context)
        ended = call.began + int(call.seconds * 1e9)
        for step in list(call.steps):
            self._step(step, inside, ended)
        span.end(ended)
        self._seconds.record(call.seconds, {**about, **failed}, context=inside)

    def _step(self, step: Step, context: Any, ended: int) -> None:
        about: dict[str, Any] = {"gen_ai.operation.name": step.kind}
        kind = self._trace.SpanKind.INTERNAL
        if step.kind == "chat":
            provider, slash, model = step.name.partition("/")
            about |= {
                "gen_ai.provider.name": (slash and provider) or "unknown",
                "gen_ai.request.model": model or step.name,
            }
            kind = self._trace.SpanKind.CLIENT
        else:
            about["gen_ai.tool.name"] = step.name
        failed = {} if step.error is None else {"error.type": step.error}
        usage = {} if step.kind != "chat" else {
            "gen_ai.usage.input_tokens": step.input_tokens, "gen_ai.usage.output_tokens": step.output_tokens
        }  # fmt: skip
        name = f"{step.kind} {about.get('gen_ai.request.model', step.name)}"
        span = self._tracer.start_span(
            name, context=context, kind=kind, attributes={**about, **usage, **failed}, start_time=step.began
        )
        if failed:
            span.set_status(self._trace.StatusCode.ERROR)
        ended = step.ended or ended
        span.end(ended)
        self._seconds.record((ended - step.began) / 1e9, {**about, **failed}, context=context)
        if step.kind == "chat":
            for way, count in (("input", step.input_tokens), ("output", step.output_tokens)):
                self._tokens.record(count, {**about, "gen_ai.token.type": way}, context=context)

    def flush(self) -> None:
        """Sends what providers of its own hold.

        Raises:
            RuntimeError: They could not in five seconds.
        """
        late = [provider for provider in self._own if not provider.force_flush(5_000)]
        if late:
            raise RuntimeError("OTLP could not be exported in five seconds")

    def close(self) -> None:
        """Ends providers of its own."""
        own, self._own = self._own, []
        for provider in own:
            provider.shutdown()


def _telling(exporter: Any, lose: Lose) -> Any:
    """Lets an exporter tell what it could not send."""
    send = exporter.export

    def export(*given: Any, **settings: Any) -> Any:
        result = send(*given, **settings)
        if result.name != "SUCCESS":
            lose("telemetry", RuntimeError(f"OTLP could not be sent by {type(exporter).__name__}"))
        return result

    exporter.export = export
    return exporter
