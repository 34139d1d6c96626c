"""Delegated routing over HTTP (`/routing/v1`), for who does not want to run a DHT. Needs the extra `http-routing`.

The service is in `server`, which is imported by itself.
"""

from .client import HttpRouter, HttpRoutingConfig

__all__ = ["HttpRouter", "HttpRoutingConfig"]
