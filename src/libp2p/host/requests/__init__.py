"""Requests and answers over streams: `Host.request`, `Host.call` and `Host.respond` (see `service.py`)."""

from .client import Call
from .server import Request, Responder
from .service import Requests, RequestsConfig

__all__ = ["Call", "Request", "Requests", "RequestsConfig", "Responder"]
