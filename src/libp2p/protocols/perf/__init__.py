"""Perf, `/perf/1.0.0`: how many bytes a second go to a peer and come back. Opt-in."""

from .service import PROTOCOL_ID, Direction, Perf, PerfConfig, PerfResult, Progress, measure

__all__ = ["PROTOCOL_ID", "Direction", "Perf", "PerfConfig", "PerfResult", "Progress", "measure"]
