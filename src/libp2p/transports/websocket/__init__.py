"""The WebSocket transport, `/ip4/.../tcp/N/ws`, `.../tls/ws`, `.../wss` and `.../tls/sni/<name>/ws`."""

from .transport import WebSocket, WebSocketConfig, certificate_context

__all__ = ["WebSocket", "WebSocketConfig", "certificate_context"]
