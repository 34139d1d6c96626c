"""Protocols that a host speaks when it is asked to: each is an async context manager over a `Host`."""
