"""Metrics for Prometheus. Needs the extra `metrics`."""

from .service import Metrics, MetricsConfig

__all__ = ["Metrics", "MetricsConfig"]
