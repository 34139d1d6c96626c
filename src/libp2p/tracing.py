"""Traces through OpenTelemetry's API (`opentelemetry-api`, which the extra `tracing` brings).

    trace_spans()                       # by the provider that the program has set up

Each dial, handshake, opened stream and request is a span, `libp2p.dial` and so on, with the peer among its attributes;
what runs within it is below it. Without a provider OpenTelemetry does nothing, at a small cost; without `trace_spans`
there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .spans import End, watch

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider


def trace_spans(provider: TracerProvider | None = None) -> Callable[[], None]:
    """Trace all hosts of this process, to `provider` (None: OpenTelemetry's current one). Returns the function that
    ends this. Raises `ImportError` where OpenTelemetry is not installed.
    """
    from opentelemetry.trace import get_tracer  # noqa: PLC0415 - an extra

    return watch(_Spans(get_tracer("libp2p", tracer_provider=provider)))


class _Spans:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, name: str, attributes: Mapping[str, object]) -> End:
        from opentelemetry import context  # noqa: PLC0415
        from opentelemetry.trace import Status, StatusCode, set_span_in_context  # noqa: PLC0415

        told = {f"libp2p.{key}": str(value) for key, value in attributes.items() if value is not None}
        span = self._tracer.start_span(f"libp2p.{name}", attributes=told)
        token = context.attach(set_span_in_context(span))

        def end(error: BaseException | None) -> None:
            context.detach(token)
            if error is not None:
                span.set_status(Status(StatusCode.ERROR, str(error)))
                span.record_exception(error)
            span.end()

        return end
